"""Ragged batches: sequences of different lengths one after the other, read and written where they are.

Letters: B batch, T steps, N valid steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._lengths import conjugate, tokens_of
from unspool._nest import Nest, map_leaves
from unspool._ragged import RaggedBatch


def ragged_of_packed(packed: PackedSequence) -> tuple[RaggedBatch, Tensor]:
    """Return a packed sequence as a ragged batch of its sequences, the longest first as they are packed.

    Packing and padding are O(T N) in PyTorch's backward pass; this is one permutation.

    Parameters
    ----------
    packed : PackedSequence

    Returns
    -------
    RaggedBatch
    places : Tensor of shape (N,), int64
        For each value of the packed sequence its place in the batch: `batch.values[places]` is its data.
    """
    sizes = packed.batch_sizes
    rows, count = int(sizes[0]), len(packed.data)
    lengths = conjugate(sizes)
    starts = lengths.cumsum(0) - lengths
    step, row = tokens_of(sizes)
    places = starts[row] + step
    inverse = torch.empty_like(places)
    inverse[places] = torch.arange(count, device="cpu")
    device = packed.data.device
    values = packed.data.index_select(0, inverse.to(device))
    return RaggedBatch(values, lengths, None, torch.arange(rows, device="cpu")), places.to(device)


def take_rows_of(tree: Nest, axis: int, order: Tensor | None) -> Nest:
    """Return what belongs to sequences in another order of them; what cannot be such, others refuse.

    Parameters
    ----------
    tree : nesting of Tensor
    axis : int
        Where the sequences are.
    order : Tensor of shape (B,), int64, optional
        None for the order that there is.
    """
    if order is None:
        return tree

    def take(leaf: Any) -> Any:
        fits = isinstance(leaf, Tensor) and leaf.dim() > axis and leaf.shape[axis] == len(order)
        return leaf.index_select(axis, order) if fits else leaf

    return map_leaves(take, tree)


def packed_like(batch: RaggedBatch, packed: PackedSequence, places: Tensor) -> PackedSequence:
    """Pack a ragged batch as another one was, of whose sequences it is.

    Parameters
    ----------
    batch : RaggedBatch
    packed : PackedSequence
    places : Tensor of shape (N,), int64
        As `ragged_of_packed` returned them.
    """
    return PackedSequence(batch.values.index_select(0, places), *packed[1:])


def map_values(function: Callable[..., Any], tree: Nest, *others: Nest) -> Nest:
    """Apply a function to the leaves of structures; to the values alone where these are ragged batches.

    Parameters
    ----------
    function : callable
        Takes one leaf of each structure.
    tree, *others : nesting of Tensor or RaggedBatch
        Of the same structure.
    """

    def apply(leaf: Any, *leaves: Any) -> Any:
        if not isinstance(leaf, RaggedBatch):
            return function(leaf, *leaves)
        return leaf._replace(values=function(leaf.values, *[other.values for other in leaves]))

    return map_leaves(apply, tree, *others, stop_at=lambda node: isinstance(node, RaggedBatch))
