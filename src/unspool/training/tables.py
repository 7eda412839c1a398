"""Results as tables on a terminal, and predictions as files."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unspool._extra import needed
from unspool._printable import printable
from unspool.exporting import OnnxFile
from unspool.training.checkpoint_io import write_text, write_whole
from unspool.training.errors import RunError
from unspool.training.recipes._recipe import NUMBERS
from unspool.training.results import Evaluation, Prediction, RunResult

_SCORES = dict.fromkeys(NUMBERS, "R2 against the training mean")


def print_result(console: Console, result: RunResult) -> None:
    """Print the figures of a run and where its files are."""
    recipe = result.recipe
    table = Table(title=f"{recipe.dataset}: {recipe.model}, {recipe.execution}", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(_SCORES.get(recipe.objective, "accuracy"), justify="right")
    table.add_column("loss", justify="right")
    table.add_row(f"held out, after epoch {result.epoch} of {recipe.epochs}", *_figures(result, "val"))
    table.add_row("test", *_figures(result, "test"))
    console.print(table)
    if result.metrics:
        console.print(f"test: {_listed(result.metrics)}", highlight=False)
    console.print(
        f"{result.parameters:,} parameters, {result.seconds_per_epoch:.2f} seconds per epoch", highlight=False
    )
    console.print(f"checkpoint: {result.checkpoint}", highlight=False, markup=False, soft_wrap=True)


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _figures(result: RunResult, part: str) -> tuple[str, str]:
    return f"{getattr(result, f'{part}_accuracy'):.4f}", f"{getattr(result, f'{part}_loss'):.4f}"


def print_demo(console: Console, results: Iterable[RunResult]) -> None:
    """Print one row per run."""
    table = Table(title="Japanese Vowels: 370 test utterances, nine speakers", box=box.SIMPLE_HEAD)
    table.add_column("model")
    table.add_column("execution")
    for name in ("test accuracy", "seconds per epoch", "parameters"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(
            result.recipe.model,
            result.recipe.execution,
            f"{result.test_accuracy:.4f}",
            f"{result.seconds_per_epoch:.2f}",
            f"{result.parameters:,}",
        )
    console.print(table)


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print accuracy and loss, and for classes how often each was taken for each."""
    if evaluation.confusion is not None:
        console.print(_confusion(evaluation.confusion, evaluation.class_names))
    recipe = evaluation.recipe
    console.print(
        f"{recipe.dataset}, {recipe.model}, {recipe.execution}: {evaluation.parameters:,} parameters", highlight=False
    )
    size = f"{evaluation.steps:,} steps"
    if recipe.objective != "next-token":
        size = f"{evaluation.sequences:,} sequences, {size}"
    score = _SCORES.get(recipe.objective, "accuracy")
    console.print(f"{score} {evaluation.accuracy:.4f}, loss {evaluation.loss:.4f} on {size}", highlight=False)
    if evaluation.metrics:
        console.print(_listed(evaluation.metrics), highlight=False)


def _confusion(counts: list[list[int]], names: Sequence[str]) -> Table:
    table = Table(title="confusion: a row per true class, a column per predicted class", box=box.SIMPLE_HEAD)
    table.add_column("", style="bold")
    for name in names:
        table.add_column(Text(printable(name)), justify="right")
    for true, row in enumerate(counts):
        table.add_row(
            Text(printable(names[true])), *(_cell(count, true == predicted) for predicted, count in enumerate(row))
        )
    return table


def _cell(count: int, correct: bool) -> str:
    if not count:
        return "[dim].[/dim]"
    return f"[green]{count}[/green]" if correct else f"[red]{count}[/red]"


def print_predictions(console: Console, predictions: Sequence[Prediction]) -> None:
    """Print the class of each sequence, or step, and the model's probability of it, or its numbers."""
    files = len({prediction.file for prediction in predictions}) > 1
    shown: dict[str, Callable[[Prediction], object]] = {
        "file": lambda one: one.file if files else None,
        "index": lambda one: one.index,
        "id": lambda one: one.id,
        "step": lambda one: one.step if one.id is not None else None,
        "time": lambda one: one.time,
        "word": lambda one: one.word,
        "class": lambda one: one.label,
        "probability": lambda one: None if one.probability is None else f"{one.probability:.4f}",
    }
    for name in dict.fromkeys(name for one in predictions for name in one.values):
        shown[name] = lambda one, name=name: f"{one.values[name]:.6g}"
    columns = {name: [of(one) for one in predictions] for name, of in shown.items()}
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        text = name in ("file", "id", "time", "word", "class")
        table.add_column(name, justify="left" if text else "right")
    for row in zip(*columns.values(), strict=True):
        # What users wrote is Text, in which nothing is markup.
        table.add_row(*(Text(printable("" if value is None else str(value))) for value in row))
    console.print(table)


def print_export(console: Console, file: OnnxFile) -> None:
    """Print the names, shapes and size of a file, and how far it is from its model."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "name", "shape"):
        table.add_column(heading)
    for kind, values in (("input", file.inputs), ("output", file.outputs)):
        for name, shape in values.items():
            table.add_row(kind, Text(name), Text(", ".join(map(str, shape))))
    console.print(table)
    if file.difference is None:
        console.print("not compared with the model: onnxruntime is not installed", highlight=False)
    else:
        console.print(
            f"compared with the model: at most {file.difference:.1g} of the largest value off", highlight=False
        )
    console.print(Text(f"wrote {file.path} ({file.size:,} bytes)"), soft_wrap=True)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions to a ``.csv``, ``.parquet`` or ``.json`` file.

    Parameters
    ----------
    path : Path
        The file; its ending says how. In tables the probability of each class has a column, ``p_`` and its name. In
        ``.csv``, what a user wrote that a spreadsheet would take for a formula has an apostrophe before it.
    predictions : sequence of Prediction
        What to write.

    Raises
    ------
    RunError
        If the ending is another one, the file cannot be written, or Parquet is wanted and polars is not installed.
    """
    check_output(path)
    if path.suffix == ".json":
        objects = [_present(dataclasses.asdict(prediction)) for prediction in predictions]
        write_text(path, json.dumps(objects, indent=2, allow_nan=False) + "\n")
        return
    rows = [_cells(prediction) for prediction in predictions]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["index", "label", "probability"]
    if path.suffix == ".parquet":
        content = io.BytesIO()
        polars().DataFrame({name: [row.get(name) for row in rows] for name in columns}).write_parquet(content)
        write_whole(path, content.getbuffer())
        return
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(name) for name in columns]
        writer.writerow([_no_formula(value) if isinstance(value, str) else value for value in values])
    write_text(path, lines.getvalue())


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and value != {}}


def _cells(prediction: Prediction) -> dict[str, Any]:
    """Return the columns of a table's row: where it comes from, the class, and the probability of every class."""
    names = ("file", "index", "id", "step", "time", "word", "label", "probability")
    shares = {f"p_{name}": share for name, share in prediction.probabilities.items()}
    return _present({name: getattr(prediction, name) for name in names}) | shares | prediction.values


def _no_formula(text: str) -> str:
    """Put an apostrophe before what spreadsheets compute, or run; numbers with a sign are none of that."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def polars() -> ModuleType:
    """Import polars, which only Parquet needs.

    Raises
    ------
    RunError
        If it is not installed.
    """
    try:
        return needed("polars", "writing Parquet", "data")
    except ImportError as error:
        raise RunError(f"{error}") from error


def check_output(path: Path) -> None:
    """Raise a RunError if `path` is no name that `write_predictions` can write to."""
    if path.suffix not in (".csv", ".parquet", ".json"):
        raise RunError(f"received --output {path}; expected a name that ends in .csv, .parquet or .json")
    if path.suffix == ".parquet":
        polars()
