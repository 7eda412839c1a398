"""Where the files of a data set are: a directory that is named, else the cache, else a download into it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .._data_dir import find_data_dir
from .._download import default_cache_dir, download
from .._errors import DataError


class Address(NamedTuple):
    """Where one file is published: an address that ends in ``/``, and the file's sha256."""

    base: str
    sha256: str


class Wanted(NamedTuple):
    """What is looked for.

    `called` is the data set's name in errors, `folder` its folder in a directory of data sets, `names` are names of
    files or directories of which one is enough, `source` says where people get it, and `address` where the first of
    `names` is downloaded from, if anywhere.
    """

    called: str
    folder: str
    names: Sequence[str]
    source: str
    address: Address | None = None


def find(wanted: Wanted, data_dir: str | Path | None, cache_dir: str | Path | None) -> Path:
    """Return the path of one of the wanted files or directories.

    Parameters
    ----------
    wanted : Wanted
        What is looked for.
    data_dir : str or Path, optional
        A directory with the data set or with its folder; ``UNSPOOL_DATA_DIR`` by default. Where there is either,
        nothing else is looked at.
    cache_dir : str or Path, optional
        The cache; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Raises
    ------
    DataError
        If there is none, and none can be downloaded.
    """
    directory = find_data_dir(data_dir)
    if directory is not None:
        places = [directory / wanted.folder, directory]
    else:
        cache = (Path(cache_dir) if cache_dir is not None else default_cache_dir()).expanduser() / wanted.folder
        places = [cache]
    candidates = [place / name for place in places for name in wanted.names]
    for path in candidates:
        if path.exists():
            return path
    if directory is not None:
        raise DataError(
            f"no {wanted.called} in {directory}: expected {' or '.join(map(str, candidates))}.\n"
            f"{wanted.source}; name the right directory with data_dir or UNSPOOL_DATA_DIR"
        )
    if wanted.address is None:
        raise DataError(
            f"no directory with {wanted.called} was named, and the cache has none: expected "
            f"{' or '.join(map(str, candidates))}.\n"
            f"It cannot be downloaded as one file. {wanted.source}; put it there, or name a directory that has it "
            "with data_dir or UNSPOOL_DATA_DIR"
        )
    return download(
        wanted.names[0],
        places[0],
        [wanted.address.base],
        known_hash=f"sha256:{wanted.address.sha256}",
        called=wanted.called,
        files=wanted.names[0],
    )
