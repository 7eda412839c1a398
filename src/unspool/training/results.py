"""What runs return: plain values, for a table or a file."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .checkpoint_io import write_text
from .recipes import Recipe

RESULT = "result.json"


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

    @property
    def checkpoint(self) -> Path:
        """The checkpoint whose figures these are."""
        return self.directory / f"{self.recipe.tested}.ckpt"

    def write(self) -> None:
        """Write ``result.json`` into the directory."""
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
        """
        path = directory / RESULT
        if not path.is_file():
            return None
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**fields, "recipe": Recipe.from_dict(fields["recipe"])}, directory=directory)


class Evaluation(NamedTuple):
    """How a checkpoint does on data: the recipe's name, figures, and ``confusion[true][predicted]`` counts."""

    recipe: Recipe
    parameters: int
    accuracy: float
    loss: float
    confusion: list[list[int]]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The class of one sequence of a file: its index from 0, the class's name, and the model's probability of it."""

    index: int
    label: str
    probability: float
