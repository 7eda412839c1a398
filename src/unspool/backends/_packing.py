"""Valid steps in the order of PyTorch's packed sequences.

Letters: B batch, N valid steps, K steps of the longest sequence, R sequences that have valid steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspool._lengths import conjugate, tokens_of


@dataclass(frozen=True)
class Packing:
    """Sequences without gaps, packed: step by step, in a step the longest sequences first.

    Attributes
    ----------
    rows : LongTensor of shape (R,)
        The sequences that have valid steps, the longest first.
    batch_sizes : list of int
        How many sequences have a valid step at each of the K steps; it never grows.
    positions : LongTensor of shape (N,)
        For each valid step its place in arrays whose first two axes are flattened.
    row_of_token : LongTensor of shape (N,)
        For each valid step its sequence of the batch.
    """

    rows: Tensor
    batch_sizes: list[int]
    positions: Tensor
    row_of_token: Tensor


def pack(lengths: Tensor, starts: Tensor, stride: int, reverse: bool, device: torch.device) -> Packing:
    """Return how to pack sequences whose valid steps follow each other from the sequence's first step on.

    Parameters
    ----------
    lengths : LongTensor of shape (B,) on the CPU
        The number of valid steps of each sequence.
    starts : LongTensor of shape (B,) on the CPU
        The place of each sequence's first step in arrays whose first two axes are flattened.
    stride : int
        How far apart two steps of a sequence are in such arrays.
    reverse : bool
        Whether sequences are packed from their last valid step to their first.
    device : torch.device
        Of the result's tensors.

    Returns
    -------
    Packing
    """
    rows = lengths.argsort(descending=True, stable=True)[: int(lengths.count_nonzero())]
    sizes = conjugate(lengths)
    step, rank = tokens_of(sizes)
    row = rows[rank]
    time = lengths[row] - 1 - step if reverse else step
    return Packing(
        rows=rows.to(device),
        batch_sizes=sizes.tolist(),
        positions=(starts[row] + time * stride).to(device),
        row_of_token=row.to(device),
    )
