"""Read and check files of data sets."""

import hashlib
from pathlib import Path

from unspool.data._bytes import read_bytes, read_text
from unspool.data._errors import DataError
from unspool.data.datasets._find import Address

REMEDY = "Fetch the file again"


def read_verified(path: Path, address: Address) -> bytes:
    """Return a file's bytes, after comparing them with the published checksum.

    Parameters
    ----------
    path : Path
        The file.
    address : Address
        The published address, with its sha256.

    Raises
    ------
    DataError
        If the file cannot be read, or its checksum differs.
    """
    content = read_bytes(path)
    received = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if received != address.checksum:
        raise DataError(
            f"{path}: damaged, or another file: {len(content)} bytes with {received}; expected {address.checksum}. "
            f"Fetch it again from {address.mirrors[0]}{path.name}"
        )
    return content


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped; empty lines are kept, so that line numbers are right.

    Parameters
    ----------
    path : Path
        A file in UTF-8.

    Raises
    ------
    DataError
        If it cannot be read, is not UTF-8, or has control characters in it.
    """
    lines = [line.strip() for line in read_text(path, remedy=REMEDY).split("\n")]
    for number, line in enumerate(lines, start=1):
        if any(character < " " and character != "\t" for character in line):
            raise DataError(f"{path}, line {number}: {line!r} has control characters; fetch the file again")
    return lines
