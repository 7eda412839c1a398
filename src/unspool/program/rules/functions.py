"""Functions of one value, activations among them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from unspool.program.ir import Value
from unspool.program.operations import Operation, of_kind
from unspool.program.rules.build import axes_of, both, gathered, number, reshaped, unary, where
from unspool.program.rules.registry import Recorder, Rule, rule


def _function(make: Callable[[Recorder, Value], Value]) -> Rule:
    def apply(rec: Recorder, result: Tensor, x: Tensor, *, inplace: bool = False) -> Value:
        return make(rec, rec.value(x))

    return apply


def _operation(op: Operation) -> Rule:
    def apply(
        rec: Recorder, result: Tensor, x: Tensor, *given: float, inplace: bool = False, **named: float
    ) -> Value | None:
        constants = {**op.constants, **dict(zip(op.constants, given, strict=False)), **named}
        if len(given) > len(op.constants) or len(constants) > len(op.constants):
            return None
        return unary(rec, op.name, x, *constants.values())

    return apply


for _op in of_kind("unary").values():
    rule(*_op.reads)(_operation(_op))

# ------------------------------------------------------------------------------------------------ made of operations


def _scaled(op: str, factor: float) -> Rule:
    return _function(lambda rec, x: both(rec, "mul", unary(rec, op, x), factor))


rule("frac")(_function(lambda rec, x: both(rec, "sub", x, unary(rec, "trunc", x))))
rule("deg2rad")(_function(lambda rec, x: both(rec, "mul", x, math.pi / 180)))
rule("rad2deg")(_function(lambda rec, x: both(rec, "mul", x, 180 / math.pi)))
rule("positive", "__pos__")(_function(lambda _, x: x))
rule("log2")(_scaled("log", 1 / math.log(2)))
rule("log10")(_scaled("log", 1 / math.log(10)))
rule("exp2")(_function(lambda rec, x: both(rec, "pow", number(rec, 2.0), x)))
rule("erfc")(_function(lambda rec, x: both(rec, "sub", number(rec, 1.0), unary(rec, "erf", x))))
rule("tan")(_function(lambda rec, x: both(rec, "div", unary(rec, "sin", x), unary(rec, "cos", x))))
rule("mish")(_function(lambda rec, x: both(rec, "mul", x, unary(rec, "tanh", unary(rec, "softplus", x, 1.0, 20.0)))))
rule("tanhshrink")(_function(lambda rec, x: both(rec, "sub", x, unary(rec, "tanh", x))))
rule("relu6")(_function(lambda rec, x: unary(rec, "hard_tanh", x, 0.0, 6.0)))


rule("logsigmoid", "log_sigmoid")(
    _function(lambda rec, x: unary(rec, "neg", unary(rec, "softplus", unary(rec, "neg", x), 1.0, 20.0)))
)


@rule("round")
def _round(rec: Recorder, result: Tensor, x: Tensor, *, decimals: int = 0) -> Value:
    value = rec.value(x)
    if decimals == 0:
        return unary(rec, "round", value)
    there, back = ("mul", "div") if decimals > 0 else ("div", "mul")
    scale = 10.0 ** abs(decimals)
    return both(rec, back, unary(rec, "round", both(rec, there, value, scale)), scale)


@rule("sinc")
def _sinc(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    value = rec.value(x)
    at_zero = both(rec, "eq", value, 0.0)
    angle = where(rec, at_zero, 1.0, both(rec, "mul", value, math.pi))
    return where(rec, at_zero, 1.0, both(rec, "div", unary(rec, "sin", angle), angle))


@rule("hardswish")
def _hardswish(rec: Recorder, result: Tensor, x: Tensor, inplace: bool = False) -> Value:
    value = rec.value(x)
    return both(
        rec, "mul", value, unary(rec, "hard_tanh", both(rec, "add", both(rec, "mul", value, 1 / 6), 0.5), 0.0, 1.0)
    )


@rule("prelu")
def _prelu(rec: Recorder, result: Tensor, x: Tensor, weight: Tensor) -> Value | None:
    value, slope = rec.value(x), rec.value(weight)
    if slope.width != 1:  # they are those of the first feature axis
        slope = reshaped(rec, slope, (slope.width, *[1] * (len(value.shape) - 1)))
    return where(rec, both(rec, "gt", value, 0.0), value, both(rec, "mul", value, slope))


@rule("celu")
def _celu(rec: Recorder, result: Tensor, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Value:
    value = rec.value(x)
    return both(rec, "mul", unary(rec, "elu", both(rec, "mul", value, 1 / alpha), 1.0), alpha)


@rule("selu")
def _selu(rec: Recorder, result: Tensor, x: Tensor, inplace: bool = False) -> Value:
    return both(rec, "mul", unary(rec, "elu", x, 1.6732632423543772), 1.0507009873554805)


@rule("gelu")
def _gelu(rec: Recorder, result: Tensor, x: Tensor, *, approximate: str = "none") -> Value:
    return unary(rec, "gelu" if approximate == "none" else "gelu_tanh", x)


@rule("threshold")
def _threshold(
    rec: Recorder, result: Tensor, x: Tensor, threshold: float, value: float, inplace: bool = False
) -> Value:
    old = rec.value(x)
    return where(rec, both(rec, "le", old, threshold), value, old)


@rule("hardshrink")
def _hardshrink(rec: Recorder, result: Tensor, x: Tensor, lambd: float = 0.5) -> Value:
    value = rec.value(x)
    return where(rec, both(rec, "le", unary(rec, "abs", value), lambd), 0.0, value)


@rule("softshrink")
def _softshrink(rec: Recorder, result: Tensor, x: Tensor, lambd: float = 0.5) -> Value:
    value = rec.value(x)
    return both(rec, "sub", value, unary(rec, "clamp", value, -lambd, lambd))


@rule("logit")
def _logit(rec: Recorder, result: Tensor, x: Tensor, eps: float | None = None) -> Value:
    value = rec.value(x) if eps is None else unary(rec, "clamp", x, eps, 1.0 - eps)
    return both(rec, "sub", unary(rec, "log", value), unary(rec, "log", both(rec, "sub", number(rec, 1.0), value)))


@rule("glu")
def _glu(rec: Recorder, result: Tensor, x: Tensor, dim: int = -1) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    if axes is None:
        return None
    halves = np.split(np.arange(value.width).reshape(value.shape), 2, axes[0])
    left, right = (gathered(rec, [value], half.ravel().tolist(), half.shape) for half in halves)
    return both(rec, "mul", left, unary(rec, "sigmoid", right))
