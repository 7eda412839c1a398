"""How every command reports errors."""

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
    """Turn these errors into one message and exit code 2; all others keep their traceback."""
    try:
        yield
    except errors as error:
        typer.echo(f"error: {printable(str(error), keep=NEWLINE)}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can fix, in a recipe, a comparison or data, into one message and exit code 2."""
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
    """Turn a failure to write to standard output, on a full disk for example, into one message and exit code 2."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a failure can still be reported
    except OSError as error:
        if error.errno not in _NO_OUTPUT or error.filename is not None or sys.stdout is None:
            raise
        # Whatever is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
