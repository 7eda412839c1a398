"""Accelerated modules beside PyTorch's with the same parameters, for tests that compare what both do.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import unspool as us
from tests.conformance.oracle import assert_close, leaves_of

B, T, I, H = 3, 5, 3, 4  # noqa: E741
F64 = torch.float64
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RNN": (nn.RNN, {}),
    "RNN relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "LSTM projection": (nn.LSTM, {"proj_size": 2}),
    "GRU": (nn.GRU, {}),
}
kinds = pytest.mark.parametrize("name", KINDS)
three = pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])


def plain(name: str, layers: int = 2, dtype: torch.dtype = F64, **options: Any) -> Any:
    """Return a module of PyTorch's."""
    kind, extra = KINDS[name]
    return kind(I, H, layers, dtype=dtype, **extra, **options)


def pair(name: str, layers: int = 2, dtype: torch.dtype = F64, **options: Any) -> tuple[Any, Any]:
    """Return an accelerated module that the engine runs, and PyTorch's with the same parameters."""
    theirs = plain(name, layers, dtype, **options)
    return us.accelerate(theirs, copy=True, backend="native"), theirs


def state_for(module: Any, batch: int | None = B) -> Any:
    """Return a random initial state; without a batch axis where `batch` is None."""
    rows = () if batch is None else (batch,)
    count = module.num_layers * (2 if module.bidirectional else 1)
    like = module.weight_ih_l0
    h = torch.randn(count, *rows, module.proj_size or H, dtype=like.dtype)
    return (h, torch.randn(count, *rows, H, dtype=like.dtype)) if isinstance(module, nn.LSTM) else h


def run(module: Any, x: Any, hx: Any = None, wanted: list[Tensor] | None = None) -> dict[str, Tensor]:
    """Run a module; return output, states and the gradients of input, state and parameters, or of what is wanted."""
    if isinstance(x, Tensor):
        x = x.detach().clone().requires_grad_(x.is_floating_point())
    if hx is not None:
        hx = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves_of(hx))
        hx = hx if isinstance(module, nn.LSTM) or len(hx) > 1 else hx[0]
    output, state = module(x, hx)
    values = [output.data if isinstance(output, PackedSequence) else output, *leaves_of(state)]
    flat = torch.cat([leaf.flatten() for leaf in values])
    loss = flat @ torch.linspace(-1, 1, len(flat), dtype=flat.dtype)
    if wanted is None:
        own = [p for p in module.parameters() if p.requires_grad]
        wanted = [x.data if isinstance(x, PackedSequence) else x, *leaves_of(hx), *own]
    found = torch.autograd.grad(loss, [leaf for leaf in wanted if leaf is not None and leaf.requires_grad])
    return {f"value {k}": v for k, v in enumerate(values)} | {f"gradient {k}": g for k, g in enumerate(found)}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], dtype: torch.dtype = F64) -> None:
    """Compare what two runs gave."""
    assert ours.keys() == theirs.keys()
    assert_close(ours, theirs, dtype)
