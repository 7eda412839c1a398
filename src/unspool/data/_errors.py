class DataError(ValueError):
    """A file, a directory or an array cannot be used as data; the message says what was received and expected."""
