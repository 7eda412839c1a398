"""Classify the sequences of a file with a checkpoint."""

from pathlib import Path

import torch
from torch import Tensor

from unspool.data import DataError, pad_sequences, read_sequences

from .errors import RunError
from .evaluate import load_module
from .recipes import Recipe
from .results import Prediction

_BATCH = 256


def predict(checkpoint: str | Path, source: str | Path) -> list[Prediction]:
    """Classify the sequences of a file, on the CPU.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote.
    source : str or Path
        Sequences in a format that `unspool.data.read_sequences` knows, as raw as those that the model was trained on:
        12 coefficients a step for Japanese Vowels, pixels from 0 to 255 in rows of 28 for MNIST.

    Returns
    -------
    list of Prediction
        One for each sequence, in the order of the file.

    Raises
    ------
    RunError
        If the checkpoint is none, or its model does not tell classes of sequences apart.
    DataError
        If the file cannot be read, or its sequences do not fit the model.
    """
    module = load_module(checkpoint)
    recipe = module.recipe
    if recipe.objective != "classes":
        raise RunError(
            f"{checkpoint}: the model ({recipe.dataset}, {recipe.model}) predicts something after every step, not a "
            "class per sequence; unspool evaluate tests it"
        )
    sequences = read_sequences(source)
    _check(sequences, recipe, Path(source))
    pad_to = recipe.num_steps if recipe.execution == "static" else None
    names = module.class_names
    predictions: list[Prediction] = []
    with torch.inference_mode():
        for first in range(0, len(sequences), _BATCH):
            inputs, lengths = pad_sequences([s.float() for s in sequences[first : first + _BATCH]], pad_to=pad_to)
            best = module(inputs, lengths).softmax(-1).max(-1)
            predictions += [
                Prediction(first + row, names[label], probability)
                for row, (probability, label) in enumerate(
                    zip(best.values.tolist(), best.indices.tolist(), strict=True)
                )
            ]
    return predictions


def _check(sequences: list[Tensor], recipe: Recipe, source: Path) -> None:
    for index, sequence in enumerate(sequences):
        steps, width = sequence.shape
        if width != recipe.input_size:
            raise DataError(
                f"{source}: sequence {index} has {width} values a step ({steps} steps); the model of this checkpoint "
                f"({recipe.dataset}, {recipe.model}) expects {recipe.input_size}"
            )
        if recipe.execution == "static" and steps > recipe.num_steps:
            raise DataError(
                f"{source}: sequence {index} has {steps} steps; this model is unrolled for at most "
                f"{recipe.num_steps}. Shorten it, or train with --execution dynamic"
            )
        if recipe.dataset == "mnist" and (float(sequence.min()) < 0 or float(sequence.max()) > 255):
            raise DataError(
                f"{source}: sequence {index} has values from {float(sequence.min()):g} to "
                f"{float(sequence.max()):g}; expected pixels from 0 to 255"
            )
    if recipe.dataset == "mnist" and 0 < max(float(sequence.max()) for sequence in sequences) <= 1:
        raise DataError(f"{source}: no pixel is above 1; expected pixels from 0 to 255. Multiply them by 255")
