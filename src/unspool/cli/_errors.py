"""What every command does with mistakes."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_message(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into one message and exit code 2; all else keeps its traceback."""
    try:
        yield
    except errors as error:
        typer.echo(f"error: {error}", err=True)
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
