class DataError(ValueError):
    """A file, a directory or an array cannot be used as data; the message says what was received and expected."""


class MissingDataError(DataError):
    """Data are not where they were looked for, and cannot be downloaded."""
