"""Errors about data."""


class DataError(ValueError):
    """A file, a directory or an array cannot be used as data; the message says what was received and expected.

    It names the file, and the line or row where there is one. Mend that, or name another file.
    """


class MissingDataError(DataError):
    """Data are not where they were looked for, and cannot be downloaded; the message says where they are published.

    Raised by the loaders of data sets that the package does not ship. Name a directory that has them, by `data_dir` or
    ``UNSPOOL_DATA_DIR``.
    """
