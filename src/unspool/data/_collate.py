"""Sequences put together as a padded batch."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unspool.data._errors import DataError


class SequenceBatch(NamedTuple):
    """A padded batch: ``inputs`` (B, T, I), ``lengths`` (B,) int64 and ``labels`` (B,) int64."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor


def pad_sequences(sequences: Sequence[Tensor], *, pad_to: int | None = None) -> tuple[Tensor, Tensor]:
    """Pad sequences of different lengths with zeros into one tensor.

    Parameters
    ----------
    sequences : sequence of Tensor of shape (T, ...)
        At least one. T may differ; the other sizes and the dtype may not.
    pad_to : int, optional
        Number of steps of the result; the longest sequence's by default.

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
    inputs = sequences[0].new_zeros(len(sequences), steps, *sequences[0].shape[1:])
    for row, sequence in enumerate(sequences):
        inputs[row, : len(sequence)] = sequence
    return inputs, lengths


def collate(samples: Iterable[tuple[Tensor, int]], *, pad_to: int | None = None) -> SequenceBatch:
    """Make a batch of (sequence, label) pairs.

    Parameters
    ----------
    samples : iterable of (Tensor of shape (T, I), int)
        What a `SequenceDataset` yields.
    pad_to : int, optional
        Number of steps of the batch; the longest sequence's by default.

    Returns
    -------
    SequenceBatch
        Inputs (B, T, I), lengths (B,) and labels (B,).

    Raises
    ------
    DataError
        As `pad_sequences` does.
    """
    pairs = list(samples)
    inputs, lengths = pad_sequences([sequence for sequence, _ in pairs], pad_to=pad_to)
    return SequenceBatch(inputs, lengths, torch.tensor([label for _, label in pairs]))
