"""Softmax, norms and variances."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import (
    CannotRead,
    both,
    expanded,
    feature_axes,
    fitted,
    reduced,
    reshaped,
    unary,
    where,
)
from unspool.program.rules.registry import Recorder, Rule, rule
from unspool.program.source import STATISTICS


def share(rec: Recorder, value: Value, axes: list[int]) -> Value:
    """Append a softmax."""
    e = unary(rec, "exp", both(rec, "sub", value, reduced(rec, "max", value, axes)))
    return both(rec, "div", e, reduced(rec, "sum", e, axes))


@rule("softmax")
def _softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value:
    value = rec.value(x)
    return share(rec, value, feature_axes(value, dim))


@rule("softmin")
def _softmin(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value:
    value = rec.value(x)
    return share(rec, unary(rec, "neg", value), feature_axes(value, dim))


@rule("log_softmax")
def _log_softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, _stacklevel: int = 3) -> Value:
    value = rec.value(x)
    axes = feature_axes(value, dim)
    shifted = both(rec, "sub", value, reduced(rec, "max", value, axes))
    return both(rec, "sub", shifted, unary(rec, "log", reduced(rec, "sum", unary(rec, "exp", shifted), axes)))


@rule("logsumexp")
def _logsumexp(rec: Recorder, result: Tensor, x: Tensor, dim: Any, keepdim: bool = False) -> Value:
    value = rec.value(x)
    axes = feature_axes(value, dim)
    top = reduced(rec, "max", value, axes)
    # Of features that are all minus infinity it is minus infinity, and not the difference of two infinities.
    top = where(rec, both(rec, "eq", unary(rec, "abs", top), math.inf), 0.0, top)
    total = reduced(rec, "sum", unary(rec, "exp", both(rec, "sub", value, top)), axes)
    return reshaped(rec, both(rec, "add", unary(rec, "log", total), top), tuple(result.shape[1:]))


# ------------------------------------------------------------------------------------------------ norms with weights


def _centred(rec: Recorder, value: Value) -> Value:
    return both(rec, "sub", value, reduced(rec, "mean", value, [len(value.shape) - 1]))


def _divided(rec: Recorder, value: Value, eps: float) -> Value:
    """Divide by the root of the mean of squares over the last axis."""
    mean = reduced(rec, "mean", unary(rec, "square", value), [len(value.shape) - 1])
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


def _per_channel(rec: Recorder, value: Value, parameter: Any) -> Value:
    """Return a parameter of the first feature axis, which is that of channels, to stand beside a value."""
    return reshaped(rec, rec.value(parameter), (value.shape[0], *[1] * (len(value.shape) - 1)))


def _channels_weighted(rec: Recorder, value: Value, weight: Any, bias: Any) -> Value:
    for op, parameter in (("mul", weight), ("add", bias)):
        if parameter is not None:
            value = both(rec, op, value, _per_channel(rec, value, parameter))
    return value


@rule("group_norm")
def _group_norm(
    rec: Recorder, result: Tensor, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Value:  # fmt: skip
    value = rec.value(x)
    groups = reshaped(rec, value, (num_groups, value.width // num_groups))
    out = reshaped(rec, _divided(rec, _centred(rec, groups), eps), value.shape)
    return _channels_weighted(rec, out, weight, bias)


@rule("batch_norm")
def _batch_norm(
    rec: Recorder, result: Tensor, x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    value = rec.value(x)
    if training or running_mean is None or running_var is None:
        raise CannotRead(
            "normalises by the mean and variance of the batch, so that its rows influence each other; in "
            "evaluation (model.eval()) it takes the running statistics and is read, and LayerNorm or GroupNorm are "
            "always",
            STATISTICS,
        )
    deviation = unary(rec, "sqrt", both(rec, "add", rec.value(running_var), eps))
    factor = unary(rec, "reciprocal", deviation)
    factor = factor if weight is None else both(rec, "mul", factor, rec.value(weight))
    channels = (value.shape[0], *[1] * (len(value.shape) - 1))
    out = both(
        rec, "mul", both(rec, "sub", value, _per_channel(rec, value, running_mean)), reshaped(rec, factor, channels)
    )
    return _channels_weighted(rec, out, None, bias)


@rule("instance_norm")
def _instance_norm(
    rec: Recorder, result: Tensor, x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return _batch_norm(rec, result, x, running_mean, running_var, weight, bias, eps=eps)
    if running_mean is not None:
        raise CannotRead(
            "writes its running statistics in training; in evaluation (model.eval()) it is read", STATISTICS
        )
    value = rec.value(x)
    features = _joined(rec, value, len(value.shape) - 1)
    out = reshaped(rec, _divided(rec, _centred(rec, features), eps), value.shape)
    return _channels_weighted(rec, out, weight, bias)


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
        axes = feature_axes(value, dim)
        count = math.prod(value.shape[k] for k in axes) - (float(unbiased) if correction is None else correction)
        mean = reduced(rec, "mean", value, axes)
        if count <= 0:
            return None
        total = reduced(rec, "sum", unary(rec, "square", both(rec, "sub", value, mean)), axes)
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
        return root(rec, reduced(rec, "sum", unary(rec, "square", value), axes))
    if p == 1:
        return reduced(rec, "sum", unary(rec, "abs", value), axes)
    return reduced(rec, "max", unary(rec, "abs", value), axes) if p == math.inf else None


@rule("norm")
def _norm(
    rec: Recorder, result: Tensor, x: Tensor, p: Any = None, dim: Any = None, keepdim: bool = False, *,
    ord: Any = None,
) -> Value | None:  # fmt: skip
    value = rec.value(x)
    axes = feature_axes(value, dim)
    if len(axes) != 1:
        return None  # of two axes it is a norm of matrices
    out = length(rec, value, p if ord is None else ord, axes)
    return None if out is None else reshaped(rec, out, tuple(result.shape[1:]))


@rule("vector_norm")
def _vector_norm(
    rec: Recorder, result: Tensor, x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False
) -> Value | None:
    value = rec.value(x)
    out = length(rec, value, ord, feature_axes(value, dim))
    return None if out is None else reshaped(rec, out, tuple(result.shape[1:]))


@rule("normalize")
def _normalize(
    rec: Recorder, result: Tensor, x: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12
) -> Value | None:
    value = rec.value(x)
    size = length(rec, value, p, feature_axes(value, dim))
    return None if size is None else both(rec, "div", value, unary(rec, "clamp", size, eps, math.inf))


@rule("cosine_similarity")
def _cosine_similarity(
    rec: Recorder, result: Tensor, a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8
) -> Value | None:
    rank = max(a.dim(), b.dim())
    shape = tuple(torch.broadcast_shapes(a.shape, b.shape)[1:])
    values = [rec.value(a), rec.value(b)]
    if any(v.level != "param" and t.dim() != rank for t, v in zip((a, b), values, strict=True)):
        return None  # PyTorch has lined up the batch of one with features of another
    values = [expanded(rec, fitted(rec, value, shape), shape) for value in values]
    axes = feature_axes(next(v for v in values if v.level != "param"), dim)
    parts = []
    for value in values:
        size = length(rec, value, 2, axes)
        assert size is not None
        parts.append(both(rec, "div", value, unary(rec, "clamp", size, eps, math.inf)))
    return reduced(rec, "sum", both(rec, "mul", *parts), axes, keepdim=False)
