"""What the tests of exports share: models that take a padded batch and its lengths, and batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import unspool as us


class LeakyCell(us.Cell):
    """A user's cell, with a buffer."""

    rate: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.project = nn.Linear(input_size, hidden_size)
        self.register_buffer("rate", torch.tensor(0.9))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.rate * state + 0.1 * torch.tanh(self.project(x))
        return state, state


class Flat(nn.Module):
    """Calls a layer with lengths and returns the tensors that come back, in a tuple."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        return tuple(tree_leaves(self.layer(x, lengths=lengths)))


class Dynamic(nn.Module):
    """A user's module that calls `dynamic_rnn`, after and before other modules."""

    def __init__(self, cell: nn.Module, **options: Any) -> None:
        super().__init__()
        self.into, self.cell, self.out = nn.Linear(3, 3), cell, nn.Linear(4, 2)
        self.options = options

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        outputs, state = us.dynamic_rnn(self.cell, self.into(x), lengths, **self.options)
        return (self.out(outputs), *tree_leaves(state))


class Static(nn.Module):
    """A user's module that calls `static_rnn`."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        outputs, state = us.static_rnn(self.cell, list(x.unbind(1)), lengths, reverse=True)
        return (torch.stack(outputs, 1), *tree_leaves(state))


STEPS = 6
"""Of the batch that models are exported with."""


def batch(rows: int = 4, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Return a batch, whose padding is not a number, and its lengths, with the longest and the shortest among them."""
    lengths = torch.tensor([steps, 0, 1, steps - 1, 2, 3, steps])[:rows].clamp(min=0, max=steps)
    x = torch.randn(rows, steps, 3)
    x[torch.arange(steps) >= lengths.unsqueeze(1)] = torch.nan
    return x, lengths


def axes(static: bool) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return `dynamic_shapes` of such a batch; the number of steps stays a constant where it is static."""
    steps = torch.export.Dim.STATIC if static else torch.export.Dim("steps")
    rows = torch.export.Dim("rows")
    return {0: rows, 1: steps}, {0: rows}


def assert_equal(actual: Any, expected: Any) -> None:
    """Compare tensors or arrays of tensors' values, one by one, within 2e-5 of the largest value."""
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert torch.as_tensor(a).dtype == e.dtype
        torch.testing.assert_close(torch.as_tensor(a), e, rtol=0, atol=2e-5 * float(e.abs().max()))
