"""What a checkpoint must hold, checked before a model is built of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unspool._reading import brief, damage_as
from unspool.training.errors import RunError
from unspool.training.models import SequenceNetwork
from unspool.training.recipes import Recipe
from unspool.training.sources import source_of

MODEL = "model."
"""What the names of the network's tensors begin with; the others are the metrics of an epoch in training."""
_MOST_COUNTS = 10_000  # Lightning has about a hundred
STEP_COLUMNS = ("epoch", "step", "learning_rate", "loss")
"""What the log holds for a step."""

EPOCH_COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"
)  # fmt: skip
"""What it holds for an epoch that has ended."""

_HYPER_PARAMETERS = {"recipe", "class_names", "tokenizer"}


def check_checkpoint(checkpoint: Any) -> None:
    """Refuse what is no checkpoint of a recipe of this version.

    Parameters
    ----------
    checkpoint : object
        What was read.

    Raises
    ------
    RunError
        With the part that is not as it should be.
    """
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("hyper_parameters"), dict):
        raise _foreign("it carries no recipe")
    hyper_parameters = checkpoint["hyper_parameters"]
    missing = {"recipe", "class_names"} - hyper_parameters.keys()
    missing |= {"state_dict"} - checkpoint.keys()
    if missing:
        raise _foreign(f"it carries no {', '.join(sorted(missing))}")
    recipe = Recipe.from_dict(hyper_parameters["recipe"])
    unknown = sorted(map(repr, hyper_parameters.keys() - _HYPER_PARAMETERS))
    if unknown:
        raise _foreign(f"it has hyperparameters of another version: {', '.join(unknown):.80}")
    source_of(recipe)
    _check_names(hyper_parameters["class_names"], recipe)
    tokenizer = hyper_parameters.get("tokenizer")
    if not isinstance(tokenizer, str | None):
        raise _foreign(f"its tokenizer is of type {type(tokenizer).__name__}; expected a text")
    _check_weights(checkpoint["state_dict"], recipe)


def _foreign(reason: str) -> RunError:
    return RunError(f"no checkpoint of `unspool train`: {reason}")


def _check_names(names: Any, recipe: Recipe) -> None:
    if not isinstance(names, list | tuple) or not all(type(name) is str and _is_whole(name) for name in names):
        raise _foreign(f"its class_names are {brief(names)}; expected a list of texts")
    if not 1 <= len(names) <= recipe.num_classes:  # of a part of a data set there may be fewer
        raise _foreign(f"it has {len(names)} class_names; expected {recipe.num_classes} at most, as its recipe says")
    if recipe.binary_head and recipe.num_classes != 2:
        raise _foreign(f"it has one output for {recipe.num_classes} classes; expected 2")


def _is_whole(name: str) -> bool:
    """Tell whether a text has no half characters, which cannot be printed."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_weights(state_dict: Any, recipe: Recipe) -> None:
    """Compare names and shapes of the weights with those of the recipe's model, which takes no memory for that."""
    if not isinstance(state_dict, dict) or not all(type(name) is str for name in state_dict):
        raise _foreign("its state_dict is no dict of names")
    for name, value in state_dict.items():
        if type(value) is not Tensor or value.layout != torch.strided or value.device.type != "cpu":
            raise _foreign(f"its {name:.80} is no tensor of numbers")
        if not value.is_floating_point():
            raise _foreign(f"its {name:.80} is of {value.dtype}; expected floating-point numbers")
    received = {name.removeprefix(MODEL): value.shape for name, value in state_dict.items() if name.startswith(MODEL)}
    # A model of many layers takes long to build: each has two tensors at least.
    if len(recipe.layers) > len(received):
        raise RunError(
            f"its weights are not those of its recipe's model: {len(received)} tensors; expected those of "
            f"{len(recipe.layers)} layers"
        )
    with damage_as(RunError, "its recipe makes no model"), torch.device("meta"):
        expected = {name: value.shape for name, value in SequenceNetwork(recipe).state_dict().items()}
    for name in [*expected, *received]:
        its, ours = received.get(name), expected.get(name)
        if its != ours:
            raise RunError(
                f"its weights are not those of its recipe's model: {name:.80} is "
                f"{'missing' if its is None else list(its)}; expected {'nothing' if ours is None else list(ours)}"
            )


def not_finite(state_dict: Mapping[str, Tensor]) -> str | None:
    """Say which weights of a network are no finite numbers, as they are after a training that diverged.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the network, or of a module that has it.

    Returns
    -------
    str or None
        The first such tensor and how many of its numbers are not finite; None where all are.
    """
    for name, value in state_dict.items():
        wrong = int((~value.isfinite()).sum()) if name.startswith(MODEL) else 0
        if wrong:
            return f"{wrong:,} of the {value.numel():,} numbers of {name} are not finite"
    return None


def check_progress(checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose run cannot be continued, as far as that can be told without its data.

    Parameters
    ----------
    checkpoint : dict
        One that `check_checkpoint` has passed.

    Raises
    ------
    RunError
        With the part that is not as it should be.
    """
    for name in ("epoch", "global_step"):
        if not _is_count(checkpoint.get(name)):
            raise _foreign(f"its {name} is {brief(checkpoint.get(name))}; expected a number of them")
    if not _counts_alone(checkpoint.get("loops")):
        raise _foreign("its loops have more than counts in them")
    kept = checkpoint.get("callbacks")
    record = kept.get("RunRecord") if isinstance(kept, dict) else None
    if not isinstance(record, dict) or record.keys() != {"rows", "best", "seconds"}:
        raise _foreign("it carries no log")
    rows, best = record["rows"], record["best"]
    if not isinstance(rows, list) or not all(_is_row(row, STEP_COLUMNS) or _is_row(row, EPOCH_COLUMNS) for row in rows):
        raise _foreign("the rows of its log are not those of steps and epochs")
    if not (best is None or _is_row(best, EPOCH_COLUMNS)) or not _is_number(record["seconds"]):
        raise _foreign("its log has no row of its best epoch")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_row(row: Any, columns: Sequence[str]) -> bool:
    return isinstance(row, dict) and row.keys() == {*columns} and all(map(_is_number, row.values()))


def _counts_alone(tree: Any) -> bool:
    """Tell whether a nest of dicts and lists has nothing but counts and flags in it, and not too many of them."""
    parts, seen = [tree], 0
    while parts:
        part, seen = parts.pop(), seen + 1
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list):
            parts += part
        elif type(part) is not bool and not _is_count(part):
            return False
        if seen > _MOST_COUNTS:  # a pickle may name one list many times
            return False
    return True


def check_same_form(name: str, received: Any, expected: Any) -> None:
    """Refuse a part of a checkpoint that has another structure, types or shapes than what it is to be loaded into.

    Parameters
    ----------
    name : str
        What errors call the part.
    received, expected : object
        Nests of dicts, lists and tuples. Numbers may be of any size.

    Raises
    ------
    RunError
        With the first place where they differ.
    """
    if isinstance(expected, Tensor):
        alike = isinstance(received, Tensor) and received.shape == expected.shape and received.dtype == expected.dtype
    elif _is_number(expected):
        alike = _is_number(received)
    elif isinstance(expected, dict):
        alike = isinstance(received, dict) and received.keys() == expected.keys()
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        alike = isinstance(received, list | tuple) and len(received) == len(expected)
    else:
        alike = type(received) is type(expected) and received == expected
    if not alike:
        raise _foreign(f"{name} is {brief(received)}; expected {brief(expected)}")
    if isinstance(expected, dict):
        for key in expected:
            check_same_form(f"{name}.{key}", received[key], expected[key])
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        for index, (its, ours) in enumerate(zip(received, expected, strict=True)):
            check_same_form(f"{name}[{index}]", its, ours)
