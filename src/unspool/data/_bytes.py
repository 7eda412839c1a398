"""Read files as bytes and text, with one error for anything unreadable."""

import codecs
from pathlib import Path

from unspool._reading import XZ, damage_as, unpack
from unspool.data._errors import DataError

_NOT_FOR_FILES = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")


def read_bytes(path: Path) -> bytes:
    """Return a file's content, decompressed if it is a gzip or xz stream, regardless of its name.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    DataError
        If the file cannot be read, or the stream is damaged, truncated, or unpacks to far more than its size: see
        `unspool._reading`.
    """
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    kind = "xz" if raw.startswith(XZ) else "gzip"
    with damage_as(DataError, f"{path}: damaged or truncated {kind} stream", "fetch the file again"):
        return unpack(raw)


def read_text(path: Path, encoding: str = "utf-8", *, remedy: str = "Save the file as UTF-8") -> str:
    """Return the text of a file, decompressed as in `read_bytes`.

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
    """Decode the content of a file, without a byte order mark.

    Parameters
    ----------
    content : bytes
        The file's uncompressed bytes.
    path : Path
        Name of the file in errors.
    encoding : str
        The name of Python's codec.
    remedy : str
        What errors tell the user to do about bytes in another encoding.

    Raises
    ------
    DataError
        If the bytes are not in this encoding, or no encoding has this name.
    """
    _check_encoding(encoding)
    try:
        with damage_as(DataError, f"{path}: cannot be read as {encoding}", passing=(UnicodeDecodeError,)):
            return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte {error.start} of the file is {content[error.start]:#04x}, which is not "
            f"{encoding} ({error.reason}).\n{remedy}"
        ) from error


def _check_encoding(encoding: str) -> None:
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError) as error:  # ValueError: a name with a null character
        raise DataError(f"received encoding={encoding!r}; expected a name such as 'utf-8' or 'latin-1'") from error
    # Python's other codecs make bytes of bytes, or are for names of hosts and for literals, and take minutes or warn.
    if not codec._is_text_encoding or codec.name in _NOT_FOR_FILES:
        raise DataError(
            f"received encoding={encoding!r}, in which no file is written; expected a name such as 'utf-8' or 'latin-1'"
        )
