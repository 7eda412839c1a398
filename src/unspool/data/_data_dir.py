"""Data sets in a directory that the user names."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ._errors import MissingDataError

VARIABLE = "UNSPOOL_DATA_DIR"


def find_data_dir(data_dir: str | Path | None) -> Path | None:
    """Return the directory of data sets that the user names: an argument, else ``UNSPOOL_DATA_DIR``, else None.

    Parameters
    ----------
    data_dir : str, Path or None
        The argument.
    """
    named = data_dir if data_dir is not None else os.environ.get(VARIABLE) or None
    return None if named is None else Path(named).expanduser()


def first_file(directories: Iterable[Path], names: Sequence[str]) -> Path | None:
    """Return the first file of one of the names in one of the directories, or None.

    Parameters
    ----------
    directories : iterable of Path
        Looked through in order.
    names : sequence of str
        Looked for in each directory, in order.
    """
    for directory in directories:
        for name in names:
            path = directory / name
            if path.is_file():
                return path
    return None


def find_in_data_dir(called: str, folder: str, names: Sequence[str], data_dir: str | Path | None) -> Path | None:
    """Find a file of a data set in the directory that the user names, or return None where none is named.

    Parameters
    ----------
    called : str
        What errors call the data set.
    folder : str
        The data set's folder in the directory; its files may also lie in the directory itself.
    names : sequence of str
        The names that the file may have.
    data_dir : str, Path or None
        As in `find_data_dir`.

    Raises
    ------
    MissingDataError
        If a directory is named and has no such file.
    """
    directory = find_data_dir(data_dir)
    if directory is None:
        return None
    found = first_file((directory / folder, directory), names)
    if found is None:
        raise MissingDataError(
            f"no {called} in {directory}: expected {directory / folder / names[0]} or {directory / names[0]}.\n"
            f"Name the right directory with --data-dir or {VARIABLE}, or neither to use the cache or download"
        )
    return found
