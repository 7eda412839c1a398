"""Sums, means, largest and smallest over features; running sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unspool.program.ir import Value
from unspool.program.operations import of_kind
from unspool.program.rules.build import (
    add,
    axes_of,
    both,
    feature_axes,
    filled,
    fitted,
    flat_slice,
    pointwise,
    reduced,
    unary,
    where,
)
from unspool.program.rules.pointwise import truth
from unspool.program.rules.registry import Recorder, Rule, rule


def _reduction(op: str) -> Rule:
    def apply(rec: Recorder, result: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Value:
        value = rec.value(x)
        return reduced(rec, op, value, feature_axes(value, dim), keepdim)

    return apply


for _op in of_kind("reduce").values():
    rule(*_op.reads)(_reduction(_op.name))


def _smallest(rec: Recorder, value: Value, axes: list[int], keepdim: bool = True) -> Value:
    return unary(rec, "neg", reduced(rec, "max", unary(rec, "neg", value), axes, keepdim))


@rule("amin")
def _amin(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False) -> Value:
    value = rec.value(x)
    return _smallest(rec, value, feature_axes(value, dim), keepdim)


def _extreme(largest: bool) -> Rule:
    """Make the rule of `max` or `min`, of two tensors or over an axis."""

    def apply(rec: Recorder, result: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, Tensor):
            return pointwise(rec, "maximum" if largest else "minimum", [x, dim], result)
        value = rec.value(x)
        axes = feature_axes(value, dim)
        # Unlike that of amax, the gradient goes to one feature alone: the first of the largest.
        best = reduced(rec, "max", value, axes) if largest else _smallest(rec, value, axes)
        at = both(rec, "eq", value, fitted(rec, best, value.shape))
        (axis_of,) = axes
        count = value.shape[axis_of]
        down = torch.arange(count, 0, -1, dtype=result[0].dtype)
        down = down.view([count if k == axis_of else 1 for k in range(len(value.shape))]).expand(value.shape)
        place = where(rec, at, rec.value(down.contiguous()), 0.0)
        first = reduced(rec, "max", place, axes)
        chosen = where(rec, both(rec, "eq", place, fitted(rec, first, value.shape)), value, 0.0)
        return [reduced(rec, "sum", chosen, axes, keepdim), None]

    return apply


rule("max")(_extreme(largest=True))
rule("min")(_extreme(largest=False))


def _logical(all_of: bool) -> Rule:
    def apply(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, keepdim: bool = False) -> Value:
        axes = feature_axes(rec.value(x), dim)
        value = truth(rec, x)
        return _smallest(rec, value, axes, keepdim) if all_of else reduced(rec, "max", value, axes, keepdim)

    return apply


rule("any")(_logical(all_of=False))
rule("all")(_logical(all_of=True))


@rule("count_nonzero")
def _count(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None) -> Value:
    axes = feature_axes(rec.value(x), dim)
    return reduced(rec, "sum", truth(rec, x), axes, keepdim=False)


def _running(op: str, neutral: float) -> Rule:
    """Make the rule of a running sum or product: of 1, 2, 4, ... features at a time, so that it takes few steps."""

    def apply(rec: Recorder, result: Tensor, x: Tensor, dim: int) -> Value | None:
        value = rec.value(x)
        if len(value.shape) != 1 or axes_of(value, dim) != [0]:
            return None
        step = 1
        while step < value.width:
            before = flat_slice(rec, value, 0, value.width - step)
            value = both(rec, op, value, add(rec, "concat", [filled(rec, neutral, step), before], value.shape))
            step *= 2
        return value

    return apply


rule("cumsum")(_running("add", 0.0))
rule("cumprod")(_running("mul", 1.0))
