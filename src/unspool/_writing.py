"""Files that are there as a whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write a file next to its place, and move it there in one operation.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes or memoryview
        Its content.
    flush : bool
        Whether to wait until the content is on the disk, so that it outlives a loss of power too.

    Raises
    ------
    OSError
        If it cannot be written. The former file, if there is one, is still there then.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):  # it is not there any more, or what failed was the directory
            part.unlink()
