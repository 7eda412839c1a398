"""Sequences put together without padding."""

from collections.abc import Iterable

import torch
from torch import Tensor

from unspool._lengths import tokens_of
from unspool._ragged import RaggedBatch as RaggedBatch
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


def collate_ragged(samples: Iterable[tuple[Tensor, int]], *, longest_first: bool = False) -> RaggedBatch:
    """Make a ragged batch of (sequence, label) pairs: each step is copied once, and no padding is written.

    Parameters
    ----------
    samples : iterable of (Tensor of shape (T, ...), int)
        What a data set yields. T may differ and may be zero; the other sizes and the type may not.
    longest_first : bool
        Whether to sort the sequences by length; `RaggedBatch.restore` undoes it for results.

    Returns
    -------
    RaggedBatch
        Values (N, ...), lengths (B,), labels (B,) and order (B,).

    Raises
    ------
    DataError
        If there is no sample, or the sequences differ in more than their number of steps.
    """
    pairs = list(samples)
    if not pairs:
        raise DataError("received no sequences to put into a batch; expected at least one")
    order = list(range(len(pairs)))
    if longest_first:
        order.sort(key=lambda index: -len(pairs[index][0]))
    first = pairs[0][0]
    for index, (sequence, _) in enumerate(pairs):
        if sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
            raise DataError(
                f"sequence {index} has shape {tuple(sequence.shape)} and type {sequence.dtype}; expected "
                f"{('steps', *first.shape[1:])} and {first.dtype}, like the first one"
            )
    return RaggedBatch(
        torch.cat([pairs[index][0] for index in order]),
        torch.tensor([len(pairs[index][0]) for index in order]),
        torch.tensor([pairs[index][1] for index in order]),
        torch.tensor(order),
    )
