"""The form of all commands: flags are shown without a value, and the library is imported when a command runs."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from unspool import _startup


def called() -> str:
    """Return this command as the shell knows it: `make demo` runs one that is not on the PATH."""
    script = sys.argv[0]
    return script if Path(script).name == "unspool" and shutil.which("unspool") != script else "unspool"


def _shown(parameters: list[Any]) -> list[Any]:
    """Let help be narrow: typer writes `<bool>` after a flag, `<int range>`, and described defaults in parentheses."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif getattr(parameter, "min", None) is not None:
            parameter.metavar = "<n>"
        if isinstance(getattr(parameter, "show_default", None), str):
            parameter.help = rf"{parameter.help} [dim]\[default: {escape(parameter.show_default)}][/dim]"
            parameter.show_default = False
    return parameters


class Command(TyperCommand):
    """A command that does something.

    Parameters
    ----------
    help : str, optional
        Its paragraphs; how they are broken into lines is of no meaning.
    **options
        Those of `typer.core.TyperCommand`.
    """

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        paragraphs = (help or "").split("\n\n")
        super().__init__(*args, help="\n\n".join(" ".join(text.split()) for text in paragraphs), **options)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        return _shown(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, with the library in place."""
        _startup.complete("unspool")
        return super().invoke(ctx)


class Group(TyperGroup):
    """A command that has others."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        return _shown(super().get_params(ctx))


class App(typer.Typer):
    """A group of commands.

    Parameters
    ----------
    **options
        Those of `typer.Typer`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, no_args_is_help=True, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Add a function as a command.

        Parameters
        ----------
        name : str, optional
            The function's own by default.
        **options
            Those of `typer.Typer.command`.
        """
        return super().command(name, cls=Command, **options)
