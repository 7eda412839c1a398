"""Sequences put together without padding."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from unspool._lengths import tokens_of
from unspool._ragged import RaggedBatch as RaggedBatch
from unspool.data._collate import StepSample, labels_of
from unspool.data._errors import DataError


def ragged_from_padded(inputs: Tensor, lengths: Tensor, labels: Tensor | None = None) -> RaggedBatch:
    """Convert a padded batch to a ragged one, without the padding.

    Parameters
    ----------
    inputs : Tensor of shape (B, T, ...)
        The padded sequences.
    lengths : Tensor of shape (B,), int64
        The number of steps of each, from 0 to T.
    labels : Tensor of shape (B,), optional
        Their labels.

    Raises
    ------
    DataError
        If the lengths do not fit the inputs.
    """
    if lengths.shape != inputs.shape[:1] or int(lengths.min()) < 0 or int(lengths.max()) > inputs.shape[1]:
        raise DataError(
            f"received lengths of shape {tuple(lengths.shape)} from {int(lengths.min())} to {int(lengths.max())}; "
            f"expected ({inputs.shape[0]},) from 0 to {inputs.shape[1]}"
        )
    lengths = lengths.to(inputs.device)
    return RaggedBatch(
        inputs[tokens_of(lengths.long())], lengths, labels, torch.arange(len(lengths), device=inputs.device)
    )


def collate_ragged(samples: Iterable[tuple[Tensor, Any]], *, longest_first: bool = False) -> RaggedBatch:
    """Make a ragged batch of the samples of a data set: each step is copied once, and no padding is written.

    Parameters
    ----------
    samples : iterable of (Tensor of shape (T, ...), target) or StepSample
        What a data set yields, as for `collate`. T may differ and may be zero; the other sizes and the type may not.
    longest_first : bool
        Whether to sort the sequences by length; `RaggedBatch.restore` undoes it for results.

    Returns
    -------
    RaggedBatch
        Values (N, ...), lengths (B,), labels (B, ...) or None, and order (B,); of a `StepSample` with targets (N, ...)
        instead of labels.

    Raises
    ------
    ValueError
        As `RaggedBatch.from_sequences` does, or if only some of the samples have a target.
    """
    pairs = list(samples)
    order = list(range(len(pairs)))
    if longest_first:
        order.sort(key=lambda index: -len(pairs[index][0]))
    pairs = [pairs[index] for index in order]
    per_step = bool(pairs) and all(isinstance(pair, StepSample) for pair in pairs)
    batch = RaggedBatch.from_sequences(
        [sequence for sequence, _ in pairs],
        None if per_step else labels_of(pairs),
        [wanted for _, wanted in pairs] if per_step else None,
    )
    return batch._replace(order=torch.tensor(order))
