"""Large products over all tokens, by the engine, which is faster at them than PyTorch's library on most machines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unspool.program.evaluate import Linear, linear_in_torch

FEWEST_ROWS = 32
"""Products of fewer rows go through PyTorch: packing the weight would not pay."""

NARROW = 64
"""A gradient with fewer columns is computed as its transpose."""


def transposed_product(engine: Any, a: Tensor, b: Tensor) -> Tensor:
    """Return a^T b for `[N, M]` and `[N, K]`: a weight's gradient."""
    if a.shape[0] < FEWEST_ROWS:
        return a.t() @ b
    if b.shape[1] < min(NARROW, a.shape[1]):
        return transposed_product(engine, b, a).t()
    out = a.new_empty(a.shape[1], b.shape[1])
    engine.multiply_transposed(a, b, out, torch.get_num_threads())
    return out


def product(engine: Any, x: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
    """Return x W + addend for `[N, K]` and `[K, M]`; the addend is a vector, a matrix or None."""
    out = x.new_empty(x.shape[0], weight.shape[1])
    init = x.new_empty(0, weight.shape[1]) if addend is None else addend.reshape(-1, weight.shape[1])
    engine.multiply(x, weight, init, out, torch.get_num_threads())
    return out


class EngineLinear(torch.autograd.Function):
    """x W^T + addend, as `torch.nn.functional.linear`, under autograd."""

    @staticmethod
    def forward(ctx: Any, engine: Any, x: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
        ctx.engine, ctx.addend = engine, None if addend is None else addend.dim()
        ctx.save_for_backward(x, weight)
        plain = None if addend is None else addend.detach().contiguous()
        return product(engine, _rows(x), weight.detach().t(), plain)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        _, need_x, need_weight, need_addend = ctx.needs_input_grad
        again = torch.is_grad_enabled()  # somebody wants derivatives of these gradients
        plain = g if again else _rows(g)
        grad_x = grad_weight = grad_addend = None
        if need_x:
            grad_x = plain @ weight if again else product(ctx.engine, plain, weight.detach(), None)
        if need_weight:
            grad_weight = plain.t() @ x if again else transposed_product(ctx.engine, plain, _rows(x))
        if need_addend:
            grad_addend = g.sum(0) if ctx.addend == 1 else g
        return None, grad_x, grad_weight, grad_addend


def _rows(tensor: Tensor) -> Tensor:
    """Return a matrix whose features lie side by side, outside of autograd."""
    tensor = tensor.detach()
    good = tensor.stride(1) == 1 and tensor.stride(0) >= tensor.shape[1]
    return tensor if good else tensor.contiguous()


def linear_by(engine: Any) -> Linear:
    """Return a function like `torch.nn.functional.linear` that uses the engine where it pays."""

    def linear(x: Tensor, weight: Tensor, addend: Tensor | None) -> Tensor:
        if x.shape[0] < FEWEST_ROWS:
            return linear_in_torch(x, weight, addend)
        result: Any = EngineLinear.apply(engine, x, weight, addend)
        return result

    return linear
