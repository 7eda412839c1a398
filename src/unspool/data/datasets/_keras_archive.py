"""Keras's archive of IMDB reviews, read without trusting it.

Its arrays of lists are pickles, and a pickle can name any function to be called on loading. Here, the few names that an
array of lists needs are replaced by delegates that do nothing, and any other name is refused before anything is called.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from unspool._reading import damage_as, open_archive, read_array
from unspool.data._errors import DataError
from unspool.data._token_cache import TokenArrays


def read_archive(path: Path, split: str) -> TokenArrays:
    """Read one split of an archive in the layout of Keras's ``imdb.npz``.

    Parameters
    ----------
    path : Path
        The archive: ``x_{split}``, lists of word ranks from 1, and ``y_{split}``, their labels, 0 or 1.
    split : str
        "train" or "test".

    Raises
    ------
    DataError
        If the archive is damaged or has another layout, its pickle needs anything but lists of integers, a review is
        empty, or a rank or a label is out of range.
    """
    with (
        damage_as(DataError, f"{path}: damaged or truncated archive", "fetch the file again"),
        path.open("rb") as file,
        open_archive(file) as archive,
    ):
        # Whole members, because a checksum in the archive is compared at the end of its member only.
        try:
            content, labels = archive.read(f"x_{split}.npy"), archive.read(f"y_{split}.npy")
        except KeyError as error:
            raise DataError(f"{path}: no {split} reviews in it ({error}); expected Keras's imdb.npz") from error
    return _reviews(_lists(content, path, split), _labels(labels, path, split), path, split, len(content))


def _lists(content: bytes, path: Path, split: str) -> list[Any]:
    file = io.BytesIO(content)
    array, shape, dtype = None, (), np.dtype(np.void)
    with damage_as(DataError, f"{path}: x_{split} is no array of lists of whole numbers"):
        version = npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
        if dtype.hasobject and len(shape) == 1:
            array = ListUnpickler(file).load()
    if not dtype.hasobject or len(shape) != 1:
        raise DataError(f"{path}: x_{split} is of type {dtype} and shape {shape}; expected a row of lists")
    items = array.items if isinstance(array, _Array) else None
    if not isinstance(items, list):
        raise DataError(f"{path}: x_{split} holds {type(array).__name__}; expected an array of lists")
    if len(items) != shape[0]:
        raise DataError(f"{path}: x_{split} holds {len(items)} reviews; its header says {shape[0]}")
    return items


def _labels(content: bytes, path: Path, split: str) -> np.ndarray:
    with damage_as(DataError, f"{path}: y_{split} is no array of numbers"):
        labels = read_array(io.BytesIO(content), len(content))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: y_{split} has shape {labels.shape} and type {labels.dtype}; expected whole numbers")
    return labels.astype(np.int64)


def _reviews(items: list[Any], labels: np.ndarray, path: Path, split: str, size: int) -> TokenArrays:
    if len(items) != len(labels) or not items:
        raise DataError(f"{path}: {len(items)} {split} reviews and {len(labels)} labels; expected one label each")
    wrong = np.flatnonzero((labels < 0) | (labels > 1))
    if len(wrong):
        raise DataError(f"{path}: {split} review {wrong[0]} has the label {labels[wrong[0]]}; expected 0 to 1")
    for index, review in enumerate(items):
        if not isinstance(review, list) or not review:
            what = "empty" if review == [] else f"a {type(review).__name__}"
            raise DataError(f"{path}: {split} review {index} is {what}; expected a list of word ranks, at least one")
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum([len(review) for review in items], out=offsets[1:])
    # A pickle can name one list many times; written out, a small file would then fill the memory.
    if offsets[-1] > size:
        raise DataError(f"{path}: {offsets[-1]} words in {size} bytes of {split} reviews; expected a byte for each")
    tokens = np.empty(offsets[-1], np.int32)
    for index, review in enumerate(items):
        if not all(type(rank) is int and 1 <= rank < 2**31 for rank in review):
            raise DataError(f"{path}: {split} review {index} holds more than word ranks; expected numbers from 1")
        tokens[offsets[index] : offsets[index + 1]] = review
    return TokenArrays(tokens, offsets, labels)


class _Array:
    """The delegate of an array or a dtype in a pickle. An array of objects keeps its list."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: Any = None

    def __setstate__(self, state: Any) -> None:
        self.items = state[-1] if isinstance(state, tuple) and state else None


class _Name:
    """The delegate of a class or function in a pickle: calling it makes a delegate; nothing can be set on it."""

    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"the pickle sets a state ({type(state).__name__}) where an array has none")


class ListUnpickler(pickle.Unpickler):
    """Read a pickled array of lists of numbers; the only known names are those of NumPy's array constructors.

    Parameters
    ----------
    file : file object
        Opened for reading bytes.
    """

    ADMITTED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., _Array]:
        """Return a delegate for a name in the pickle, or refuse it.

        Parameters
        ----------
        module_name, global_name : str
            The name in the pickle.

        Raises
        ------
        pickle.UnpicklingError
            If an array of lists does not need it.
        """
        if (module_name, global_name) not in self.ADMITTED:
            raise pickle.UnpicklingError(
                f"the pickle wants {module_name}.{global_name}, which no list of numbers needs: do not trust this file"
            )
        return _Name()
