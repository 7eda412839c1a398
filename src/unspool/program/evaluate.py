"""Running programs, or parts of them, in plain PyTorch: the engine's readable twin, and what runs hoisted values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn import functional as F

from unspool._nest import unflatten
from unspool.program.calls import find_function, spec_of
from unspool.program.ir import Value
from unspool.program.operations import OPERATIONS, POINTWISE


def _linear(x: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
    """Return x W^T + addend for `[N, K]` and `[M, K]`; the addend is a vector, a matrix or None."""
    if addend is None or addend.dim() == 1:
        return F.linear(x, weight, addend)
    return torch.addmm(addend, x, weight.t())


def evaluate(values: Iterable[Value], known: dict[Value, Tensor], batch: int) -> dict[Value, Tensor]:
    """Compute values in order.

    Parameters
    ----------
    values : iterable of Value
        In an order in which they can be computed.
    known : dict of Value to Tensor
        What is given; extended in place. From level `row` on of shape (batch, *shape).
    batch : int
        Number of sequences or valid steps.

    Returns
    -------
    dict of Value to Tensor
        `known`.
    """
    for value in values:
        if value not in known:
            known[value] = _compute(value, [known[a] for a in value.args], batch)
    return known


def _compute(value: Value, args: list[Tensor], batch: int) -> Tensor:
    op, batched = value.op, value.level != "param"
    shape = (batch, *value.shape) if batched else value.shape
    rows = batch if batched else 1
    number = constant(value)
    if number is not None:
        return constant_tensor(number)
    if op == "columns":
        return _columns(value)(args[0])
    if op == "product":
        return _linear(args[0].reshape(rows, value.args[0].width), args[1], args[2] if len(args) == 3 else None)
    if op == "slice":
        return args[0].reshape(rows, value.args[0].width)[:, value.attrs["start"] : value.attrs["stop"]].reshape(shape)
    if op == "concat":
        dtype = max(args, key=Tensor.dim).dtype
        parts = [
            a.reshape(rows, v.width) if v.level != "param" else a.to(dtype).reshape(-1).expand(rows, v.width)
            for a, v in zip(args, value.args, strict=True)
        ]
        return torch.cat(parts, 1).reshape(shape)
    if op == "detach":
        return args[0].detach()
    if op == "reshape":
        return args[0].reshape(shape)
    if op == "expand":
        source = args[0]
        if batched and value.args[0].level != "param" and value.args[0].width == 1:
            source = source.reshape(batch, *[1] * len(value.shape))
        return source.expand(shape)
    if op in ("sum", "mean"):
        return getattr(args[0], op)(-1, keepdim=True)
    if op == "max":
        return args[0].amax(-1, keepdim=True)
    if op == "gather":
        return args[0].reshape(rows, value.args[0].width)[:, value.attrs["index"]].reshape(shape)
    if op == "scatter":
        parts = args[0].reshape(rows, value.args[0].width)
        index = torch.tensor(value.attrs["index"], device=parts.device)
        return parts.new_zeros(rows, value.width).index_add(1, index, parts).reshape(shape)
    if op == "transpose":
        return args[0].transpose(-1, -2)
    if op == "stack_rows":
        return torch.cat(args)
    if op == "call":
        return _call(value, args, batch)
    return _pointwise(value, args)


def _pointwise(value: Value, args: list[Tensor]) -> Tensor:
    rank = len(value.shape) + 1
    if value.level != "param":  # one value per sequence stands beside any number of features
        args = [a.reshape(a.shape[0], *[1] * (rank - 1)) if a.dim() and v.level != "param" and v.width == 1 else a
                for a, v in zip(args, value.args, strict=True)]  # fmt: skip
    return _function(value)(*args, *value.attrs.get("imm", ()))


def _function(value: Value) -> Callable[..., Tensor]:
    function = OPERATIONS[value.op].compute
    assert function is not None, value.op
    return function


def _columns(value: Value) -> Callable[..., Tensor]:
    return itemgetter((slice(None), slice(value.attrs["start"], value.attrs["stop"])))


def function_of(value: Value) -> Callable[..., Tensor] | None:
    """Return the function that computes a value from its arguments as they are, if there is one."""
    if value.op == "columns":
        return _columns(value)
    if value.op == "stack_rows":
        return lambda *args: torch.cat(args)
    alike = value.op in POINTWISE and value.level == "param" and "imm" not in value.attrs
    return _function(value) if alike and constant(value) is None else None


def _call(value: Value, args: list[Tensor], batch: int) -> Tensor:
    attrs = value.attrs
    leaves: list[object] = []
    numbers = torch.bool  # in which true and false come
    for kind, content in attrs["template"]:
        if kind == "truth":
            numbers = args[content].dtype
            leaves.append(args[content].bool())
        elif kind == "dtype":
            leaves.append(getattr(torch, content))
        else:
            leaves.append(args[content] if kind == "value" else batch if kind == "batch" else content)
    positional, keywords = unflatten(leaves, spec_of(attrs["spec"]))
    result = find_function(attrs["function"])(*positional, **keywords)
    result = result if attrs["index"] is None else result[attrs["index"]]
    return result.to(numbers) if result.dtype == torch.bool else result


def constant_tensor(number: float) -> Tensor:
    """Return a number without axes in double precision: it takes on the dtype of what it meets, and loses no digit.

    Parameters
    ----------
    number : float
    """
    with torch.inference_mode(False):
        return torch.tensor(number, dtype=torch.float64, device="cpu")


def constant(value: Value) -> float | None:
    """Return the number that a value is, if it is a constant throughout."""
    if value.op == "constant":
        return float(value.attrs["value"])
    if value.level != "param":
        return None
    if value.op in ("expand", "reshape"):
        return constant(value.args[0])
    if value.op not in POINTWISE:
        return None
    numbers = [constant(arg) for arg in value.args]
    if None in numbers:
        return None
    return float(
        _function(value)(*(torch.tensor(n, dtype=torch.float64) for n in numbers), *value.attrs.get("imm", ()))
    )
