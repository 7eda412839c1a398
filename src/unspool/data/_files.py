"""Sequences from files: `.npy`, `.npz`, `.csv` and `.jsonl`."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from unspool._reading import damage_as, parsed_json, read_array, read_arrays, reason_of
from unspool.data._bytes import read_text
from unspool.data._errors import DataError
from unspool.data._idx import read_idx
from unspool.data._ts import read_ts


def read_sequences(path: str | Path) -> list[Tensor]:
    """Read sequences from a file, in the format given by its extension.

    Parameters
    ----------
    path : str or Path
        ``.ts`` (UEA archive), ``.npy`` (one (T, C) or (N, T, C) array), ``.npz`` (one (T, C) array per sequence),
        ``.csv`` (one sequence, a row per step, with or without a header), ``.jsonl`` (one sequence a line: a list
        of steps, or an object whose ``sequence`` is one), or an IDX file of images (``.gz``, ``-ubyte``, ``.idx``),
        whose rows are the steps.

    Returns
    -------
    list of Tensor of shape (T, C)
        The sequences: uint8 if the file holds bytes, else float32.

    Raises
    ------
    DataError
        If the file does not exist, its extension is unknown, or its content is not sequences of numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    for ending, read in _READERS.items():
        if path.name.lower().endswith(ending):
            return _tensors(read(path), path)
    raise DataError(f"{path}: unknown kind of file; expected a name that ends in {', '.join(_READERS)}")


def _tensors(arrays: list[np.ndarray], path: Path) -> list[Tensor]:
    if not arrays:
        raise DataError(f"{path}: no sequences; expected at least one")
    sequences = []
    for index, array in enumerate(arrays):
        if array.ndim != 2 or 0 in array.shape:
            raise DataError(
                f"{path}: sequence {index} has shape {array.shape}; expected (steps, channels), at least one of each"
            )
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: sequence {index} holds {array.dtype}; expected numbers")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            values = array if array.dtype == np.uint8 else array.astype(np.float32)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(f"{path}: sequence {index} holds values that are not finite in 32 bits; expected numbers")
        sequences.append(torch.from_numpy(values))
    return sequences


def _split(array: np.ndarray, path: Path) -> list[np.ndarray]:
    if array.ndim == 2:
        return [array]
    if array.ndim == 3 and 0 not in array.shape:  # a list of an array without numbers may be as long as it says
        return list(array)
    raise DataError(
        f"{path}: an array of shape {array.shape}; expected (steps, channels) or (sequences, steps, channels), at "
        "least one of each"
    )


def _read_npy(path: Path) -> list[np.ndarray]:
    with _opened(path) as file, damage_as(DataError, f"{path}: no NumPy array of numbers"):
        if file.read(4) == b"PK\3\4":
            raise DataError(f"{path}: an archive of several arrays; expected one array (name it .npz)")
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        array = read_array(file, size)
    return _split(array, path)


def _read_npz(path: Path) -> list[np.ndarray]:
    with _opened(path) as file, damage_as(DataError, f"{path}: no NumPy archive of arrays of numbers"):
        return list(read_arrays(file).values())


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv(path: Path) -> list[np.ndarray]:
    lines = io.StringIO(read_text(path), newline="")
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(lines), start=1) if row]
    except csv.Error as error:
        raise DataError(f"{path}: no table of numbers separated by commas ({error})") from error
    if rows and not any(_is_number(field) for field in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise DataError(f"{path}: no rows of numbers; expected one row per step")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise DataError(f"{path}, line {number}: {len(row)} fields; expected {width}, as in the first row")
        for field in row:
            if not _is_number(field):
                raise DataError(f"{path}, line {number}: {field!r}; expected a number")
    return [np.array([[float(field) for field in row] for _, row in rows])]


def _read_jsonl(path: Path) -> list[np.ndarray]:
    sequences = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = parsed_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON ({reason_of(error)})") from error
        if isinstance(value, dict):
            value = value.get("sequence")
        expected = f"{path}, line {number}: expected a list of steps, each a list of equally many numbers"
        with damage_as(DataError, expected):
            array = np.array(value, dtype=np.float64)
        if array.ndim != 2:
            raise DataError(
                f'{path}, line {number}: expected a list of steps, or {{"sequence": [steps]}}; each step is a list'
            )
        sequences.append(array)
    return sequences


_READERS: dict[str, Callable[[Path], list[np.ndarray]]] = {
    ".ts": lambda path: read_ts(path)[0],
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".gz": lambda path: _split(read_idx(path), path),
    "-ubyte": lambda path: _split(read_idx(path), path),
    ".idx": lambda path: _split(read_idx(path), path),
}
