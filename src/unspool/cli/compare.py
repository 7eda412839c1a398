"""``unspool compare`` and ``unspool report``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unspool.cli._errors import user_errors
from unspool.cli._options import DataDir


def compare(
    quick: Annotated[
        bool, typer.Option("--quick", help="Sequences of 10, 25 and 50 steps, fewer repetitions: under two minutes.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Write all results to this .json file, and a report to an .html file next to it.")
    ] = Path("runs/comparison.json"),
    steps: Annotated[
        str | None, typer.Option(help="Numbers of steps, separated by commas.", show_default="10,25,50,100,200,400")
    ] = None,
    limit: Annotated[
        float, typer.Option(min=0.1, help="Stop a stage of a measurement after this many seconds.")
    ] = 180.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only this contender; may be repeated.", show_default="all")
    ] = None,
    batching: Annotated[bool, typer.Option(help="Also compare ways of batching film reviews.")] = True,
    data_dir: DataDir = None,
    tensorflow: Annotated[
        Path | None,
        typer.Option(help="Python with TensorFlow and Keras installed.", show_default="that of `make peers`"),
    ] = None,
    jax: Annotated[
        Path | None, typer.Option(help="Python with JAX installed.", show_default="that of `make peers`")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the inputs and the order of sequences.")] = 0,
) -> None:
    """Compare static with dynamic, here and in other libraries: time to build, first call, training step, memory.

    It prints tables, writes all results as JSON, and makes a report. Without IMDB, the film reviews are random words of
    the known lengths. Libraries that are not found are left out, with a note.
    """
    with user_errors():
        from unspool.comparison import ComparisonError, Settings, parse_steps, run_compare
        from unspool.report import graph_objects, write_comparison_report

        graph_objects()  # fail now if Plotly is missing, not after minutes of measuring
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
        Path, typer.Argument(help="Directory of a run, or .json file of a comparison.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The .html file to write.", show_default="in the directory, or next to the file"),
    ] = None,
) -> None:
    """Show a run or a comparison as one page with interactive plots that needs no network.

    The page of a run has learning curves, the confusion of classes, accuracy by length, the recipe and the results.
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
