"""What users of the comparison can get wrong."""


class ComparisonError(RuntimeError):
    """A comparison cannot be made or read as asked; the message says what to do."""
