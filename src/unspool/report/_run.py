"""The report of one training run."""

import json
from pathlib import Path
from typing import Any

from unspool._reading import damage_as
from unspool.report._blocks import Block, Facts, Note, Table, Text
from unspool.report._curves import run_figures
from unspool.report._figures import significant
from unspool.report._page import Page, Section, write_page
from unspool.report._plotly import graph_objects
from unspool.report._predictions import confusion_blocks, length_block
from unspool.report._run_files import REMEDY, RunFiles, read_run
from unspool.training.callbacks import LOG
from unspool.training.errors import RunError
from unspool.training.results import REPORT, RESULT, ROWS
from unspool.training.run import RECIPE

LONGEST = 200
"""Characters of a value of the recipe that are shown."""
MOST_CLASSES = 10_000
"""Of more there is no table to draw."""
_NAMES = {
    "epoch": "tested epoch",
    "val_loss": "held-out loss",
    "val_accuracy": "held-out accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "seconds_per_epoch": "seconds per epoch",
}


def write_run_report(directory: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a training run: learning curves, recipe, figures, confusion, accuracy by length.

    Parameters
    ----------
    directory : str or Path
        Where `unspool.training.fit` has written, or is writing: of a run that is not finished, what is there is drawn.
    output : str or Path, optional
        The file; ``report.html`` in the run's directory by default.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If the directory is not a run's, a file in it is damaged, the report cannot be written, or Plotly is absent.
    """
    return write_page(Path(directory) / REPORT if output is None else output, run_page(directory))


def run_page(directory: str | Path) -> Page:
    """Return the report of a training run, which a notebook shows.

    Parameters
    ----------
    directory : str or Path
        As for `write_run_report`.

    Raises
    ------
    RunError
        If the directory is not a run's, a file in it is damaged, or Plotly is absent.
    """
    graph_objects()
    run = read_run(directory)
    with damage_as(RunError, f"{directory}: a field of {RECIPE} or {RESULT} is not what a run writes", REMEDY):
        return _page(run)


def _page(run: RunFiles) -> Page:
    recipe = run.recipe
    title = ", ".join(str(recipe[name]) for name in ("dataset", "model", "execution") if name in recipe)
    sections = [Section("Learning curves", run_figures(run) if run.log else [Text(f"Nothing is in {LOG} yet.")])]
    if run.predictions is not None and len(run.predictions.lengths):
        sections.append(Section("Test rows", _test_blocks(run)))
    elif run.result is not None:
        missing = f"There is no {ROWS} in the directory, so confusion and accuracy by length are not shown."
        sections.append(Section("Test rows", [Text(missing)]))
    sections.append(Section("Recipe", [Table(_flat(recipe))]))
    circumstances = [(name, (run.result or {}).get(name)) for name in ("command", "machine", "versions")]
    if known := {name: value for name, value in circumstances if value}:
        sections.append(Section("Machine, versions, command", [Table(_flat(known))]))
    return Page(
        title=title or run.directory.name,
        lead=f"A training run of unspool, from the directory “{run.directory.resolve().name}”.",
        top=_top(run),
        sections=sections,
    )


def _top(run: RunFiles) -> list[Block]:
    if run.result is not None:
        return [Facts([(_NAMES.get(name, name), _value(name, value)) for name, value in _figures(run.result)])]
    done, planned = len(run.epochs), run.recipe.get("epochs", "?")
    step = f", step {run.log[-1]['step']:,.0f}" if run.log else ""
    note = Note(f"This run is not finished ({done} of {planned} epochs{step}). Its test figures come at its end.")
    if not run.epochs:
        return [note]
    return [note, Facts([(_NAMES.get(n, n), _value(n, v)) for n, v in run.epochs[-1].items() if n.startswith("val")])]


def _figures(result: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the numbers of a result, those of the test first."""
    numbers = [
        (name, value)
        for name, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    first = ("test_accuracy", "test_loss")
    return sorted(numbers, key=lambda item: first.index(item[0]) if item[0] in first else len(first))


def _value(name: str, value: float) -> str:
    if name == "epoch" or isinstance(value, int):
        return f"{value:,.0f}"
    return significant(value) if "seconds" in name else f"{value:.4f}"


def _test_blocks(run: RunFiles) -> list[Block]:
    predictions = run.predictions
    assert predictions is not None
    if predictions.labels is None or predictions.predicted is None:
        return [length_block(predictions)]
    needed = int(max(predictions.labels.max(), predictions.predicted.max())) + 1
    if needed > MOST_CLASSES:
        raise RunError(f"{run.directory / ROWS} has class {needed - 1:,}; expected {MOST_CLASSES:,} at most; {REMEDY}")
    names = (run.result or {}).get("class_names") or [str(number) for number in range(needed)]
    if not isinstance(names, list) or len(names) < needed:
        raise RunError(
            f"{run.directory}: {ROWS} has class {needed - 1}, but {RESULT} has the class names {names!r}; "
            "they are not of one run. Train again with --overwrite"
        )
    return [*confusion_blocks(predictions, [str(name) for name in names]), length_block(predictions)]


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a recipe as names and values, what is nested under names with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in fields.items():
        nested = {f"{i}": item for i, item in enumerate(value, 1)} if isinstance(value, list) else value
        if isinstance(nested, dict) and any(isinstance(item, dict | list) for item in nested.values()):
            rows += _flat(nested, f"{prefix}{name}.")
        elif isinstance(nested, dict) and nested:
            text = ", ".join(f"{key} {_plain(item)}" for key, item in nested.items())
            rows.append((prefix + name, text if isinstance(value, dict) else ", ".join(map(_plain, value))))
        else:
            rows.append((prefix + name, _plain(value)))
    return rows


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
