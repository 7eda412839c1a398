"""Files as bytes and text, with one error for what cannot be read."""

import gzip
import lzma
import zlib
from pathlib import Path

from ._errors import DataError


def read_bytes(path: Path) -> bytes:
    """Return a file's content, decompressed where it is a gzip or an xz stream, whatever its name is.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    DataError
        If the file cannot be read, or the stream is damaged or ends early.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if raw.startswith(b"\x1f\x8b"):
            return gzip.decompress(raw)
        if raw.startswith(b"\xfd7zXZ\0"):
            return lzma.decompress(raw)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        kind = "gzip" if raw.startswith(b"\x1f\x8b") else "xz"
        raise DataError(f"{path}: damaged or truncated {kind} stream ({error}); fetch the file again") from error
    return raw


def read_text(path: Path, encoding: str = "utf-8", *, remedy: str = "Save the file as UTF-8") -> str:
    """Return the text of a file, decompressed as `read_bytes` does it.

    Parameters
    ----------
    path : Path
        The file.
    encoding, remedy : str
        As in `decode`.

    Raises
    ------
    DataError
        If the file cannot be read, or as `decode` does.
    """
    return decode(read_bytes(path), path, encoding, remedy=remedy)


def decode(content: bytes, path: Path, encoding: str = "utf-8", *, remedy: str) -> str:
    """Return the characters that the content of a file stands for, without a byte order mark.

    Parameters
    ----------
    content : bytes
        The file's uncompressed bytes.
    path : Path
        What errors call the file.
    encoding : str
        The name of Python's codec.
    remedy : str
        What errors tell the user to do about bytes of another encoding.

    Raises
    ------
    DataError
        If the bytes are not of this encoding, or there is none of this name.
    """
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte {error.start} of the file is {content[error.start]:#04x}, which is not "
            f"{encoding} ({error.reason}).\n{remedy}"
        ) from error
    except LookupError as error:
        raise DataError(f"received encoding={encoding!r}; expected a name such as 'utf-8' or 'latin-1'") from error
