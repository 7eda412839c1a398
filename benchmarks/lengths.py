"""How long the rows of a batch are: all the same, spread evenly, or as long as film reviews are.

Letters: B rows, T steps, K batches.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from unspool.comparison import spread_lengths as spread_lengths


def reviews(steps: int, batch: int, batches: int) -> Tensor:
    """Return `[K, B]`: the lengths of IMDB reviews drawn at random, always the same ones, cut to T.

    Parameters
    ----------
    steps, batch, batches : int
        T, B and K.
    """
    known = review_lengths(_reviews_file())
    drawn = np.random.default_rng(0).choice(len(known), (batches, batch), replace=False)
    return torch.tensor(known)[torch.from_numpy(drawn)].clamp(1, steps)


def reviews_missing() -> str:
    """Return why there are no lengths of reviews; empty if there are."""
    if "UNSPOOL_DATA_DIR" not in os.environ:
        return "UNSPOOL_DATA_DIR names no directory of data sets"
    return "" if _reviews_file().is_file() else f"{_reviews_file()} is not there"


def _reviews_file() -> Path:
    return Path(os.environ["UNSPOOL_DATA_DIR"]) / "imdb" / "imdb.npz"


@cache
def review_lengths(path: Path) -> list[int]:
    """Read the lengths of the training reviews in Keras's `imdb.npz`.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        If the file does not hold a list of lists.
    pickle.UnpicklingError
        If its pickle wants anything but lists, numbers and one array of objects.
    """
    with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as file:
        if npy.read_magic(file) != (1, 0) or not npy.read_array_header_1_0(file)[2].hasobject:
            raise ValueError(f"{path}: x_train is not an array of objects; expected Keras's imdb.npz.")
        array = ListUnpickler(file).load()
    items = array.items if isinstance(array, _Array) else None
    if not isinstance(items, list) or not all(isinstance(item, list) for item in items):
        raise ValueError(f"{path}: x_train holds {type(items).__name__}; expected a list of lists.")
    return [len(item) for item in items]


class _Array:
    """Stands for an array of objects in a pickle, and keeps its list."""

    items: Any = None

    def __setstate__(self, state: Any) -> None:
        self.items = state[-1] if isinstance(state, tuple) and state else None


class _Dtype:
    """Stands for a dtype in a pickle."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


class _Ndarray:
    """Stands for the class `numpy.ndarray` in a pickle."""


def _make_array(*_: Any) -> _Array:
    return _Array()


def _make_dtype(*_: Any) -> _Dtype:
    return _Dtype()


class ListUnpickler(pickle.Unpickler):
    """Reads a pickled array of lists of numbers. NumPy's constructors have harmless stand-ins; no other name is known.

    Parameters
    ----------
    file : file object
        Opened for reading bytes.
    """

    ADMITTED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _make_array,
        ("numpy._core.multiarray", "_reconstruct"): _make_array,
        ("numpy", "ndarray"): _Ndarray,
        ("numpy", "dtype"): _make_dtype,
    }  # fmt: skip

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in for a global of the pickle, or refuse it."""
        if (module_name, global_name) not in self.ADMITTED:
            raise pickle.UnpicklingError(
                f"the pickle wants {module_name}.{global_name}; expected lists and numbers only. Is it the right file?"
            )
        return self.ADMITTED[module_name, global_name]
