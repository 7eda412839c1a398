"""Products: of rows with weights, which the engine has, and of what differs from row to row, feature by feature.

Letters: B rows of the trace.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import PIECES, add, both, fitted, flat_slice, permuted, reduced, reshaped
from unspool.program.rules.registry import Recorder, rule


def product(rec: Recorder, x: Value, weight: Value, bias: Value | None) -> Value | None:
    """Append x W^T + b for a weight [out, in]."""
    if weight.level != "param" or len(weight.shape) != 2 or not x.shape or x.level == "param":
        return None
    outer = math.prod(x.shape[:-1])
    if outer > PIECES:
        return None
    size = x.shape[-1]
    rows = [x] if len(x.shape) == 1 else [flat_slice(rec, x, k * size, (k + 1) * size) for k in range(outer)]
    outs = [add(rec, "product", [row, weight], (weight.shape[0],)) for row in rows]
    outs = outs if bias is None else [both(rec, "add", out, bias) for out in outs]
    return outs[0] if len(x.shape) == 1 else add(rec, "concat", outs, (*x.shape[:-1], weight.shape[0]))


def transposed(rec: Recorder, weight: Value) -> Value:
    """Return the transpose of a parameter."""
    return add(rec, "transpose", [weight], weight.shape[::-1])


@rule("linear", "inner")
def linear(rec: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value | None:
    """Read x W^T + b."""
    return product(rec, rec.value(x), rec.value(weight), None if bias is None else rec.value(bias))


@rule("matmul", "mm", "spmm", "bmm", "__matmul__")
def _matmul(rec: Recorder, result: Tensor, x: Tensor, other: Tensor) -> Value | None:
    a, b = rec.value(x), rec.value(other)
    if b.level == "param":
        return product(rec, a, transposed(rec, b), None) if len(b.shape) == 2 else None
    if a.level == "param" or len(a.shape) != 2 or len(b.shape) != 2:
        return None
    return contraction(rec, [a, b], ["ij", "jk"], "ik")


@rule("addmm")
def _addmm(
    rec: Recorder, result: Tensor, bias: Tensor, x: Tensor, weight: Tensor, *, beta: float = 1, alpha: float = 1
) -> Value | None:
    out = _matmul(rec, result, x, weight)
    if out is None or beta == 0:
        return out if alpha == 1 or out is None else both(rec, "mul", out, alpha)
    out = out if alpha == 1 else both(rec, "mul", out, alpha)
    added = rec.value(bias)
    return both(rec, "add", out, added if beta == 1 else both(rec, "mul", added, beta))


# ------------------------------------------------------------------------------------------------ sums of products


def contraction(rec: Recorder, values: list[Value], terms: list[str], out: str) -> Value | None:
    """Append a sum of products of two values, over features.

    Parameters
    ----------
    rec : Recorder
    values : list of Value
        Parameters among them are without a batch.
    terms : list of str
        A letter for each feature axis of each value; the same letter in both: multiplied; not in `out`: summed.
    out : str

    Returns
    -------
    Value or None
    """
    sizes = {c: n for term, v in zip(terms, values, strict=True) for c, n in zip(term, v.shape, strict=True)}
    summed = [c for c in sizes if c not in out]
    shape = tuple(sizes[c] for c in out)
    letters = [c for c in (*out, *summed) if sizes[c] != 1]
    terms = ["".join(c for c in term if sizes[c] != 1) for term in terms]

    def cost(order: tuple[str, ...]) -> int:
        """Count what has to be moved: values whose axes come in another order, and sums not over the last axis."""
        moved = sum(term != "".join(c for c in order if c in term) for term in terms)
        return 2 * moved + any(c not in out for c in order[: len(order) - sum(c in summed for c in order)])

    if len(letters) > 5:
        return None
    order = min(permutations(letters), key=cost)
    parts = []
    for value, term in zip(values, terms, strict=True):
        part = reshaped(rec, value, tuple(sizes[c] for c in term))
        want = [c for c in order if c in term]
        if [*term] != want:
            axes = [term.index(c) for c in want]
            moved = transposed(rec, part) if part.level == "param" else permuted(rec, part, axes)
            if moved is None:
                return None
            part = moved
        parts.append(reshaped(rec, part, tuple(sizes[c] if c in term else 1 for c in order)))
    full = tuple(sizes[c] for c in order)
    total = add(rec, "mul", [fitted(rec, part, full) for part in parts], full)
    over = [k for k, c in enumerate(order) if c in summed]
    small = reduced(rec, "sum", total, over, keepdim=False) if over else total
    rest = [c for c in order if c in out]
    small = small if small is None else permuted(rec, small, [rest.index(c) for c in out if c in rest])
    return small if small is None else reshaped(rec, small, shape)


@rule("einsum")
def _einsum(rec: Recorder, result: Tensor, equation: str, *operands: Any) -> Value | None:
    operands = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    left, _, out = equation.replace(" ", "").replace("...", ".").partition("->")
    terms = left.split(",")
    if len(operands) != 2 or len(terms) != 2 or not out or any(len(set(t)) != len(t) for t in (*terms, out)):
        return None
    values = [rec.value(t) for t in operands]
    batch = {term[:1] for term, v in zip(terms, values, strict=True) if v.level != "param"}
    if batch != {out[:1]} or any(out[0] in t for t, v in zip(terms, values, strict=True) if v.level == "param"):
        return None
    terms = [term if v.level == "param" else term[1:] for term, v in zip(terms, values, strict=True)]
    if any(len(term) != len(v.shape) for term, v in zip(terms, values, strict=True)):
        return None  # an ellipsis that stands for more than the batch
    (x, x_term), (w, w_term) = sorted(zip(values, terms, strict=True), key=lambda pair: pair[0].level == "param")
    if w.level == "param" and len(w_term) == 2 and x_term:
        inner = x_term[-1]
        outer = w_term.replace(inner, "")
        if len(outer) == 1 and outer not in x_term and out[1:] == x_term[:-1] + outer:
            return product(rec, x, w if w_term[1] == inner else transposed(rec, w), None)
    if any(v.level == "param" and len(v.shape) > 2 for v in values):
        return None
    return contraction(rec, values, terms, out[1:])
