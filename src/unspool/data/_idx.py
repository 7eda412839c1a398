"""Files in the IDX format, which is MNIST's."""

import math
from pathlib import Path

import numpy as np

from unspool._reading import damage_as
from unspool.data._bytes import read_bytes
from unspool.data._errors import DataError

_DTYPES = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def parse_idx(content: bytes, path: Path) -> np.ndarray:
    """Return the array that an IDX file holds, in the machine's byte order.

    Parameters
    ----------
    content : bytes
        The file's uncompressed bytes.
    path : Path
        What errors call the file.

    Raises
    ------
    DataError
        If the content does not start like an IDX file, or is shorter or longer than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES or content[3] == 0:
        raise DataError(
            f"{path}: starts with the bytes {content[:4].hex(' ') or '(none)'}; "
            "an IDX file starts with 00 00, a type code from 08 to 0e and the number of dimensions"
        )
    dtype, ndim = _DTYPES[content[2]], content[3]
    header = 4 + 4 * ndim
    if len(content) < header:
        raise DataError(f"{path}: {len(content)} bytes; expected at least {header} for the header of an IDX file")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path}: {what}: {len(content)} bytes; expected {expected} for an array of shape {shape}")
    with damage_as(DataError, f"{path}: no array"):
        return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, the format of MNIST, compressed with gzip or not.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    numpy.ndarray
        The array, of the shape and type that the file states.

    Raises
    ------
    DataError
        If the file is damaged or no IDX file; the message names it, what was received and what is expected.
    """
    path = Path(path)
    return parse_idx(read_bytes(path), path)
