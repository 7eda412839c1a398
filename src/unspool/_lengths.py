"""Rows of different lengths as tables of their tokens, at the cost of the tokens: O(N + B + K).

Letters: B rows, N tokens (the real steps of all rows), K steps of the longest row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tokens_of(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each token and its step in that row, row after row: twice `[N]`.

    Parameters
    ----------
    lengths : LongTensor of shape (B,)
    """
    row = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    starts = lengths.cumsum(0) - lengths
    return row, torch.arange(len(row), device=lengths.device) - starts[row]


def conjugate(lengths: Tensor) -> Tensor:
    """Return how many rows have a token at each step: `[K]`, which never grows.

    These are the `batch_sizes` of a packed sequence. Of such sizes this is the inverse: the lengths of the rows, the
    longest first. And `tokens_of` them gives step and rank of each token in packed order.

    Parameters
    ----------
    lengths : LongTensor of shape (B,)
    """
    ended = torch.bincount(lengths, minlength=1).cumsum(0)  # rows that have no more than 0, 1, ... K tokens
    return len(lengths) - ended[:-1]
