"""Errors about data."""


class DataError(ValueError):
    """A file, a directory or an array cannot be used as data; the message says what was received and expected.

    It names the file, and the line or row if there is one. Fix that, or name another file.
    """


class MissingDataError(DataError):
    """Data were not found and cannot be downloaded; the message says where they are published.

    Raised by the loaders of data sets that are not included in the package. Name a directory that has them with
    `data_dir` or ``UNSPOOL_DATA_DIR``.
    """
