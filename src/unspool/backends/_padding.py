"""What stands where nothing is computed: filled in once, after a backend has run.

Letters: B batch, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unspool._nest import Nest, map_leaves
from unspool.backends._schedule import Schedule


def repeated(schedule: Schedule, values: Nest, before: Nest | None = None) -> Nest:
    """Fill the padding of values with those of the valid step computed before it in that sequence.

    Parameters
    ----------
    schedule : Schedule
    values : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
        Such arrays have no padding.
    before : nesting of Tensor of shape (B, ...), optional
        What stands before a sequence's first valid step; zeros by default.

    Returns
    -------
    nesting of Tensor
        In the form of `values`.
    """
    if schedule.dense or schedule.ragged:
        return values
    zeros = map_leaves(lambda leaf: leaf.new_zeros(leaf.shape[1:]), values) if before is None else before
    return map_leaves(lambda leaf, first: _repeated(schedule, leaf, first), values, zeros)


def _repeated(schedule: Schedule, values: Tensor, before: Tensor) -> Tensor:
    tail = [1] * (values.dim() - 2)
    if schedule.listed and schedule.right_padded:
        # A sequence has one padding, which comes after its last valid step; in reverse, before the first one computed.
        if not schedule.reverse and len(values):
            last = schedule.last
            found = values.flatten(0, 1).index_select(0, last.clamp(min=0))
            before = torch.where((last < 0).view(-1, *tail), before, found)
        places = schedule.positions  # as many as there are valid steps: no table of all places
        around = before.expand_as(values).flatten(0, 1)
        return around.index_copy(0, places, values.flatten(0, 1).index_select(0, places)).view_as(values)
    in_order = values.flip(0) if schedule.reverse else values
    number = (schedule.latest + 1).view(*schedule.shape, *tail).expand_as(values)
    filled = torch.cat([before.unsqueeze(0), in_order]).gather(0, number)
    return filled.flip(0) if schedule.reverse else filled
