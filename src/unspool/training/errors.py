"""What users of the recipes can get wrong."""


class RunError(RuntimeError):
    """A run cannot be started, continued or read as asked; the message says what to do.

    Raised by `fit`, `evaluate`, `predict`, `generate` and the reports of runs: a directory that holds another run,
    other settings than those of the run that is resumed, a file that is no checkpoint.
    """
