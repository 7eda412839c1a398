"""Ragged batches: rows of different lengths one after the other, read and written where they are.

Letters: B batch, T steps, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._lengths import conjugate, tokens_of
from unspool._nest import Nest, describe, map_leaves
from unspool._ragged import RaggedBatch
from unspool.backends import Schedule
from unspool.execution._arguments import BoolArray, IntArray, as_tensor


def ragged_inputs(batch: RaggedBatch, sequence_length: IntArray | None, mask: BoolArray | None) -> Tensor:
    """Check a ragged batch and return its values as `[N, 1, ...]`, which is how backends take them.

    Parameters
    ----------
    batch : RaggedBatch
    sequence_length, mask : optional
        What the user passed beside it.

    Raises
    ------
    TypeError
        If values are not a tensor, or lengths not a tensor of integers.
    ValueError
        If lengths or a mask were passed too, or the lengths do not fit the values.
    """
    if sequence_length is not None or mask is not None:
        raise ValueError(
            "lengths or mask were given beside a RaggedBatch; expected the batch alone, which has its own lengths. "
            "To leave steps out, make the batch without them; or pass inputs, lengths = batch.to_padded() and the mask."
        )
    values, lengths = batch.values, batch.lengths
    if not isinstance(values, Tensor) or values.dim() == 0:
        raise TypeError(
            f"the values of a RaggedBatch are {describe(values)}; expected one tensor of shape [N, ...], the steps of "
            "all rows one after the other."
        )
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise TypeError(
            f"the lengths of a RaggedBatch are {describe(lengths)}; expected a tensor of integers of shape [B]. "
            "Convert them with torch.as_tensor(lengths)."
        )
    if lengths.dim() != 1 or bool((lengths < 0).any()) or int(lengths.sum()) != len(values):
        raise ValueError(
            f"a RaggedBatch has values {list(values.shape)} and lengths {lengths.tolist()}, {int(lengths.sum())} steps "
            f"in all; expected lengths of at least 0, one per row, {len(values)} in all. Make it with "
            "unspool.data.collate_ragged or ragged_from_padded, and change values token by token."
        )
    return values.unsqueeze(1)


def ragged_schedule(
    batch: RaggedBatch, resets: BoolArray | None, reverse: bool, num_steps: int | None = None
) -> Schedule:
    """Return when which row of a checked ragged batch is computed.

    Parameters
    ----------
    batch : RaggedBatch
    resets : booleans of shape (N,), optional
        One for each of the batch's values.
    reverse : bool
        See `dynamic_rnn`.
    num_steps : int, optional
        T; the longest row's by default, and at least that.

    Raises
    ------
    TypeError
        If resets are not booleans.
    ValueError
        If there is not one of them for each of the values.
    """
    lengths = batch.lengths.detach().to("cpu", torch.long)
    steps = longest(batch) if num_steps is None else num_steps
    flags = None
    if resets is not None:
        flags = as_tensor(resets, "resets")
        what = f"booleans of shape [{len(batch.values)}], one for each step of the RaggedBatch's values"
        if flags.dtype != torch.bool:
            raise TypeError(f"resets has dtype {flags.dtype}; expected {what}. Convert it with .bool().")
        if flags.shape != batch.values.shape[:1]:
            raise ValueError(f"resets has shape {list(flags.shape)}; expected {what}.")
        flags = flags.detach().cpu()
    device = batch.values.device
    return Schedule(steps, len(lengths), None, flags, lengths=lengths, reverse=reverse, device=device, ragged=True)


def longest(batch: RaggedBatch) -> int:
    """Return the number of steps of the longest row.

    Parameters
    ----------
    batch : RaggedBatch
    """
    return int(batch.lengths.max()) if len(batch.lengths) else 0


def ragged_of_packed(packed: PackedSequence) -> tuple[RaggedBatch, Tensor]:
    """Return a packed sequence as a ragged batch of its rows, the longest first as they are packed.

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
    """Return what belongs to rows in another order of them; what cannot be such, others refuse.

    Parameters
    ----------
    tree : nesting of Tensor
    axis : int
        Where the rows are.
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
    """Pack a ragged batch as another one was, of whose rows it is.

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
