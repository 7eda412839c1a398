"""Find the files of a data set: in a directory that the user names, else in the cache, else by download."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unspool.data._data_dir import cache_folder, find_data_dir
from unspool.data._download import download
from unspool.data._errors import MissingDataError


class Address(NamedTuple):
    """Where one file is published, and its checksum.

    `mirrors` are addresses that end in ``/``, tried in order; `checksum` is that of the file as served, after the name
    of the algorithm and a colon. Without a checksum, nothing is downloaded.
    """

    mirrors: Sequence[str]
    checksum: str | None


class Wanted(NamedTuple):
    """What to look for.

    `called` is the data set's name in errors, `folder` its folder in a directory of data sets,
    `names` are alternative names of files or directories, the best first, `source` says where to get it, and `address`
    is the download of the first of `names`, if there is one.
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
        A directory with the data set or with its folder; ``UNSPOOL_DATA_DIR`` by default. If either is given, nothing
        else is searched.
    cache_dir : str or Path, optional
        The cache; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Raises
    ------
    MissingDataError
        If there is none, and it cannot be downloaded.
    DataError
        If a download needs pooch, which is not installed, or cannot be stored.
    """
    directory = find_data_dir(data_dir)
    cache = cache_folder(cache_dir, wanted.folder)
    places = [cache] if directory is None else [directory / wanted.folder, directory]
    candidates = [place / name for name in wanted.names for place in places]
    for path in candidates:
        if path.exists():
            return path
    expected = " or ".join(map(str, candidates))
    name_it = "with data_dir (--data-dir) or UNSPOOL_DATA_DIR"
    if directory is not None:
        raise MissingDataError(
            f"no {wanted.called} in {directory}: expected {expected}.\n"
            f"{wanted.source}; name the right directory {name_it}, or neither to use the cache"
            f"{'' if wanted.address is None else ' or download'}"
        )
    if wanted.address is None:
        raise MissingDataError(
            f"no directory with {wanted.called} was named, and the cache has none: expected {expected}.\n"
            f"It is not downloaded. {wanted.source}; put it there, or name a directory that has it {name_it}"
        )
    if wanted.address.checksum is None:
        raise MissingDataError(f"{expected}: no such file, and without a checksum to expect nothing is downloaded")
    return download(
        wanted.names[0],
        cache,
        wanted.address.mirrors,
        known_hash=wanted.address.checksum,
        called=wanted.called,
    )
