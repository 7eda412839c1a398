"""Predict for one's own sequences with a checkpoint."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspool.data import Sequences, pad_sequences
from unspool.training.batches import evaluation_batch
from unspool.training.errors import RunError
from unspool.training.metrics import numbers_of
from unspool.training.module import SequenceModule
from unspool.training.recipes._recipe import NUMBERS, PER_SEQUENCE
from unspool.training.results import Prediction
from unspool.training.sequence_parts import SequenceEncoder, read_own


def predict_own(module: SequenceModule, files: Sequence[str | Path]) -> Iterator[Prediction]:
    """Yield what a model of one's own sequences makes of those in files, with labels or without.

    Parameters
    ----------
    module : SequenceModule
        Of a checkpoint.
    files : sequence of str or Path
        Files, folders or patterns, of the form of those that the model was trained on.

    Raises
    ------
    RunError
        If the checkpoint does not say how inputs are made.
    DataError
        If a file cannot be read, or has other features.
    """
    recipe = module.recipe
    if module.tokenizer is None:
        raise RunError("no encoder in this checkpoint, so sequences cannot be made inputs; train it again")
    encoder = SequenceEncoder.from_json(module.tokenizer)
    known: dict[str, Any] = {"categories": encoder.categories}
    if recipe.objective not in NUMBERS:
        known["class_names"] = list(module.class_names)
    for file in files:
        sequences = read_own(file, recipe.options, labelled=False, **known)
        inputs = encoder.inputs(sequences)
        size = evaluation_batch(max(map(len, inputs)))
        for first in range(0, len(inputs), size):
            batch, lengths = pad_sequences(inputs[first : first + size])
            with torch.inference_mode():
                outputs = module(batch, lengths)
            for row, steps in enumerate(lengths.tolist()):
                yield from _of_sequence(module, sequences, first + row, outputs[row], steps, str(file))


def _of_sequence(
    module: SequenceModule, sequences: Sequences, index: int, outputs: Tensor, steps: int, file: str
) -> Iterator[Prediction]:
    per_step = module.recipe.objective not in PER_SEQUENCE
    rows = outputs[:steps] if per_step else outputs[None]
    names = module.class_names
    for step, values in enumerate(_meaning(module, rows)):
        where: dict[str, Any] = {"file": file, "id": sequences.ids[index]}
        if per_step:
            where["step"] = step
            where["time"] = None if sequences.times is None else _plain_time(sequences.times[index][step])
        if module.recipe.objective in NUMBERS:
            called = ("value",) if len(names) == 1 else tuple(f"value_{name}" for name in names)
            yield Prediction(index, values=dict(zip(called, values, strict=True)), **where)
        else:
            best = max(range(len(values)), key=values.__getitem__)
            shares = dict(zip(names, values, strict=True))
            yield Prediction(index, names[best], values[best], shares, **where)


def _meaning(module: SequenceModule, rows: Tensor) -> list[list[float]]:
    """Return outputs (N, K) as numbers of the source's units, or as probabilities."""
    if module.recipe.objective in NUMBERS:
        return numbers_of(module, rows).tolist()
    return rows.softmax(-1).tolist()


def _plain_time(time: Any) -> float | str:
    return float(time) if time.dtype.kind == "f" else str(time)
