"""The command line: it parses arguments, calls the library and prints a table or writes a file.

``unspool --help`` lists the commands. They need an extra: ``pip install 'unspool[train]'``. Modules that import slowly
are imported by the commands that need them, so that help appears at once.
"""

from typing import Annotated

try:
    import rich as _rich  # noqa: F401
    import typer
except ModuleNotFoundError as error:
    raise SystemExit(
        f"unspool's command line needs {error.name}, which is not installed.\n"
        "Install it with: pip install 'unspool[train]'"
    ) from None

from unspool.cli import compare, doctor, sequences, use  # noqa: F401 - sequences adds its command to train
from unspool.cli._app import App
from unspool.cli._errors import output_errors
from unspool.cli.train import train_app

app = App(
    name="unspool",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recurrent networks over sequences of any length: train a recipe, test it, classify new sequences.",
    epilog="Start with: unspool train vowels",
)
app.add_typer(train_app, name="train")
use.add_commands(app)
compare.add_commands(app)
doctor.add_commands(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"unspool {version('unspool')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    with output_errors():
        app()
