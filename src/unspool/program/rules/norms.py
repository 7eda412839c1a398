"""Softmax, norms and variances."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import axes_of, both, reduced, reshaped, unary, where
from unspool.program.rules.registry import Recorder, Rule, rule


def _share(rec: Recorder, value: Value, axes: list[int]) -> Value | None:
    top = reduced(rec, "max", value, axes)
    if top is None:
        return None
    e = unary(rec, "exp", both(rec, "sub", value, top))
    total = reduced(rec, "sum", e, axes)
    return None if total is None else both(rec, "div", e, total)


@rule("softmax")
def _softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    return None if axes is None else _share(rec, value, axes)


@rule("softmin")
def _softmin(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    return None if axes is None else _share(rec, unary(rec, "neg", value), axes)


@rule("log_softmax")
def _log_softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    top = None if axes is None else reduced(rec, "max", value, axes)
    if axes is None or top is None:
        return None
    shifted = both(rec, "sub", value, top)
    total = reduced(rec, "sum", unary(rec, "exp", shifted), axes)
    return None if total is None else both(rec, "sub", shifted, unary(rec, "log", total))


@rule("logsumexp")
def _logsumexp(rec: Recorder, result: Tensor, x: Tensor, dim: Any, keepdim: bool = False) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    top = None if axes is None else reduced(rec, "max", value, axes)
    if axes is None or top is None:
        return None
    # Of features that are all minus infinity it is minus infinity, and not the difference of two infinities.
    top = where(rec, both(rec, "eq", unary(rec, "abs", top), math.inf), 0.0, top)
    total = reduced(rec, "sum", unary(rec, "exp", both(rec, "sub", value, top)), axes)
    if total is None:
        return None
    return reshaped(rec, both(rec, "add", unary(rec, "log", total), top), tuple(result.shape[1:]))


# ------------------------------------------------------------------------------------------------ norms with weights


def _centred(rec: Recorder, value: Value) -> Value:
    mean = reduced(rec, "mean", value, [len(value.shape) - 1])
    assert mean is not None
    return both(rec, "sub", value, mean)


def _divided(rec: Recorder, value: Value, eps: float) -> Value:
    """Divide by the root of the mean of squares over the last axis."""
    mean = reduced(rec, "mean", unary(rec, "square", value), [len(value.shape) - 1])
    assert mean is not None
    return both(rec, "mul", value, unary(rec, "rsqrt", both(rec, "add", mean, eps)))


def _weighted(rec: Recorder, value: Value, weight: Any, bias: Any) -> Value:
    for op, parameter in (("mul", weight), ("add", bias)):
        if parameter is not None:
            value = both(rec, op, value, reshaped(rec, rec.value(parameter), value.shape[-1:]))
    return value


def _joined(rec: Recorder, value: Value, count: int) -> Value:
    """Make one axis of the last few."""
    at = len(value.shape) - count
    return reshaped(rec, value, (*value.shape[:at], math.prod(value.shape[at:])))


@rule("layer_norm")
def _layer_norm(
    rec: Recorder, result: Tensor, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn_enable: bool = False,
) -> Value | None:  # fmt: skip
    value = rec.value(x)
    if len(normalized_shape) > len(value.shape):
        return None
    value = _joined(rec, value, len(normalized_shape))
    out = _weighted(rec, _divided(rec, _centred(rec, value), eps), weight, bias)
    return reshaped(rec, out, tuple(result.shape[1:]))


@rule("rms_norm")
def _rms_norm(
    rec: Recorder, result: Tensor, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Value | None:
    value = rec.value(x)
    if len(normalized_shape) > len(value.shape):
        return None
    eps = torch.finfo(result.dtype).eps if eps is None else eps
    out = _divided(rec, _joined(rec, value, len(normalized_shape)), eps)
    return reshaped(rec, _weighted(rec, out, weight, None), tuple(result.shape[1:]))


@rule("group_norm")
def _group_norm(
    rec: Recorder, result: Tensor, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Value | None:  # fmt: skip
    value = rec.value(x)
    if len(value.shape) != 1:
        return None
    groups = reshaped(rec, value, (num_groups, value.width // num_groups))
    out = reshaped(rec, _divided(rec, _centred(rec, groups), eps), value.shape)
    return _weighted(rec, out, weight, bias)


# ------------------------------------------------------------------------------------------------ variances, lengths


def root(rec: Recorder, value: Value) -> Value:
    """Return a square root whose gradient at zero is zero, as that of PyTorch's norms is."""
    zero = both(rec, "eq", value, 0.0)
    return where(rec, zero, 0.0, unary(rec, "sqrt", where(rec, zero, 1.0, value)))


def _variance(take_root: bool, with_mean: bool) -> Rule:
    def apply(
        rec: Recorder, result: Any, x: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
        correction: float | None = None,
    ) -> Any:  # fmt: skip
        value = rec.value(x)
        axes = axes_of(value, dim)
        if axes is None:
            return None
        count = math.prod(value.shape[k] for k in axes) - (float(unbiased) if correction is None else correction)
        mean = reduced(rec, "mean", value, axes)
        if mean is None or count <= 0:
            return None
        total = reduced(rec, "sum", unary(rec, "square", both(rec, "sub", value, mean)), axes)
        if total is None:
            return None
        out = both(rec, "mul", total, 1.0 / count)
        shape = tuple((result[0] if with_mean else result).shape[1:])
        out = reshaped(rec, root(rec, out) if take_root else out, shape)
        return [out, reshaped(rec, mean, shape)] if with_mean else out

    return apply


for _name in ("var", "std", "var_mean", "std_mean"):
    rule(_name)(_variance(_name.startswith("std"), _name.endswith("mean")))


def length(rec: Recorder, value: Value, p: Any, axes: list[int]) -> Value | None:
    """Return a norm over axes, which stay with size 1."""
    if p in (None, "fro", 2):
        total = reduced(rec, "sum", unary(rec, "square", value), axes)
        return None if total is None else root(rec, total)
    if p == 1:
        return reduced(rec, "sum", unary(rec, "abs", value), axes)
    return reduced(rec, "max", unary(rec, "abs", value), axes) if p == math.inf else None


@rule("norm")
def _norm(
    rec: Recorder, result: Tensor, x: Tensor, p: Any = None, dim: Any = None, keepdim: bool = False, *,
    ord: Any = None,
) -> Value | None:  # fmt: skip
    value = rec.value(x)
    axes = axes_of(value, dim)
    if axes is None or len(axes) != 1:
        return None  # of two axes it is a norm of matrices
    out = length(rec, value, p if ord is None else ord, axes)
    return None if out is None else reshaped(rec, out, tuple(result.shape[1:]))


@rule("vector_norm")
def _vector_norm(
    rec: Recorder, result: Tensor, x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False
) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    out = None if axes is None else length(rec, value, ord, axes)
    return None if out is None else reshaped(rec, out, tuple(result.shape[1:]))


@rule("normalize")
def _normalize(
    rec: Recorder, result: Tensor, x: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12
) -> Value | None:
    value = rec.value(x)
    axes = axes_of(value, dim)
    size = None if axes is None else length(rec, value, p, axes)
    return None if size is None else both(rec, "div", value, unary(rec, "clamp", size, eps, math.inf))


@rule("cosine_similarity")
def _cosine_similarity(
    rec: Recorder, result: Tensor, a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8
) -> Value | None:
    values = [rec.value(a), rec.value(b)]
    axes = axes_of(values[0], dim)
    if axes is None or values[0].shape != values[1].shape or values[1].level == "param":
        return None
    parts = []
    for value in values:
        size = length(rec, value, 2, axes)
        if size is None:
            return None
        parts.append(both(rec, "div", value, unary(rec, "clamp", size, eps, math.inf)))
    return reduced(rec, "sum", both(rec, "mul", *parts), axes, keepdim=False)
