"""Files that somebody else may have written: one boundary for what is damaged, one bound for what is packed.

Every reader of files stands on this module. What a format's library raises for bytes that it does not understand is
nearly anything, so readers do not list it: what they read within `damage_as` either is read or ends in their one
documented error.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import math
import reprlib
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

FREE_BYTES = 64 << 20
RATIO = 64
"""What is packed may come out as large as `FREE_BYTES`, or as so many times its size, whichever is more."""
GZIP, XZ = b"\x1f\x8b", b"\xfd7zXZ\0"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Rust's libraries end a call that they did not expect with this, which is no Exception.
_PANIC = "PanicException"


class TooLargeError(ValueError):
    """A file says of its content that it is larger than such a file may be; nothing of that size was made."""


@contextmanager
def damage_as(
    error: type[Exception], message: str, remedy: str = "", *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn whatever reading a file raises into one error, within a block that reads and does nothing else.

    Parameters
    ----------
    error : type
        The documented error of the reader. Those of its kind pass as they are, but for ValueError, which everybody
        raises.
    message : str
        What is wrong with which file; the reason is put behind it, in brackets.
    remedy : str
        What stands behind that: what to do.
    passing : tuple of type
        Other errors that the reader documents.
    """
    own = passing if error is ValueError else (error, *passing)
    try:
        yield
    except own:
        raise
    except BaseException as cause:
        if not isinstance(cause, Exception) and type(cause).__name__ != _PANIC:
            raise
        raise error(f"{message} ({reason_of(cause)}){f'; {remedy}' if remedy else ''}") from cause


def parsed_json(text: str | bytes) -> Any:
    """Return what a JSON text holds, where its whole numbers are numbers that computers have.

    Parameters
    ----------
    text : str or bytes

    Raises
    ------
    ValueError
        If it is no JSON, or holds a whole number of more than 64 bits, which no float can become.
    """
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int:
    number = int(digits)
    if number.bit_length() > 64:
        raise ValueError(f"the number {digits[:20]}... has {len(digits)} digits; expected one of at most 64 bits")
    return number


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long.

    Parameters
    ----------
    error : BaseException
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    said = " ".join(str(error).split())
    if isinstance(error, KeyError):
        said = f"there is no {said}"
    said = said if len(said) <= 300 else f"{said[:299]}…"
    return said or type(error).__name__


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2


def brief(value: object) -> str:
    """Return what a value from a file is, for a message: short, also where it is large or holds itself.

    Parameters
    ----------
    value : object
    """
    return _BRIEF.repr(value)


def largest_unpacked(packed: int) -> int:
    """Return how many bytes may come out of so many packed ones.

    Parameters
    ----------
    packed : int
    """
    return max(FREE_BYTES, RATIO * packed)


def check_unpacked(unpacked: int, packed: int) -> None:
    """Refuse content that is out of all proportion to the file that holds it.

    Parameters
    ----------
    unpacked : int
        The bytes that it says it has.
    packed : int
        Those of the file.

    Raises
    ------
    TooLargeError
        If it is more than `largest_unpacked`.
    """
    if unpacked > largest_unpacked(packed):
        raise TooLargeError(
            f"{unpacked:,} bytes in a file of {packed:,}; expected at most {RATIO} times as many, or {FREE_BYTES:,}. "
            "If you trust the file, write its content anew without compression"
        )


def unpack(raw: bytes) -> bytes:
    """Return what a gzip or an xz stream holds; other bytes as they are.

    Parameters
    ----------
    raw : bytes

    Raises
    ------
    TooLargeError
        If more comes out than `largest_unpacked` of its size; no more than that has been unpacked then.
    EOFError, OSError, zlib.error, lzma.LZMAError
        If the stream is damaged: call it within `damage_as`.
    """
    if not raw.startswith((GZIP, XZ)):
        return raw
    opened = gzip.open if raw.startswith(GZIP) else lzma.open
    with opened(io.BytesIO(raw)) as stream:
        content = stream.read(largest_unpacked(len(raw)) + 1)
    check_unpacked(len(content), len(raw))
    return content


@contextmanager
def open_archive(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members may be read whole: all of them together are within the bound.

    Parameters
    ----------
    file : file object
        Opened for reading bytes.

    Raises
    ------
    TooLargeError
        If they are not.
    ValueError
        If a member is packed in another way than by deflate, for which zipfile keeps to no bound.
    BadZipFile and others
        If it is no archive, or a damaged one: call it within `damage_as`.
    """
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type not in _METHODS:
                raise ValueError(
                    f"{member.filename!r} is packed by the method {member.compress_type}; expected deflate"
                )
        check_unpacked(sum(member.file_size for member in members), size)
        yield archive


def read_array(file: BinaryIO, size: int, kinds: Collection[str] = "biuf") -> np.ndarray:
    """Read a NumPy array whose header is compared with what there is before anything is made.

    Parameters
    ----------
    file : file object
        At the beginning of a ``.npy`` file, and one that can go back to it.
    size : int
        Bytes that there are.
    kinds : collection of str
        The kinds of dtype that it may have; by default booleans and real numbers.

    Raises
    ------
    ValueError
        If it is of another kind, or has more or fewer bytes than its header says.
    """
    from numpy.lib import format as npy  # here, since help of the command line waits for this module

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array in the format {version}; expected (1, 0) or (2, 0)")
    shape, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    if dtype.kind not in kinds:
        raise ValueError(f"an array of {dtype}; expected numbers")
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size - file.tell() != expected:
        raise ValueError(f"{size - file.tell():,} bytes of an array of shape {shape}, which has {expected:,}")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def read_arrays(file: BinaryIO, names: Collection[str] | None = None, kinds: Collection[str] = "biuf") -> dict:
    """Read the arrays of a ``.npz`` file, in the order of the file.

    Parameters
    ----------
    file : file object
        Opened for reading bytes.
    names : collection of str, optional
        Those to read, which must be there; all by default.
    kinds : collection of str
        As in `read_array`.

    Raises
    ------
    ValueError and others
        If it is no such file, or a damaged one: call it within `damage_as`.
    """
    with open_archive(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        arrays = {}
        for name in members if names is None else names:
            with archive.open(members[name]) as stream:
                arrays[name] = read_array(stream, members[name].file_size, kinds)  # type: ignore[arg-type]
                stream.read()  # to the end, where the checksum is compared
        return arrays
