"""Sums of products over features, by letters: what `einsum`, `matmul`, `bmm` and `tensordot` are.

Each feature axis of each value has a letter. A letter that is missing in the result is summed over.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import (
    PIECES,
    CannotRead,
    add,
    called,
    fitted,
    flat_slice,
    permuted,
    pointwise,
    reduced,
    reshaped,
    too_many,
)
from unspool.program.rules.registry import Recorder, rule

LETTERS = "abcdefghijklmnopqrstuvw"
"""Names for axes; x, y and z are left for those that are summed over or new."""

MOST_LETTERS = 6
"""Of one product: with more, all orders of the axes would be too many to look at."""


def is_per_row(rec: Recorder, tensor: Tensor, value: Value) -> bool:
    """Tell whether the first axis of a tensor is the batch; of a parameter it may be, repeated for every sequence."""
    return value.level != "param" or (tensor.dim() == len(value.shape) + 1 and tensor.shape[0] == rec.batch)


def contracted(rec: Recorder, values: list[Value], terms: list[str], out: str) -> Value | None:
    """Append a sum of products of values, over features.

    Parameters
    ----------
    rec : Recorder
    values : list of Value
    terms : list of str
        A letter for each feature axis of each value. An axis of size 1 stands beside any size of its letter.
    out : str
        The letters of the result, in order.

    Returns
    -------
    Value or None
        None where a product has too many axes.

    Raises
    ------
    CannotRead
        If a product with a parameter would take too many instructions.
    """
    sizes: dict[str, int] = {}
    for value, term in zip(values, terms, strict=True):
        for letter, size in zip(term, value.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    todo = [_without_ones(rec, value, term, sizes) for value, term in zip(values, terms, strict=True)]
    keep = "".join(letter for letter in out if sizes[letter] != 1)
    while len(todo) > 1:
        (a, a_term), (b, b_term), *rest = todo
        later = {*keep, *(letter for _, term in rest for letter in term)}
        both = dict.fromkeys(a_term + b_term)
        term = "".join(letter for letter in both if letter in later)
        pair = _pair(rec, (a, a_term), (b, b_term), term, sizes)
        if pair is None:
            return None
        todo = [(pair, term), *rest]
    ((value, term),) = todo
    value = _summed(rec, value, term, keep)
    term = "".join(letter for letter in term if letter in keep)
    value = _ordered(rec, value, term, keep)
    return reshaped(rec, value, tuple(sizes[letter] for letter in out))


Operand = tuple[Value, str]


def _without_ones(rec: Recorder, value: Value, term: str, sizes: dict[str, int]) -> Operand:
    kept = [(letter, size) for letter, size in zip(term, value.shape, strict=True) if size == sizes[letter] != 1]
    return reshaped(rec, value, tuple(size for _, size in kept)), "".join(letter for letter, _ in kept)


def _summed(rec: Recorder, value: Value, term: str, keep: str) -> Value:
    """Sum over the axes whose letters are not kept."""
    axes = [k for k, letter in enumerate(term) if letter not in keep]
    if not axes:
        return value
    if value.level == "param":
        shape = tuple(size for k, size in enumerate(value.shape) if k not in axes)
        return called(rec, "torch.sum", ((value, axes), {}), shape)
    return reduced(rec, "sum", value, axes, keepdim=False)


def _ordered(rec: Recorder, value: Value, term: str, want: str) -> Value:
    """Bring the axes into the order of `want`."""
    if term == want:
        return value
    axes = [term.index(letter) for letter in want]
    if value.level == "param":
        return called(rec, "torch.permute", ((value, axes), {}), tuple(value.shape[k] for k in axes))
    return permuted(rec, value, axes)


def _pair(rec: Recorder, a: Operand, b: Operand, out: str, sizes: dict[str, int]) -> Value | None:
    """Append the sum of products of two values, with the axes of the result in the order of `out`."""
    if a[0].level == b[0].level == "param":
        shape = tuple(sizes[letter] for letter in out)
        letters = {letter: chr(ord("a") + k) for k, letter in enumerate(dict.fromkeys(a[1] + b[1]))}
        left, right, result = ("".join(letters[c] for c in term) for term in (a[1], b[1], out))
        return called(rec, "torch.functional.einsum", ((f"{left},{right}->{result}", a[0], b[0]), {}), shape)
    if b[0].level != "param":
        a, b = b, a
    if b[0].level == "param":
        weighted = _weighted(rec, a, b, out)
        if weighted is not None:
            return weighted
    return _multiplied(rec, [a, b], out, sizes)


def _weighted(rec: Recorder, given: Operand, weight: Operand, out: str) -> Value | None:
    """Append products with the parts of a parameter, one for each vector that is summed over, if there is any."""
    given = _summed(rec, *given, out + weight[1]), "".join(c for c in given[1] if c in out + weight[1])
    weight = _summed(rec, *weight, out + given[1]), "".join(c for c in weight[1] if c in out + given[1])
    (x, x_term), (w, w_term) = given, weight
    inner = "".join(c for c in x_term if c in w_term and c not in out)
    new = "".join(c for c in out if c not in x_term)
    if not inner or not new:
        return None
    if not x_term.endswith(inner):
        order = "".join(c for c in x_term if c not in inner) + inner
        x, x_term = _ordered(rec, x, x_term, order), order
    outer = x_term[: -len(inner)]
    shared = "".join(c for c in outer if c in w_term)
    sizes = {**dict(zip(w_term, w.shape, strict=True)), **dict(zip(x_term, x.shape, strict=True))}
    count, taken, made = (math.prod(sizes[c] for c in letters) for letters in (outer, inner, new))
    if count > PIECES:
        raise CannotRead(too_many(count, ", by another order of the axes"))
    parts = math.prod(sizes[c] for c in shared)
    if shared or w_term not in (new + inner, inner + new) or len(w_term) != 2:
        w = _ordered(rec, w, w_term, shared + new + inner)
        w = called(rec, "torch.reshape", ((w, [parts * made, taken]), {}), (parts * made, taken))
    elif w_term != new + inner:
        w = add(rec, "transpose", [w], w.shape[::-1])
    # For each vector which part of the parameter it meets.
    part = np.arange(parts).reshape([sizes[c] if c in shared else 1 for c in outer])
    part = np.broadcast_to(part, [sizes[c] for c in outer]).ravel().tolist()
    pieces = {
        k: w if parts == 1 else called(rec, "torch.narrow", ((w, 0, k * made, made), {}), (made, taken))
        for k in range(parts)
    }
    x = reshaped(rec, x, (count * taken,))
    vectors = [x] if count == 1 else [flat_slice(rec, x, k * taken, (k + 1) * taken) for k in range(count)]
    outs = [add(rec, "product", [v, pieces[k]], (made,)) for v, k in zip(vectors, part, strict=True)]
    shape = tuple(sizes[c] for c in outer + new)
    result = reshaped(rec, outs[0], shape) if count == 1 else add(rec, "concat", outs, shape)
    return _ordered(rec, result, outer + new, out)


def _multiplied(rec: Recorder, operands: list[Operand], out: str, sizes: dict[str, int]) -> Value | None:
    """Append the sum of what is multiplied feature by feature, the axes in the order that moves least."""
    letters = list(dict.fromkeys(operands[0][1] + operands[1][1]))
    summed = [c for c in letters if c not in out]
    if len(letters) > MOST_LETTERS:
        return None

    def cost(order: tuple[str, ...]) -> int:
        """Count what has to be moved: values whose axes come in another order, and sums not over the last axis."""
        moved = sum(term != "".join(c for c in order if c in term) for _, term in operands)
        return 2 * moved + any(c not in out for c in order[: len(order) - len(summed)])

    order = "".join(min(permutations(letters), key=cost))
    full = tuple(sizes[c] for c in order)
    parts = []
    for value, term in operands:
        moved = _ordered(rec, value, term, "".join(c for c in order if c in term))
        parts.append(fitted(rec, reshaped(rec, moved, tuple(sizes[c] if c in term else 1 for c in order)), full))
    total = add(rec, "mul", parts, full)
    rest = "".join(c for c in order if c in out)
    return _ordered(rec, _summed(rec, total, order, out), rest, out)


# ------------------------------------------------------------------------------------------------ equations


@rule("einsum")
def _einsum(rec: Recorder, result: Tensor, equation: str, *operands: Any) -> Value | None:
    operands = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    if not isinstance(equation, str):
        return None  # the form of lists of numbers
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        return None
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    counts = [t.dim() - len(term.replace("...", "")) for t, term in zip(operands, terms, strict=True) if "..." in term]
    dots = "".join(spare[: max(counts, default=0)])
    terms = [
        term.replace("...", dots[len(dots) - (t.dim() - len(term) + 3) :]) if "..." in term else term
        for t, term in zip(operands, terms, strict=True)
    ]
    if not arrow:
        every = "".join(terms)
        out = dots + "".join(sorted(c for c in {*every} if every.count(c) == 1 and c not in dots))
    out = out.replace("...", dots)
    if any(len({*term}) != len(term) for term in (*terms, out)):
        return None  # a diagonal
    return lettered(rec, list(operands), terms, out)


def lettered(rec: Recorder, tensors: list[Tensor], terms: list[str], out: str) -> Value | None:
    """Read a sum of products of tensors whose axes all have letters, the batch among them."""
    terms = [*terms]
    values = [rec.value(t) for t in tensors]
    rows = [is_per_row(rec, t, v) for t, v in zip(tensors, values, strict=True)]
    for k, (value, is_row) in enumerate(zip(values, rows, strict=True)):
        if not is_row and terms[k][:1] == out[:1] and value.shape[:1] == (1,):  # it stands beside every sequence
            values[k], terms[k] = reshaped(rec, value, value.shape[1:]), terms[k][1:]
    batch = {term[:1] for term, is_row in zip(terms, rows, strict=True) if is_row}
    if batch != {out[:1]} or any(out[0] in term for term, is_row in zip(terms, rows, strict=True) if not is_row):
        return None
    terms = [term[1:] if is_row else term for term, is_row in zip(terms, rows, strict=True)]
    return contracted(rec, values, terms, out[1:])


@rule("tensordot")
def _tensordot(rec: Recorder, result: Tensor, a: Tensor, b: Tensor, dims: Any = 2) -> Value | None:
    if isinstance(dims, Tensor):
        return None
    pairs = (range(a.dim() - dims, a.dim()), range(dims)) if isinstance(dims, int) else dims
    left, right = ([axes] if isinstance(axes, int) else list(axes) for axes in pairs)
    first, second = list(LETTERS[: a.dim()]), list(LETTERS[a.dim() : a.dim() + b.dim()])
    for k, j in zip(left, right, strict=True):
        second[j] = first[k]
    out = [c for c in first if c not in second] + [c for c in second if c not in first]
    return lettered(rec, [a, b], ["".join(first), "".join(second)], "".join(out))


@rule("bilinear")
def _bilinear(
    rec: Recorder, result: Tensor, a: Tensor, b: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Value | None:
    outer = LETTERS[: a.dim() - 1]
    out = lettered(rec, [a, b, weight], [f"{outer}x", f"{outer}y", "zxy"], f"{outer}z")
    return out if bias is None or out is None else pointwise(rec, "add", [out, bias], result)


@rule("vecdot")
def _vecdot(rec: Recorder, result: Tensor, a: Tensor, b: Tensor, *, dim: int = -1) -> Value | None:
    if a.dim() != b.dim():
        return None
    names = LETTERS[: a.dim()]
    return lettered(rec, [a, b], [names, names], names.replace(names[dim], ""))
