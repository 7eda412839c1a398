"""Cutting, joining and moving features.

What such a function does is found out by handing it numbered features: the result says which goes where. So any
spelling will do, and any that lets sequences of the batch influence each other is noticed.

Letters: B sequences of the recording.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import leaves_of
from unspool.program.calls import find_function
from unspool.program.ir import LEAVES, Value
from unspool.program.rules.build import PLACES, CannotRead, add, expanded, filled, fitted, gathered, number, reshaped
from unspool.program.rules.kinds import BATCHWISE
from unspool.program.rules.registry import BROADCASTS, Recorder, Rule, rule


def numbered(rec: Recorder, values: list[Value]) -> list[Tensor]:
    """Return tensors [B, ...] that number the features of all values of a sequence, and then those of the next one."""
    total, start, out = sum(v.width for v in values), 0, []
    for value in values:
        first = np.arange(start, start + value.width).reshape(1, *value.shape)
        out.append(torch.from_numpy(first + _first_of_rows(rec, total, first.ndim)))
        start += value.width
    return out


def order_of(rec: Recorder, moved: Tensor, total: int) -> list[int] | None:
    """Return which of `total` features a result of numbered ones is made of, or None if it mixes sequences."""
    if moved.dim() == 0 or moved.shape[0] != rec.batch:
        return None
    within = moved.numpy() - _first_of_rows(rec, total, moved.dim())
    return within[0].ravel().tolist() if (within == within[:1]).all() else None


def _first_of_rows(rec: Recorder, total: int, rank: int) -> np.ndarray:
    return np.arange(rec.batch).reshape(-1, *[1] * (rank - 1)) * total


def _holds_tensors(*things: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in leaves_of(things))


def _moving(name: str) -> Rule:
    """Make the rule of a method that moves features."""
    method = find_function(f"torch.Tensor.{name}")

    def apply(rec: Recorder, result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        value = rec.value(x)
        if value.level == "param":
            return None
        if _holds_tensors(args, kwargs):
            raise CannotRead(PLACES)
        moved = method(numbered(rec, [value])[0], *args, **kwargs)
        found = []
        for part in [moved] if isinstance(moved, Tensor) else moved:
            order = order_of(rec, part, value.width)
            if order is None and name in BATCHWISE:
                return None
            if order is None:
                raise CannotRead(
                    "moves or takes rows of the batch, which must stay the first axis; features alone may be moved "
                    "(torch.einsum multiplies per head without moving any)",
                    "move features alone, and keep the batch as the first axis",
                )
            found.append(gathered(rec, [value], order, tuple(part.shape[1:])))
        return found[0] if isinstance(moved, Tensor) else found

    return apply


for _name in (
    "t chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split hsplit unbind narrow select __getitem__ "
    "permute transpose mT adjoint movedim moveaxis swapaxes swapdims flip fliplr roll diagonal repeat tile "
    "repeat_interleave"
).split():
    rule(_name)(_moving(_name))


def _joining(name: str) -> Rule:
    """Make the rule of a function that joins features."""
    function = getattr(torch, name)

    def apply(rec: Recorder, result: Tensor, tensors: Any, *args: Any, **kwargs: Any) -> Value | None:
        values = [rec.value(t) for t in tensors]
        if any(v.level == "param" and v.shape != tuple(t.shape[1:]) for v, t in zip(values, tensors, strict=True)):
            return None
        order = order_of(rec, function(numbered(rec, values), *args, **kwargs), sum(v.width for v in values))
        if order == list(range(len(order or []))):
            return add(rec, "concat", values, tuple(result.shape[1:]))
        return None if order is None else gathered(rec, values, order, tuple(result.shape[1:]))

    return apply


for _name in "cat concat concatenate stack hstack column_stack".split():
    rule(_name)(_joining(_name))


@rule("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def _reshape(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    if result.dim() < 1 or result.shape[0] != rec.batch or x.dtype != result.dtype:
        return None
    if not result.is_floating_point() and (value.op in LEAVES or value.op == "call"):
        return None
    return add(rec, "reshape", [value], tuple(result.shape[1:]))


@rule("expand", "expand_as", "broadcast_to")
def _expand(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    if len(value.shape) + 1 != result.dim() or result.shape[0] != rec.batch:
        return None
    return expanded(rec, value, tuple(result.shape[1:]))


@rule("expand", "expand_as", "broadcast_to", table=BROADCASTS)
def _broadcast(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    """Let a parameter that is repeated for every sequence stay what it is: one sequence for all."""
    if result.dim() < 2 or result.shape[0] != rec.batch:
        return None
    value, shape = rec.value(x), tuple(result.shape[1:])
    own = value.shape[1:] if len(value.shape) > len(shape) else value.shape
    if value.width != x.numel() or (len(value.shape) > len(shape) and value.shape[0] != 1):
        return None
    value = reshaped(rec, value, own)
    return value if own == shape else add(rec, "expand", [value], shape)


def _triangle(name: str) -> Rule:
    """Make the rule of a function that keeps a triangle of the last two axes, and puts zero elsewhere."""
    function = getattr(torch, name)

    def apply(rec: Recorder, result: Tensor, x: Tensor, diagonal: int = 0) -> Value | None:
        value = rec.value(x)
        if len(value.shape) < 2:
            return None
        kept = function(torch.ones(value.shape, dtype=result.dtype), diagonal)
        return add(rec, "where", [rec.value(kept), value, number(rec, 0.0)], value.shape)

    return apply


rule("tril")(_triangle("tril"))
rule("triu")(_triangle("triu"))


@rule("pad")
def _pad(
    rec: Recorder, result: Tensor, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None
) -> Value | None:
    old = rec.value(x)
    if mode != "constant" or len(pad) != 2 or min(pad) < 0 or len(old.shape) != 1:
        return None
    left, right = (filled(rec, value or 0.0, width) for width in pad)
    return add(rec, "concat", [v for v in (left, old, right) if v.width], tuple(result.shape[1:]))


@rule("__setitem__")
def _write(rec: Recorder, result: Tensor, before: Tensor, index: Any, new: Any) -> Value | None:
    """Return what a tensor holds after a part of it was written."""
    old = rec.value(before)
    shape = tuple(result.shape[1:])
    if _holds_tensors(index) or old.shape != shape:
        return None
    cut = numbered(rec, [old])[0][index]
    order = order_of(rec, cut, old.width)
    if order is None:
        return None
    value = rec.value(new) if isinstance(new, Tensor) else number(rec, new)
    value = fitted(rec, value, tuple(cut.shape[1:]))
    value = value if value.width == len(order) else add(rec, "expand", [value], (len(order),))
    places = list(range(old.width))
    for place, at in enumerate(order):
        places[at] = old.width + place
    return gathered(rec, [old, value], places, shape)
