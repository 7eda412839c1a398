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


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without the mark that some programs begin one with.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    DataError
        If the file cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error}); save it as UTF-8") from error
