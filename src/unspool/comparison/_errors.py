"""What users of the comparison can get wrong."""


class ComparisonError(RuntimeError):
    """A comparison cannot be made or read as asked; the message says what to do.

    Raised by `compare`, `Settings` and whoever reads or writes their files. What a contender does wrong is no error: it
    stands in the comparison with its reason.
    """
