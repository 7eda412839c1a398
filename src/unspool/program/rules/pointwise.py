"""Arithmetic, comparisons and choices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unspool.program.ir import LEAVES, Value
from unspool.program.operations import of_kind
from unspool.program.rules.build import CannotRead, add, both, expanded, fitted, number, pointwise, unary, where
from unspool.program.rules.registry import Recorder, Rule, rule

# ------------------------------------------------------------------------------------------------ arithmetic


def _reversed(function: Rule) -> Rule:
    return lambda rec, result, a, b, *, alpha=1: function(rec, result, b, a, alpha=alpha)


def _swapped(function: Rule) -> Rule:
    return lambda rec, result, a, b: function(rec, result, b, a)


def binary(op: str) -> Rule:
    """Make the rule of a function of two values that is an operation."""

    def apply(rec: Recorder, result: Tensor, a: Any, b: Any, *, alpha: float = 1) -> Value | None:
        b = b if alpha == 1 else both(rec, "mul", rec.value(b), float(alpha))
        # For PyTorch true and true are true; a program's 1 and 1 would be 2.
        return pointwise(rec, "maximum" if op == "add" and result.dtype == torch.bool else op, [a, b], result)

    return apply


for _op in of_kind("binary").values():
    rule(*_op.reads)(binary(_op.name))
rule("rsub", "__rsub__")(_reversed(binary("sub")))


@rule("div", "divide", "true_divide", "__truediv__")
def _div(rec: Recorder, result: Tensor, a: Any, b: Any, *, rounding_mode: str | None = None) -> Value | None:
    if rounding_mode == "floor":
        return _floor_div(rec, result, a, b)
    out = pointwise(rec, "div", [a, b], result)
    return out if out is None or rounding_mode is None else unary(rec, "trunc", out)


def _beyond(rec: Recorder, rest: Value, b: Value) -> Value:
    """Return where the rest of a division has another sign than its divisor: there the floor is one lower."""
    signs = both(rec, "ne", both(rec, "lt", b, 0.0), both(rec, "lt", rest, 0.0))
    return both(rec, "mul", both(rec, "ne", rest, 0.0), signs)


@rule("remainder", "__mod__")
def _remainder(rec: Recorder, result: Tensor, a: Any, b: Any) -> Value | None:
    rest = pointwise(rec, "fmod", [a, b], result)
    if rest is None:
        return None
    divisor = fitted(rec, rec.value(b), rest.shape)
    return where(rec, _beyond(rec, rest, divisor), both(rec, "add", rest, divisor), rest)


@rule("floor_divide", "__floordiv__")
def _floor_div(rec: Recorder, result: Tensor, a: Any, b: Any) -> Value | None:
    # Not the floor of the quotient, which may be rounded up to a whole number.
    quotient, rest = pointwise(rec, "div", [a, b], result), pointwise(rec, "fmod", [a, b], result)
    if quotient is None or rest is None:
        return None
    shape = rest.shape
    dividend, divisor = (fitted(rec, rec.value(thing), shape) for thing in (a, b))
    whole = both(rec, "div", both(rec, "sub", dividend, rest), divisor)
    whole = unary(rec, "round", both(rec, "sub", whole, _beyond(rec, rest, divisor)))
    by_zero = fitted(rec, both(rec, "eq", divisor, 0.0), shape)
    return add(rec, "where", [by_zero, unary(rec, "trunc", quotient), whole], shape)


rule("__rtruediv__", "__rdiv__")(_swapped(_div))
rule("__rmod__")(_swapped(_remainder))
rule("__rfloordiv__")(_swapped(_floor_div))


@rule("pow", "__pow__")
def _pow(rec: Recorder, result: Tensor, x: Any, exponent: Any) -> Value | None:
    if isinstance(exponent, int | float) and exponent == 2:
        return unary(rec, "square", x)
    return pointwise(rec, "pow", [x, exponent], result)


@rule("__rpow__")
def _rpow(rec: Recorder, result: Tensor, exponent: Any, x: Any) -> Value | None:
    return pointwise(rec, "pow", [x, exponent], result)


@rule("lerp")
def _lerp(rec: Recorder, result: Tensor, start: Tensor, end: Tensor, weight: Any) -> Value | None:
    a, b, w = rec.value(start), rec.value(end), rec.value(weight)
    if a.shape != b.shape:
        return None
    return both(rec, "add", a, both(rec, "mul", w, both(rec, "sub", b, a)))


def _added(op: str) -> Rule:
    """Make the rule of x + value * op(tensor1, tensor2)."""

    def apply(
        rec: Recorder, result: Tensor, x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1
    ) -> Value | None:
        shape = tuple(result.shape[1:])
        values = [rec.value(t) for t in (x, tensor1, tensor2)]
        if {len(v.shape) for v in values if v.level != "param"} != {len(shape)}:
            return None
        term = both(rec, op, values[1], values[2])
        return both(rec, "add", values[0], term if value == 1 else both(rec, "mul", term, value))

    return apply


rule("addcmul")(_added("mul"))
rule("addcdiv")(_added("div"))


@rule("hypot")
def _hypot(rec: Recorder, result: Tensor, a: Tensor, b: Tensor) -> Value | None:
    return unary(rec, "sqrt", both(rec, "add", unary(rec, "square", a), unary(rec, "square", b)))


@rule("logaddexp")
def _logaddexp(rec: Recorder, result: Tensor, a: Tensor, b: Tensor) -> Value | None:
    larger = pointwise(rec, "maximum", [a, b], result)
    gap = pointwise(rec, "sub", [a, b], result)
    if larger is None or gap is None:
        return None
    rest = unary(rec, "log1p", unary(rec, "exp", unary(rec, "neg", unary(rec, "abs", gap))))
    total = both(rec, "add", larger, rest)
    infinite = both(rec, "eq", unary(rec, "abs", larger), math.inf)  # there the gap may be no number
    return where(rec, infinite, larger, total)


# ------------------------------------------------------------------------------------------------ choices


@rule("heaviside")
def _heaviside(rec: Recorder, result: Tensor, x: Tensor, values: Tensor) -> Value | None:
    above = both(rec, "gt", rec.value(x), 0.0)
    zero = both(rec, "eq", rec.value(x), 0.0)
    return pointwise(rec, "where", [zero, values, above], result)


@rule("where")
def _where(rec: Recorder, result: Tensor, condition: Tensor, a: Any, b: Any) -> Value | None:
    return pointwise(rec, "where", [condition, a, b], result)


@rule("masked_fill")
def _masked_fill(rec: Recorder, result: Tensor, x: Tensor, mask: Tensor, value: Any) -> Value | None:
    return pointwise(rec, "where", [mask, value, x], result)


@rule("clamp", "clip")
def _clamp(rec: Recorder, result: Tensor, x: Tensor, min: Any = None, max: Any = None) -> Value | None:
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        return unary(rec, "clamp", x, -math.inf if min is None else min, math.inf if max is None else max)
    # Not minimum and maximum: at a limit the whole gradient is that of x.
    value: Any = x
    for op, limit in (("lt", min), ("gt", max)):
        if limit is not None:
            beyond = pointwise(rec, op, [value, limit], result)
            value = None if beyond is None else pointwise(rec, "where", [beyond, limit, value], result)
            if value is None:
                return None
    return value


@rule("clamp_min")
def _clamp_min(rec: Recorder, result: Tensor, x: Tensor, min: Any) -> Value | None:
    return _clamp(rec, result, x, min, None)


@rule("clamp_max")
def _clamp_max(rec: Recorder, result: Tensor, x: Tensor, max: Any) -> Value | None:
    return _clamp(rec, result, x, None, max)


@rule("nan_to_num")
def _nan_to_num(
    rec: Recorder, result: Tensor, x: Tensor, nan: float | None = None, posinf: float | None = None,
    neginf: float | None = None,
) -> Value:  # fmt: skip
    limits = torch.finfo(result.dtype)
    value = rec.value(x)
    out = where(rec, both(rec, "eq", value, math.inf), limits.max if posinf is None else posinf, value)
    out = where(rec, both(rec, "eq", value, -math.inf), limits.min if neginf is None else neginf, out)
    return where(rec, both(rec, "ne", value, value), nan or 0.0, out)


# ------------------------------------------------------------------------------------------------ logic: 0 and 1


def truth(rec: Recorder, x: Tensor) -> Value:
    """Return 1 where a tensor is not zero, else 0."""
    value = rec.value(x)
    return value if x.dtype == torch.bool else both(rec, "ne", value, 0.0)


def _logic(op: str) -> Rule:
    def apply(rec: Recorder, result: Tensor, a: Tensor, b: Tensor) -> Value | None:
        if result.dtype != torch.bool:
            return None  # bits of integers
        return pointwise(rec, op, [truth(rec, a), truth(rec, b)], result)

    return apply


rule("logical_and", "bitwise_and", "__and__")(_logic("mul"))
rule("logical_or", "bitwise_or", "__or__")(_logic("maximum"))
rule("logical_xor", "bitwise_xor", "__xor__")(_logic("ne"))


@rule("logical_not", "bitwise_not", "__invert__")
def _not(rec: Recorder, result: Tensor, x: Tensor) -> Value | None:
    return both(rec, "sub", number(rec, 1.0), truth(rec, x)) if result.dtype == torch.bool else None


@rule("isnan")
def _isnan(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    return both(rec, "ne", rec.value(x), rec.value(x))


@rule("isinf")
def _isinf(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    return both(rec, "eq", unary(rec, "abs", x), math.inf)


@rule("isfinite")
def _isfinite(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    return both(rec, "lt", unary(rec, "abs", x), math.inf)


# ------------------------------------------------------------------------------------------------ the same numbers


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "contiguous", "clone")
def _identity(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    return rec.value(x)


@rule("detach", "data")
def _detach(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    value = rec.value(x)
    return add(rec, "detach", [value], value.shape)


@rule("to", "type", "type_as", "float", "double", "bool")
def _to(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    value = rec.value(x)
    if x.dtype == result.dtype:
        return value
    if result.dtype == torch.bool:
        return truth(rec, x)
    computed = value.op not in LEAVES and value.op != "call"
    # A program holds what was compared as 0 and 1, and what was counted as whole numbers, in floats.
    if computed and not x.is_floating_point() and result.is_floating_point():
        return value
    raise CannotRead(
        f"changes the dtype from {x.dtype} to {result.dtype}, and a program has that of the state alone",
        "compute in the dtype of the state",
    )


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def _filled(rec: Recorder, result: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    return rec.uniform(result)


@rule("zero", "fill")
def _fill(rec: Recorder, result: Tensor, x: Tensor, value: Any = 0.0) -> Value | None:
    return fitted(rec, rec.value(value), tuple(result.shape[1:]))


@rule("copy")
def _copy(rec: Recorder, result: Tensor, x: Tensor, source: Tensor, non_blocking: bool = False) -> Value | None:
    value, shape = rec.value(source), tuple(result.shape[1:])
    if source.dtype != result.dtype or (value.level != "param" and len(value.shape) != len(shape)):
        return None
    # A value of its own, even of the same numbers: the tensor is not what it was copied from.
    return add(rec, "reshape", [expanded(rec, fitted(rec, value, shape), shape)], shape)
