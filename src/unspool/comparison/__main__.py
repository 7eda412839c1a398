"""`python -m unspool.comparison`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:
    raise SystemExit(f"this needs {error.name}; install it with: pip install 'unspool[train]'") from None

from unspool.comparison import ComparisonError, Settings, parse_steps, run_compare
from unspool.data import DataError


def main(
    quick: Annotated[bool, typer.Option("--quick", help="T of 10, 25 and 50, fewer repetitions: two minutes.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write all figures into this .json file.")] = None,
    steps: Annotated[str | None, typer.Option(help="Numbers of steps, such as 10,25,50.", show_default=False)] = None,
    limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which a stage of a measurement is given up.")
    ] = 180.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A contender by its name; may be repeated.", show_default="all")
    ] = None,
    batching: Annotated[bool, typer.Option(help="Compare ways of batching film reviews.")] = True,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="UNSPOOL_DATA_DIR", help="A directory with IMDB. Without it words are random, of the known lengths."
        ),
    ] = None,
    tensorflow: Annotated[Path | None, typer.Option(help="The Python that has TensorFlow and Keras.")] = None,
    jax: Annotated[Path | None, typer.Option(help="The Python that has JAX.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, inputs and the order of rows.")] = 0,
) -> None:
    """Measure static against dynamic: to build, to start, to run and to keep, here and in other libraries."""
    named = {"tensorflow": tensorflow, "jax": jax}
    try:
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
        arguments = ["python", "-m", "unspool.comparison", *sys.argv[1:]]
        run_compare(Console(), settings, output, arguments=arguments)
    except (ComparisonError, DataError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
