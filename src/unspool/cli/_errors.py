"""What every command does with mistakes."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from unspool._printable import printable

NEWLINE = "\n"
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextmanager
def one_message(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into one message and exit code 2; all else keeps its traceback."""
    try:
        yield
    except errors as error:
        typer.echo(f"error: {printable(str(error), keep=NEWLINE)}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user can mend in a recipe, a comparison or data into one message and exit code 2."""
    try:
        from unspool.training import RunError
    except ModuleNotFoundError as error:
        typer.echo(f"error: this needs {error.name}; install it with: pip install 'unspool[train]'", err=True)
        raise typer.Exit(2) from None
    from unspool.comparison import ComparisonError
    from unspool.data import DataError

    with one_message(ComparisonError, DataError, RunError):
        yield


@contextmanager
def output_errors() -> Iterator[None]:
    """Turn a standard output that cannot be written to, say on a full disk, into one message and exit code 2."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where it can still be said that it fails
    except OSError as error:
        if error.errno not in _NO_OUTPUT or error.filename is not None or sys.stdout is None:
            raise
        # What is still in the buffer would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
