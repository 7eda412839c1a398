"""One process at a time in a run's directory."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unspool.training.errors import RunError


@contextmanager
def alone_in(directory: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from training in a directory within the block.

    The lock is the system's, on the directory itself: nothing is left behind, also where the process is killed.

    Parameters
    ----------
    directory : Path
        A run's directory; it is made where there is none.
    report : callable
        Gets one line of text where the directory cannot be locked: on Windows, and on some network drives.

    Raises
    ------
    RunError
        If another process trains there, or the directory cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {directory}: {error.strerror}; name another place with --output-dir") from error
    handle = None
    try:
        import fcntl

        handle = os.open(directory, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        assert handle is not None
        os.close(handle)
        raise RunError(
            f"another process is training in {directory}; wait for its end, or name another place with --output-dir"
        ) from None
    except (ModuleNotFoundError, OSError) as error:
        report(f"{directory} cannot be locked ({error}); start no second process there")
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
