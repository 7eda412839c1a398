"""The words that rules are written in: they append operations to the recorder's program."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import flatten
from unspool._reason import Reason
from unspool.program.calls import remember
from unspool.program.evaluate import constant
from unspool.program.ir import Value
from unspool.program.rules.registry import Recorder
from unspool.program.source import TraceError, source_line

PIECES = 128
"""What would take more instructions than this is refused, or done another way."""

NARROW = 8
"""Features are moved in pieces only where these are this wide on average, or few: else by a table of places."""

BRANCH = "choose with torch.where in place of branching on values or taking them out"
BROADCAST = "let the parameter be broadcast"
PLACES = Reason(
    "takes its places from a tensor; numbers, slices and lists of numbers are read as places",
    "take places by numbers, slices or lists of numbers",
)


class CannotRead(TraceError):
    """A rule knows its function, but no program can do what is asked: the text goes on after the function's name."""


def too_many(vectors: int, how: str = "") -> Reason:
    """Return the reason against a product of so many vectors of each sequence; `how` says how to have fewer."""
    what = f"multiplies {vectors} vectors of each row with a parameter, one after the other"
    return Reason.ending(f"{what}, and at most {PIECES} are read", f"multiply fewer and longer ones{how}")


def add(rec: Recorder, op: str, args: Iterable[Value], shape: tuple[int, ...], **attrs: Any) -> Value:
    """Append an operation, with the user's line."""
    return rec.program.add(op, args, shape, source=source_line(of_module=False), **attrs)


def number(rec: Recorder, value: float) -> Value:
    """Return a constant."""
    return rec.value(float(value))


def called(
    rec: Recorder, function: str, arguments: Any, shape: tuple[int, ...], index: int | None = None,
    like: Tensor | None = None,
) -> Value:  # fmt: skip
    """Append a call to PyTorch, of values of parameters alone.

    Parameters
    ----------
    rec : Recorder
    function : str
        A name for `find_function`.
    arguments : (tuple, dict)
        Positional ones, which may be nested, and those by name.
    shape : tuple of int
    index : int, optional
        Of a function with several results which one it is.
    like : Tensor, optional
        Of the result's dtype; the usual floating-point one without it.
    """
    leaves, spec = flatten(arguments)
    values = [leaf for leaf in leaves if isinstance(leaf, Value)]
    places = {id(value): place for place, value in enumerate(values)}
    template = [
        ["value", places[id(x)]] if isinstance(x, Value)
        else ["dtype", str(x).removeprefix("torch.")] if isinstance(x, torch.dtype) else ["plain", x]
        for x in leaves
    ]  # fmt: skip
    spec = remember(spec)
    dtype = {} if like is None or like.is_floating_point() else {"dtype": str(like.dtype)}
    return add(rec, "call", values, shape, function=function, template=template, spec=spec, index=index, **dtype)


# ------------------------------------------------------------------------------------------------ pointwise


def fitted(rec: Recorder, value: Value, shape: tuple[int, ...]) -> Value:
    """Return a value that can stand beside others of this feature shape: equal, one per sequence, or one for all."""
    if value.level == "param":
        own = value.shape
        while len(own) > len(shape) and own[:1] == (1,):
            own = own[1:]
        if value.width == 1 or own == shape:
            return (
                value if value.shape in ((), shape) else add(rec, "reshape", [value], () if value.width == 1 else shape)
            )
        return add(rec, "expand", [value], shape)
    return value if value.width == 1 and len(value.shape) == len(shape) else expanded(rec, value, shape)


def expanded(rec: Recorder, value: Value, shape: tuple[int, ...]) -> Value:
    """Return a value repeated along axes of size 1, or before its first one."""
    if value.shape == shape:
        return value
    own = (*[1] * (len(shape) - len(value.shape)), *value.shape)
    long = [k for k, (a, b) in enumerate(zip(own, shape, strict=True)) if a == 1 != b]
    leading = all(own[k] == 1 for k in range(max(long, default=0)))
    last = long == [len(shape) - 1]
    if value.level == "param" or value.width == 1 or leading or last:
        return add(rec, "expand", [value], shape)
    places = np.broadcast_to(np.arange(value.width).reshape(own), shape)
    return add(rec, "gather", [value], shape, index=places.ravel().tolist())


def pointwise(rec: Recorder, op: str, args: list[Any], result: Tensor, **attrs: Any) -> Value | None:
    """Append a function of values that PyTorch has broadcast to the shape of its result."""
    if any(isinstance(a, int) and a == rec.batch and not isinstance(a, bool) for a in args):
        raise CannotRead(
            "takes the number of rows as a number; it differs from step to step, as rows come to their ends",
            "compute without the number of rows",
        )
    values = [a if isinstance(a, Value) else rec.value(a) for a in args]
    ranks = {len(v.shape) for v in values if v.level != "param"}
    shape = tuple(result.shape[1:])
    if ranks != {len(shape)}:
        return None  # PyTorch has lined up the batch of one with features of another
    return add(rec, op, [fitted(rec, v, shape) for v in values], shape, **attrs)


def unary(rec: Recorder, op: str, x: Any, *imm: float) -> Value:
    """Append a function of one value."""
    value = x if isinstance(x, Value) else rec.value(x)
    return add(rec, op, [value], value.shape, **({"imm": list(imm)} if imm else {}))


def both(rec: Recorder, op: str, a: Value, b: Value | float) -> Value:
    """Append a function of two values of one shape; either may be a parameter, a number, or one per sequence."""
    b = b if isinstance(b, Value) else number(rec, b)
    shape = a.shape if (a.level != "param" or b.level == "param") and a.width >= b.width else b.shape
    return add(rec, op, [fitted(rec, a, shape), fitted(rec, b, shape)], shape)


def where(rec: Recorder, condition: Value, a: Value | float, b: Value | float) -> Value:
    """Append a choice; numbers stand for constants."""
    a, b = (x if isinstance(x, Value) else number(rec, x) for x in (a, b))
    return add(rec, "where", [condition, a, b], condition.shape)


# ------------------------------------------------------------------------------------------------ moves


def reshaped(rec: Recorder, value: Value, shape: tuple[int, ...]) -> Value:
    """Return a value with another feature shape."""
    return value if value.shape == shape else add(rec, "reshape", [value], shape)


def flat_slice(rec: Recorder, value: Value, start: int, stop: int, shape: tuple[int, ...] | None = None) -> Value:
    """Append a slice of a value's features in their order in memory."""
    return add(rec, "slice", [value], (stop - start,) if shape is None else shape, start=start, stop=stop)


def filled(rec: Recorder, value: float, width: int) -> Value:
    """Return a vector of one number."""
    return add(rec, "expand", [number(rec, value)], (width,))


def gathered(rec: Recorder, values: list[Value], order: list[int], shape: tuple[int, ...]) -> Value:
    """Append a choice of features.

    Parameters
    ----------
    rec : Recorder
    values : list of Value
    order : list of int
        For each feature of the result its place among the features of all values, side by side.
    shape : tuple of int

    Returns
    -------
    Value
    """
    starts = [0]
    for value in values:
        starts.append(starts[-1] + value.width)
    borders = set(starts)
    cuts = [k for k, (a, b) in enumerate(pairwise(order), 1) if b != a + 1 or b in borders]
    count = len(cuts) + 1
    if count > PIECES or (count > NARROW and len(order) < count * NARROW):
        return _by_places(rec, values, order, shape)
    pieces = []
    for first, last in pairwise([0, *cuts, len(order)]) if order else []:
        at = next(k for k in range(len(values)) if starts[k] <= order[first] < starts[k + 1])
        value, start = values[at], order[first] - starts[at]
        width = last - first
        if width == value.width:
            pieces.append(value)
        elif value.level != "param":
            pieces.append(flat_slice(rec, value, start, start + width, (width,) if cuts else shape))
        else:
            same = constant(value)
            if same is None:
                return _by_places(rec, values, order, shape)
            pieces.append(filled(rec, same, width))
    if not pieces:
        return flat_slice(rec, values[0], 0, 0, shape)
    whole = len(pieces) == 1 and pieces[0].level != "param"
    return reshaped(rec, pieces[0], shape) if whole else add(rec, "concat", pieces, shape)


def _by_places(rec: Recorder, values: list[Value], order: list[int], shape: tuple[int, ...]) -> Value:
    """Choose features one by one."""
    whole = values[0] if len(values) == 1 else add(rec, "concat", values, (sum(v.width for v in values),))
    return add(rec, "gather", [whole], shape, index=order)


def permuted(rec: Recorder, value: Value, axes: list[int]) -> Value:
    """Return a value with its feature axes in another order."""
    moved = np.arange(value.width).reshape(value.shape).transpose(axes)
    return gathered(rec, [value], moved.ravel().tolist(), moved.shape)


# ------------------------------------------------------------------------------------------------ reductions


def axes_of(value: Value, dim: Any) -> list[int] | None:
    """Return which of a value's feature axes `dim` names, or None if it names the batch, all axes, or no axes."""
    rank = len(value.shape) + 1
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    if value.level == "param" or not dims or any(isinstance(d, bool) or not isinstance(d, int) for d in dims):
        return None
    axes = sorted({d % rank - 1 for d in dims})
    return None if -1 in axes else axes


def feature_axes(value: Value, dim: Any) -> list[int]:
    """Return which of a value's feature axes `dim` names.

    Raises
    ------
    CannotRead
        If it names the batch, or all axes.
    """
    axes = axes_of(value, dim)
    if axes is None:
        raise CannotRead(
            "takes the rows of the batch together, which must not influence each other: give it axes of features "
            "(dim=1 or higher). What a branch or a loop asks of all rows is not read either; torch.where chooses "
            "by row",
            "give it axes of features (dim=1 or higher), and choose with torch.where in place of branching on it",
        )
    return axes


def reduced(rec: Recorder, op: str, value: Value, axes: list[int], keepdim: bool = True) -> Value:
    """Append a reduction over feature axes: `sum`, `mean` or `max`."""
    shape = value.shape
    rest = [k for k in range(len(shape)) if k not in axes]
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape)) if keepdim else tuple(shape[k] for k in rest)
    long = [k for k in axes if shape[k] != 1]
    if op != "max" and len(long) == 1 and all(n == 1 for n in shape[: long[0]]) and 1 < shape[long[0]] <= PIECES:
        inner = math.prod(shape[long[0] + 1 :])
        if inner > 1:  # the pieces lie one after the other: add them up
            count = shape[long[0]]
            total = flat_slice(rec, value, 0, inner)
            for k in range(1, count):
                total = both(rec, "add", total, flat_slice(rec, value, k * inner, (k + 1) * inner))
            total = total if op == "sum" else both(rec, "mul", total, 1.0 / count)
            return reshaped(rec, total, kept)
    at_end = permuted(rec, value, [*rest, *axes])
    outer = tuple(shape[k] for k in rest)
    flat = reshaped(rec, at_end, (*outer, math.prod(shape[k] for k in axes)))
    return reshaped(rec, add(rec, op, [flat], (*outer, 1)), kept)
