"""What a run has left in its directory, read without the model: recipe, log, figures and predictions."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unspool._reading import damage_as, parsed_json, read_arrays
from unspool.training.callbacks import LOG
from unspool.training.errors import RunError
from unspool.training.results import RESULT, ROWS
from unspool.training.run import RECIPE

REMEDY = "a run writes it whole: restore it, or train again with --overwrite"


@dataclass(frozen=True)
class Predictions:
    """What the model made of the test rows.

    Attributes
    ----------
    lengths : array of shape (R,)
        Steps of every row.
    correct : array of shape (R,)
        Share of right answers in every row, from 0 to 1; of numbers 1 less the squared error, at least 0.
    labels, predicted : array of shape (R,), or None
        True and predicted classes, for a classifier of rows.
    numbers : bool
        Whether numbers are predicted.
    """

    lengths: np.ndarray
    correct: np.ndarray
    labels: np.ndarray | None
    predicted: np.ndarray | None
    numbers: bool = False


@dataclass(frozen=True)
class RunFiles:
    """A run's files: the recipe, the log, and the result and the predictions where there are any."""

    directory: Path
    recipe: dict[str, Any]
    log: list[dict[str, float]]
    result: dict[str, Any] | None
    predictions: Predictions | None

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The rows of the log that end an epoch."""
        return [row for row in self.log if "train_loss" in row]


def read_run(directory: str | Path) -> RunFiles:
    """Read a run's directory.

    Parameters
    ----------
    directory : str or Path
        Where `fit` has written.

    Raises
    ------
    RunError
        If it is no directory of a run, or one of the files is damaged.
    """
    directory = Path(directory)
    if not directory.is_dir():
        found = "a file" if directory.exists() else "nothing there"
        raise RunError(f"{directory}: {found}; expected the directory of a run, which `unspool train` makes")
    recipe = _read_object(directory / RECIPE)
    if recipe is None:
        raise RunError(f"{directory}: no {RECIPE} in it; expected the directory of a run, which `unspool train` makes")
    return RunFiles(
        directory=directory,
        recipe=recipe,
        log=_read_log(directory / LOG),
        result=_read_object(directory / RESULT),
        predictions=_read_predictions(directory / ROWS),
    )


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    with damage_as(RunError, f"{path} cannot be read", REMEDY):
        content = parsed_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__}; expected an object")
    return content


def _read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log without their empty cells; none where there is no log yet."""
    if not path.exists():
        return []
    with damage_as(RunError, f"{path} cannot be read", REMEDY), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = [_numbers(path, reader.line_num, row) for row in reader]
        names = reader.fieldnames or ()
    missing = {"epoch", "step", "loss"}.difference(names)
    if missing:
        raise _damaged(path, f"it has no column {', '.join(sorted(missing))}")
    return rows


def _numbers(path: Path, line: int, row: dict[str | Any, str | Any]) -> dict[str, float]:
    if None in row or None in row.values():
        raise _damaged(path, f"line {line} has another number of cells than the first")
    try:
        numbers = {name: float(cell) for name, cell in row.items() if cell != ""}
    except ValueError as error:
        raise _damaged(path, f"line {line}: {error}") from error
    if not all(math.isfinite(numbers.get(name, math.nan)) for name in ("epoch", "step")):
        raise _damaged(path, f"line {line} has no epoch and step")
    return numbers


def _read_predictions(path: Path) -> Predictions | None:
    if not path.exists():
        return None
    with damage_as(RunError, f"{path} cannot be read", REMEDY), path.open("rb") as file:
        arrays = read_arrays(file)
    for name in ("lengths", "correct"):
        if name not in arrays:
            raise _damaged(path, f"it has no array {name}")
    for name in ("labels", "predicted"):
        if name in arrays and not arrays[name].size:  # what is tested is not the class of a row
            del arrays[name]
    if ("labels" in arrays) != ("predicted" in arrays):
        raise _damaged(path, "it has only one of the arrays labels and predicted")
    rows = arrays["lengths"].shape
    for name in ("lengths", "correct", "labels", "predicted"):
        array = arrays.get(name)
        if array is None:
            continue
        kinds = "f" if name == "correct" else "iu"
        if array.ndim != 1 or array.shape != rows or array.dtype.kind not in kinds:
            raise _damaged(path, f"{name} is of type {array.dtype} and shape {array.shape}")
        if array.size and not (array.min() >= 0 and (name != "correct" or array.max() <= 1)):
            raise _damaged(path, f"{name} has values from {array.min():g} to {array.max():g}")
    return Predictions(
        arrays["lengths"],
        arrays["correct"],
        arrays.get("labels"),
        arrays.get("predicted"),
        numbers=bool(arrays.get("found", arrays["lengths"][:0]).size),
    )


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path} cannot be read ({reason}); {REMEDY}")
