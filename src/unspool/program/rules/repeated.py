"""Tensors that hold one sequence again and again: what a step makes of parameters, zeros, ones and numbers alone.

Such a tensor has the batch as its first axis, and its value in the program is that of one sequence. A function of such
tensors is run on one sequence, by a call to PyTorch. Whether it treats sequences alike is found out on other numbers.

Letters: B sequences of the recording.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unspool._nest import flatten, unflatten
from unspool._reason import Reason
from unspool.program.calls import find_function
from unspool.program.evaluate import constant
from unspool.program.ir import Value
from unspool.program.rules.build import BROADCAST, called, reshaped
from unspool.program.rules.contractions import is_per_row
from unspool.program.rules.registry import BROADCASTS, RULES, Recorder, Rule
from unspool.program.source import TraceError, here


def _one_row(names: list[str]) -> Rule:
    """Make the rule of a function, by the whole names that it may have."""

    def apply(rec: Recorder, result: Any, *args: Any, **kwargs: Any) -> Any:
        leaves, spec = flatten((args, kwargs))
        values = [rec.value(leaf) if isinstance(leaf, Tensor) else None for leaf in leaves]
        rows = [value is not None and is_per_row(rec, x, value) for x, value in zip(leaves, values, strict=True)]
        counts = [isinstance(x, int) and not isinstance(x, bool) and x == rec.batch for x in leaves]
        if not any(rows) and not any(counts):
            return None
        samples = [_sample(x) if is_row else x for x, is_row in zip(leaves, rows, strict=True)]
        one = [1 if is_count else x for x, is_count in zip(samples, counts, strict=True)]
        all_of = [x.expand(rec.batch, *x.shape[1:]) if is_row else x for x, is_row in zip(samples, rows, strict=True)]
        found = _agreeing(rec, names, unflatten(one, spec), unflatten(all_of, spec))
        if found is None and any(rows):
            reason = Reason(
                "takes something that is the same for every row, and does not treat the rows alike; let parameters be "
                "broadcast in place of being repeated",
                BROADCAST,
            )
            raise TraceError(here(names[0] if names else "a function", reason))
        if found is None:
            return None
        name, parts, whole = found
        template = [
            _row(rec, x, value)
            if is_row and value is not None
            else value
            if value is not None
            else 1
            if is_count
            else x
            for x, value, is_row, is_count in zip(leaves, values, rows, counts, strict=True)
        ]
        single = isinstance(result, Tensor)
        out = []
        for index, (part, full) in enumerate(zip(parts, whole, strict=True)):
            made = called(rec, name, unflatten(template, spec), tuple(part.shape), None if single else index, part)
            out.append(reshaped(rec, made, tuple(part.shape[1:])) if full.shape[:1] == (rec.batch,) else made)
        return out[0] if single else out

    return apply


def _agreeing(rec: Recorder, names: list[str], one: Any, all_of: Any) -> tuple[str, list[Tensor], list[Tensor]] | None:
    """Return the name of a function that treats sequences alike, with what it makes of one sequence and of all."""
    for name in names:
        function = find_function(name)
        try:
            parts, whole = (_as_list(function(*args, **kwargs)) for args, kwargs in (one, all_of))
        except (RuntimeError, TypeError, ValueError, IndexError):
            continue  # it takes no single sequence, or other arguments than its namesake
        if parts and len(parts) == len(whole) and all(map(_alike, parts, whole)):
            return name, parts, whole
    return None


def _sample(tensor: Tensor) -> Tensor:
    """Return one sequence of irregular numbers, drawn from no generator; integers, which may be indices, stay."""
    if tensor.dtype == torch.bool:
        return torch.ones_like(tensor[:1])
    if not tensor.is_floating_point():
        return tensor[:1].clone()
    places = torch.arange(1, tensor[:1].numel() + 1, dtype=torch.float64)
    return (2 * torch.sin(places.square() * 0.7)).view(1, *tensor.shape[1:]).to(tensor)


def _row(rec: Recorder, tensor: Tensor, value: Value) -> Value:
    """Return the value of a tensor of one sequence, with the batch of one as its first axis."""
    shape = (1, *tensor.shape[1:])
    number = constant(value)
    if number is None:
        return reshaped(rec, value, shape)
    return called(rec, "torch.full", (([*shape], number), {"dtype": tensor.dtype}), shape, None, tensor)


def _as_list(result: Any) -> list[Any]:
    return [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple | list) else []


def _alike(one: Any, all_of: Any) -> bool:
    """Tell whether a result for all sequences is that of one sequence, again and again or once for all."""
    if not isinstance(one, Tensor) or not isinstance(all_of, Tensor):
        return False
    if one.dim() and one.shape[0] == 1 != all_of.shape[0]:
        one = one.expand(all_of.shape[0], *one.shape[1:])
    return one.shape == all_of.shape and torch.allclose(one.double(), all_of.double(), equal_nan=True)


def _names(short: str) -> list[str]:
    return [f"torch.{place}{short}" for place in ("nn.functional.", "", "Tensor.", "special.", "linalg.")]


def _is_function(name: str) -> bool:
    try:
        find_function(name)
    except TraceError:
        return False
    return True


# What is written into such a tensor needs no call: parts of sequences are put together as those of the state are.
BROADCASTS.update({_short: RULES[_short] for _short in ("__setitem__", "copy", "zero", "fill")})

for _short in RULES.keys() - {"batch_norm", "instance_norm"}:  # which may write when they are tried
    BROADCASTS.setdefault(_short, _one_row([*filter(_is_function, _names(_short))]))
