"""Sequences put together as a padded batch."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from unspool.data._errors import DataError

UNLABELLED = -100
"""What stands for the class of a step that has none, as padding has none: PyTorch's losses leave it out."""


class StepSample(NamedTuple):
    """A sequence with a target for every step: ``inputs`` (T, I) and ``targets`` (T, ...)."""

    inputs: Tensor
    targets: Tensor


class SequenceBatch(NamedTuple):
    """A padded batch: ``inputs`` (B, T, I), ``lengths`` (B,) int64 and ``labels`` (B, ...), or None.

    Labels are classes (B,) int64, or numbers (B,) or (B, K).
    """

    inputs: Tensor
    lengths: Tensor
    labels: Any


class StepBatch(NamedTuple):
    """A padded batch with a target per step: ``inputs`` (B, T, I), ``lengths`` (B,) int64, ``targets`` (B, T, ...)."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor


def sequence_mask(lengths: Tensor, steps: int | None = None) -> Tensor:
    """Return which steps of a padded batch are valid.

    Parameters
    ----------
    lengths : Tensor of shape (B,), integer
        The number of steps of each sequence.
    steps : int, optional
        The number of steps T of the batch; the longest sequence's by default.

    Returns
    -------
    Tensor of shape (B, T), bool
        True for the steps before the end of a sequence.

    Raises
    ------
    DataError
        If a sequence is longer than `steps`.
    """
    longest = int(lengths.max()) if len(lengths) else 0
    if steps is not None and longest > steps:
        raise DataError(f"received a length of {longest}; expected at most {steps} (steps)")
    return torch.arange(longest if steps is None else steps, device=lengths.device) < lengths[:, None]


def pad_sequences(
    sequences: Sequence[Tensor], *, pad_to: int | None = None, padding_value: float = 0
) -> tuple[Tensor, Tensor]:
    """Pad sequences of different lengths into one tensor.

    Parameters
    ----------
    sequences : sequence of Tensor of shape (T, ...)
        At least one. T may differ; the other sizes and the dtype may not.
    pad_to : int, optional
        Number of steps of the result; the longest sequence's by default.
    padding_value : float
        What stands after the end of a sequence.

    Returns
    -------
    inputs : Tensor of shape (B, T, ...)
        The padded sequences, in the order given.
    lengths : Tensor of shape (B,), int64
        The number of steps of each.

    Raises
    ------
    DataError
        If there is no sequence, or one is longer than `pad_to`.
    """
    if not sequences:
        raise DataError("received no sequences to put into a batch; expected at least one")
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = int(lengths.max())
    steps = longest if pad_to is None else pad_to
    if longest > steps:
        raise DataError(f"received a sequence of {longest} steps; expected at most {steps} (pad_to)")
    if steps == longest == int(lengths.min()):
        return torch.stack(list(sequences)), lengths
    inputs = sequences[0].new_full((len(sequences), steps, *sequences[0].shape[1:]), padding_value)
    for row, sequence in enumerate(sequences):
        inputs[row, : len(sequence)] = sequence
    return inputs, lengths


@overload
def collate(samples: Iterable[StepSample], *, pad_to: int | None = None) -> StepBatch: ...  # pyright: ignore[reportOverlappingOverload]


@overload
def collate(samples: Iterable[tuple[Tensor, Any]], *, pad_to: int | None = None) -> SequenceBatch: ...


def collate(samples: Iterable[tuple[Tensor, Any]], *, pad_to: int | None = None) -> SequenceBatch | StepBatch:
    """Make a padded batch of the samples of a data set.

    Parameters
    ----------
    samples : iterable of (Tensor of shape (T, I), target) or StepSample
        What a `SequenceDataset` or a `StepLabelledDataset` yields. The target of a sequence is a class, a number, a
        Tensor of shape (K,) or None.
    pad_to : int, optional
        Number of steps of the batch; the longest sequence's by default.

    Returns
    -------
    SequenceBatch or StepBatch
        Inputs (B, T, I), lengths (B,), and labels (B, ...), or None where the samples have none; of a `StepSample` with
        targets (B, T, ...) in their place. After the end of a sequence, inputs and targets are 0, and classes -100,
        which PyTorch's losses leave out; other losses must do so (`sequence_mask`).

    Raises
    ------
    DataError
        As `pad_sequences` does, or if only some of the samples have a target.
    """
    pairs = list(samples)
    inputs, lengths = pad_sequences([sequence for sequence, _ in pairs], pad_to=pad_to)
    if all(isinstance(pair, StepSample) for pair in pairs):
        blank = 0 if pairs[0][1].is_floating_point() else UNLABELLED
        return StepBatch(
            inputs, lengths, pad_sequences([wanted for _, wanted in pairs], pad_to=pad_to, padding_value=blank)[0]
        )
    return SequenceBatch(inputs, lengths, labels_of(pairs))


def labels_of(pairs: Sequence[tuple[Tensor, Any]]) -> Tensor | None:
    """Return the targets of samples that have one for each sequence, or None.

    Parameters
    ----------
    pairs : sequence of (Tensor, target)
        The samples.

    Raises
    ------
    DataError
        If only some of them have one.
    """
    labels = [label for _, label in pairs]
    without = sum(label is None for label in labels)
    if without == len(labels):
        return None
    if without:
        raise DataError(f"received {without} samples of {len(labels)} without a target; expected one for each, or none")
    return torch.stack(labels) if isinstance(labels[0], Tensor) else torch.tensor(labels)
