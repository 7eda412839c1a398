"""What users of the recipes can get wrong."""


class RunError(RuntimeError):
    """A run cannot be started, continued or read as asked; the message says what to do."""
