"""Directories of data sets: one that the user names, and the cache."""

import os
from pathlib import Path


def find_data_dir(data_dir: str | Path | None) -> Path | None:
    """Return the directory of data sets that the user names: an argument, else ``UNSPOOL_DATA_DIR``, else None.

    Parameters
    ----------
    data_dir : str, Path or None
        The argument.
    """
    named = data_dir if data_dir is not None else os.environ.get("UNSPOOL_DATA_DIR") or None
    return None if named is None else Path(named).expanduser()


def cache_folder(cache_dir: str | Path | None, folder: str) -> Path:
    """Return a folder of the cache: that of an argument, else of `default_cache_dir`.

    Parameters
    ----------
    cache_dir : str, Path or None
        The argument.
    folder : str
        The folder's name.
    """
    return (Path(cache_dir) if cache_dir is not None else default_cache_dir()).expanduser() / folder


def default_cache_dir() -> Path:
    """Return the directory for downloads: ``UNSPOOL_CACHE_DIR``, else the user's cache directory."""
    named = os.environ.get("UNSPOOL_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "unspool"
