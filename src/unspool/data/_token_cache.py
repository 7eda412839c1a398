"""Store texts as arrays of numbers in a folder, without pickles, and map them from there."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unspool._reading import damage_as
from unspool.data._errors import DataError


class TokenArrays(NamedTuple):
    """``tokens`` (N,) int32, all texts' numbers; ``offsets`` (R + 1,) int64, their starts; ``labels`` (R,) int64."""

    tokens: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray


def keep(parts: Mapping[str, TokenArrays], folder: Path, *, called: str) -> None:
    """Write arrays into a folder, which appears whole or not at all.

    Parameters
    ----------
    parts : mapping of str to TokenArrays
        The arrays to keep, by the name of their part.
    folder : Path
        The folder. Its name must follow from the content, because an existing folder is left as it is.
    called : str
        Name of the data in errors.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    made = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        made.chmod(0o755)  # a temporary folder is for its owner alone; a cache may be shared
        for part, arrays in parts.items():
            for name, array in arrays._asdict().items():
                np.save(made / f"{part}_{name}.npy", array, allow_pickle=False)
        try:
            made.rename(folder)
        except OSError:
            # Another process was first; its arrays are these, since the folder's name follows from the content.
            if not folder.is_dir():
                raise
    except OSError as error:
        raise DataError(
            f"cannot keep {called} in {folder.parent}: {error}.\nName another cache with UNSPOOL_CACHE_DIR"
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def map_arrays(folder: Path, part: str) -> TokenArrays:
    """Return what `keep` wrote, the tokens mapped from their file.

    Parameters
    ----------
    folder : Path
        The folder that `keep` wrote.
    part : str
        The name of the part.

    Raises
    ------
    DataError
        If an array is missing, damaged or of another type, or they do not fit each other.
    """
    with damage_as(DataError, f"{folder}: damaged cache", "remove this folder, it will be made again"):
        tokens = np.load(folder / f"{part}_tokens.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / f"{part}_offsets.npy", allow_pickle=False)
        labels = np.load(folder / f"{part}_labels.npy", allow_pickle=False)
        if tokens.dtype != np.int32 or offsets.dtype != np.int64 or labels.dtype != np.int64:
            raise ValueError(f"arrays of {tokens.dtype}, {offsets.dtype} and {labels.dtype}")
        if len(offsets) != len(labels) + 1 or offsets[-1] != len(tokens):
            raise ValueError(f"{len(tokens)} tokens, {len(offsets)} offsets and {len(labels)} labels")
    return TokenArrays(tokens, offsets, labels)
