"""What runs return: plain values, for a table or a file."""

import dataclasses
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unspool._html import html_table
from unspool._reading import damage_as, parsed_json
from unspool.training.checkpoint_io import write_text, write_whole
from unspool.training.errors import RunError
from unspool.training.module import TestRows
from unspool.training.recipes import Recipe

MOST_SHOWN = 40
"""Classes of which a notebook shows the confusion."""
RESULT, ROWS, REPORT = "result.json", "test.npz", "report.html"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The outcome of a finished run.

    Attributes
    ----------
    directory : Path
        Where the run's files are.
    recipe : Recipe
        What was trained.
    parameters : int
        Trainable numbers of the model.
    epoch : int
        The epoch, from 1, whose weights were tested: the recipe says whether the best or the last.
    val_loss, val_accuracy : float
        On the rows held out, after that epoch.
    test_loss, test_accuracy : float
        On the test rows.
    seconds_per_epoch : float
        Mean over the epochs, validation and checkpoints included, in seconds.
    class_names : tuple of str
        What each class, label or token is called.
    metrics : dict of str to float
        Further figures of the test: see `unspool.training.metrics`.
    command : str or None
        The command line of the run, where there was one.
    versions, machine : dict
        What it ran with, and on what.
    """

    directory: Path
    recipe: Recipe
    parameters: int
    epoch: int
    val_loss: float
    val_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds_per_epoch: float
    class_names: tuple[str, ...]
    command: str | None
    versions: dict[str, str]
    machine: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint whose figures these are."""
        return self.directory / f"{self.recipe.tested}.ckpt"

    def __repr__(self) -> str:
        """A line; the fields tell more."""
        return (
            f"<RunResult: {self.recipe.dataset}, {self.recipe.model}, test accuracy {self.test_accuracy:.4f}, "
            f"test loss {self.test_loss:.4f}, in {self.directory}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            (f"held out, after epoch {self.epoch}", f"{self.val_accuracy:.4f}", f"{self.val_loss:.4f}"),
            ("test", f"{self.test_accuracy:.4f}", f"{self.test_loss:.4f}"),
        ]
        recipe = self.recipe
        title = (
            f"{recipe.dataset}: {recipe.model}, {recipe.execution}, {self.parameters:,} parameters, "
            f"{self.seconds_per_epoch:.2f} seconds per epoch; {self.checkpoint}"
        )
        return html_table(title, rows, ("", "accuracy", "loss"))

    def write(self) -> None:
        """Write ``result.json`` into the directory.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        del fields["directory"]
        fields["recipe"] = self.recipe.to_dict()
        write_text(self.directory / RESULT, json.dumps(fields, indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "RunResult | None":
        """Return the result in a directory, or None where the run is not finished.

        Parameters
        ----------
        directory : Path
            A run's directory.

        Raises
        ------
        RunError
            If the file is damaged, or of another version of unspool.
        """
        path = directory / RESULT
        if not path.is_file():
            return None
        try:
            with damage_as(RunError, "it is read as no result"):
                fields: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
                recipe, names = Recipe.from_dict(fields["recipe"]), tuple(fields["class_names"])
                return cls(**{**fields, "recipe": recipe, "class_names": names}, directory=directory)
        except RunError as error:
            raise RunError(f"{path}: no result of this version of unspool, or a damaged one ({error})") from error


def write_rows(directory: Path, rows: TestRows) -> None:
    """Write ``test.npz``, which has the test sequences one by one, into a run's directory.

    Parameters
    ----------
    directory : Path
        The run's directory.
    rows : TestRows
        What the arrays of these names will be.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    content = io.BytesIO()
    arrays = {name: values.cpu().numpy() for name, values in rows._asdict().items()}
    np.savez_compressed(content, **arrays)
    write_whole(directory / ROWS, content.getbuffer())


class Evaluation(NamedTuple):
    """How a checkpoint does on data: the recipe, figures, and ``confusion[true][predicted]`` counts for classes.

    A stream has as many sequences as its windows have rows; its steps are tokens.

    Attributes
    ----------
    recipe : Recipe
        What the checkpoint was trained with.
    parameters : int
        Number of trained numbers.
    accuracy : float
        Share of right answers, 0 to 1; for chords, of right keys over those right, missed or wrong; for numbers, how
        much smaller the squared error is than that of the mean of the training data.
    loss : float
        Mean in nats: per sequence, per step for chords, per character for a text; for numbers, the squared error over
        the variance in the training data.
    sequences, steps : int
        How many there were.
    confusion : list of list of int, or None
        For K classes K rows; None where there are no classes.
    class_names : tuple of str
        What each class is called.
    metrics : dict of str to float
        Further figures: see `unspool.training.metrics`.
    """

    recipe: Recipe
    parameters: int
    accuracy: float
    loss: float
    sequences: int
    steps: int
    confusion: list[list[int]] | None
    class_names: tuple[str, ...]
    metrics: dict[str, float] = {}  # noqa: RUF012 - never changed

    def __repr__(self) -> str:
        """A line; the fields tell more."""
        return (
            f"<Evaluation: {self.recipe.dataset}, {self.recipe.model}, accuracy {self.accuracy:.4f}, "
            f"loss {self.loss:.4f} on {self.sequences:,} sequences>"
        )

    def _repr_html_(self) -> str:
        if self.confusion is None or len(self.confusion) > MOST_SHOWN:
            return html_table(repr(self)[1:-1], [])
        rows = [(name, *counts) for name, counts in zip(self.class_names, self.confusion, strict=False)]
        title = f"{repr(self)[1:-1]}; a row per true class, a column per predicted class"
        return html_table(title, rows, ("", *self.class_names))


@dataclass(frozen=True)
class Prediction:
    """The class of one sequence, or of one of its steps, or numbers for it.

    Attributes
    ----------
    index : int
        The sequence's place in the file, from 0.
    label : str or None
        The name of the likeliest class, where the model tells classes apart.
    probability : float or None
        What the model gives it, 0 to 1.
    probabilities : dict of str to float
        What it gives to each class, by name.
    file : str or None
        Where the sequence came from, if from a file.
    step : int or None
        The step's place in the sequence, from 0, where each step has a class.
    word : str or None
        The word at this step, if it is one.
    id : str or None
        What the source calls the sequence.
    time : float, str or None
        When the step was, where the source says so.
    values : dict of str to float
        Numbers that the model predicts, in the units of the training data.
    """

    index: int
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    file: str | None = None
    step: int | None = None
    word: str | None = None
    id: str | None = None
    time: float | str | None = None
    values: dict[str, float] = field(default_factory=dict)
