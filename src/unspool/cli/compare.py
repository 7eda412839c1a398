"""``unspool compare`` and ``unspool report``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ._errors import user_errors
from ._options import DataDir


def compare(
    quick: Annotated[
        bool, typer.Option("--quick", help="Sequences of 10, 25 and 50 steps, fewer repetitions: under two minutes.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Write all figures into this .json file, and a report into an .html file beside it.")
    ] = Path("runs/comparison.json"),
    steps: Annotated[str | None, typer.Option(help="Numbers of steps.", show_default="10,25,50,100,200,400")] = None,
    limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which a stage of a measurement is given up.")
    ] = 180.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A contender by its name; may be repeated.", show_default="all")
    ] = None,
    batching: Annotated[bool, typer.Option(help="Compare ways of batching film reviews.")] = True,
    data_dir: DataDir = None,
    tensorflow: Annotated[
        Path | None, typer.Option(help="The Python that has TensorFlow and Keras.", show_default="that of `make peers`")
    ] = None,
    jax: Annotated[
        Path | None, typer.Option(help="The Python that has JAX.", show_default="that of `make peers`")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, inputs and the order of rows.")] = 0,
) -> None:
    """Measure static against dynamic: to build, to start, to run and to keep, here and in other libraries.

    It prints tables, writes all figures as JSON, and draws a report. Without IMDB the film reviews are random words of
    the known lengths; libraries that are not found are left out, and it is said.
    """
    with user_errors():
        from unspool.comparison import ComparisonError, Settings, parse_steps, run_compare
        from unspool.report import graph_objects, write_comparison_report

        graph_objects()  # before minutes are spent
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ComparisonError(f"cannot make {output.parent}: {error.strerror}; name another --output") from error
        named = {"tensorflow": tensorflow, "jax": jax}
        settings = Settings.of(
            quick=quick,
            steps=parse_steps(steps),
            limit_s=limit,
            only=tuple(only or ()),
            batching=batching,
            data_dir=data_dir,
            pythons={name: path for name, path in named.items() if path is not None},
            seed=seed,
        )
        found = run_compare(Console(), settings, output, arguments=["unspool", *sys.argv[1:]])
        page = write_comparison_report(json.loads(found.to_json()), output.with_suffix(".html"))
        typer.echo(f"wrote {page}")


def report(
    source: Annotated[
        Path, typer.Argument(help="A run's directory, or the .json file of a comparison.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The .html file.", show_default="in the directory, or beside the file"),
    ] = None,
) -> None:
    """Draw a run or a comparison as one page with interactive plots, which needs no network.

    Of a run: learning curves, the confusion of classes, accuracy by length, recipe and figures.
    """
    with user_errors():
        from unspool.report import read_comparison, write_comparison_report, write_run_report

        if source.suffix == ".json":
            page = write_comparison_report(read_comparison(source), output or source.with_suffix(".html"))
        else:
            page = write_run_report(source, output)
        typer.echo(f"wrote {page}")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to an application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    for command in (compare, report):
        app.command()(command)
