"""Products of matrices: of sequences with weights, which the engine has, and all others by letters.

Letters: B sequences of the recording.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import PIECES, CannotRead, add, both, flat_slice, pointwise, too_many
from unspool.program.rules.contractions import LETTERS, contracted, lettered
from unspool.program.rules.norms import share
from unspool.program.rules.registry import Recorder, rule


def product(rec: Recorder, x: Value, weight: Value, bias: Value | None) -> Value | None:
    """Append x W^T + b for a weight [out, in]."""
    if weight.level != "param" or len(weight.shape) != 2 or not x.shape or x.level == "param":
        return None
    outer = math.prod(x.shape[:-1])
    if outer > PIECES:
        raise CannotRead(too_many(outer))
    size = x.shape[-1]
    rows = [x] if len(x.shape) == 1 else [flat_slice(rec, x, k * size, (k + 1) * size) for k in range(outer)]
    outs = [add(rec, "product", [row, weight], (weight.shape[0],)) for row in rows]
    outs = outs if bias is None else [both(rec, "add", out, bias) for out in outs]
    return outs[0] if len(x.shape) == 1 else add(rec, "concat", outs, (*x.shape[:-1], weight.shape[0]))


def transposed(rec: Recorder, weight: Value) -> Value:
    """Return the transpose of a parameter."""
    return add(rec, "transpose", [weight], weight.shape[::-1])


@rule("linear")
def linear(rec: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value | None:
    """Read x W^T + b."""
    if weight.dim() != 2:
        out = _inner(rec, result, x, weight)
        return out if bias is None or out is None else pointwise(rec, "add", [out, bias], result)
    return product(rec, rec.value(x), rec.value(weight), None if bias is None else rec.value(bias))


@rule("inner")
def _inner(rec: Recorder, result: Tensor, a: Tensor, b: Tensor) -> Value | None:
    first, second = LETTERS[: a.dim() - 1], LETTERS[a.dim() - 1 : a.dim() + b.dim() - 2]
    return lettered(rec, [a, b], [first + "z", second + "z"], first + second)


@rule("matmul", "mm", "spmm", "bmm", "__matmul__", "mv", "dot")
def matmul(rec: Recorder, result: Tensor, a: Tensor, b: Tensor) -> Value | None:
    """Read a product of matrices or vectors, of which one may be a parameter, on either side."""
    x, weight = rec.value(a), rec.value(b)
    if x.level != "param" and weight.level == "param" and weight.shape == tuple(b.shape) and b.dim() == 2:
        return product(rec, x, transposed(rec, weight), None)
    outer = LETTERS[: max(a.dim(), b.dim(), 2) - 2]
    left, right = ("x" if a.dim() > 1 else ""), ("z" if b.dim() > 1 else "")
    first, second = (outer[len(outer) - max(t.dim() - 2, 0) :] for t in (a, b))
    return lettered(rec, [a, b], [first + left + "y", second + "y" + right], outer + left + right)


@rule("scaled_dot_product_attention")
def _attention(
    rec: Recorder, result: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> Value | None:  # fmt: skip
    if attn_mask is not None or is_causal or dropout_p:
        raise CannotRead(
            "is read without a mask and without dropout", "call it without both, or write it out as two products"
        )
    outer = LETTERS[: query.dim() - 2]
    weights = lettered(rec, [query, key], [outer + "xz", outer + "yz"], outer + "xy")
    if weights is None:
        return None
    weights = both(rec, "mul", weights, query.shape[-1] ** -0.5 if scale is None else scale)
    weights = share(rec, weights, [len(weights.shape) - 1])
    taken = rec.value(value)
    if taken.level == "param" or value.dim() != query.dim():
        return None
    return contracted(rec, [weights, taken], [outer[1:] + "xy", outer[1:] + "yz"], outer[1:] + "xz")


@rule("addmm", "baddbmm")
def _addmm(
    rec: Recorder, result: Tensor, added: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Value | None:
    out = matmul(rec, result, a, b)
    if out is None:
        return None
    out = out if alpha == 1 else both(rec, "mul", out, alpha)
    if beta == 0:
        return out
    term = rec.value(added)
    return pointwise(rec, "add", [out, term if beta == 1 else both(rec, "mul", term, beta)], result)
