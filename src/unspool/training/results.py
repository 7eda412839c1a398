"""What runs return: plain values, for a table or a file."""

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unspool._reading import damage_as, parsed_json
from unspool.training.checkpoint_io import write_text, write_whole
from unspool.training.errors import RunError
from unspool.training.module import TestRows
from unspool.training.recipes import Recipe

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

    @property
    def checkpoint(self) -> Path:
        """The checkpoint whose figures these are."""
        return self.directory / f"{self.recipe.tested}.ckpt"

    def write(self) -> None:
        """Write ``result.json`` into the directory.

        Raises
        ------
        RunError
            If it cannot be written.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
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
    np.savez_compressed(content, **{name: values.cpu().numpy() for name, values in rows._asdict().items()})
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
        Share of right answers, 0 to 1; for chords, of right keys over those right, missed or wrong.
    loss : float
        Mean in nats: per sequence, per step for chords, per character for a text.
    sequences, steps : int
        How many there were.
    confusion : list of list of int, or None
        For K classes K rows; None where there are no classes.
    class_names : tuple of str
        What each class is called.
    """

    recipe: Recipe
    parameters: int
    accuracy: float
    loss: float
    sequences: int
    steps: int
    confusion: list[list[int]] | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The class of one sequence.

    Attributes
    ----------
    index : int
        The sequence's place in the file, from 0.
    label : str
        The name of the likeliest class.
    probability : float
        What the model gives it, 0 to 1.
    """

    index: int
    label: str
    probability: float
