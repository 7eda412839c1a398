"""Sequences of different lengths as tables of their valid steps, at the cost of the valid steps: O(N + B + K).

Letters: B sequences, N valid steps of all sequences, K steps of the longest sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tokens_of(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sequence of each valid step and its step in that sequence, sequence after sequence: twice `[N]`.

    Parameters
    ----------
    lengths : LongTensor of shape (B,)
    """
    row = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    starts = lengths.cumsum(0) - lengths
    return row, torch.arange(len(row), device=lengths.device) - starts[row]


def conjugate(lengths: Tensor) -> Tensor:
    """Return how many sequences have a valid step at each step: `[K]`, which never grows.

    These are the `batch_sizes` of a packed sequence. Of such sizes this is the inverse: the lengths of the sequences,
    the longest first. And `tokens_of` them gives step and rank of each valid step in packed order.

    Parameters
    ----------
    lengths : LongTensor of shape (B,)
    """
    ended = torch.bincount(lengths, minlength=1).cumsum(0)  # sequences that have no more than 0, 1, ... K valid steps
    return len(lengths) - ended[:-1]
