"""Two steps have one key only if whatever is true of the numbers of one is true of the other's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from unspool.program.read import read_step

H = 4


class Stepping(us.Cell):
    """A cell that computes with a function of its own."""

    def __init__(self, function: Callable[[Any, Tensor, Tensor], Any]) -> None:
        super().__init__(H)
        self.function = function
        self.a, self.b = nn.Linear(3, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        new = self.function(self, self.a(x), self.b(h))
        return new if isinstance(new, tuple) else (new, new)


def key_of(cell: nn.Module) -> bytes | None:
    return read_step(cell, torch.zeros(1, 3), torch.zeros(1, H), None).key


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "functions": (lambda c, a, b: torch.tanh(a + b), lambda c, a, b: torch.sigmoid(a + b)),
    "spellings": (lambda c, a, b: torch.tanh(a + b), lambda c, a, b: torch.tanh(torch.add(a, b))),
    "numbers": (lambda c, a, b: torch.clamp(a + b, -1.0, 1.0), lambda c, a, b: torch.clamp(a + b, -1.0, 2.0)),
    "zeros of both signs": (lambda c, a, b: (a + b).clamp(min=0.0), lambda c, a, b: (a + b).clamp(min=-0.0)),
    "numbers in tensors": (
        lambda c, a, b: a + b * torch.tensor([1.0, 2.0, 3.0, 4.0]),
        lambda c, a, b: a + b * torch.tensor([1.0, 2.0, 3.0, 5.0]),
    ),
    "numbers that come from outside of PyTorch": (
        lambda c, a, b: a + b * torch.from_numpy(np.array([1, 2, 3, 4], np.float32)),
        lambda c, a, b: a + b * torch.from_numpy(np.array([1, 2, 3, 5], np.float32)),
    ),
    "where an argument comes from": (
        lambda c, a, b: (torch.tanh(a), torch.sigmoid(b), a)[0] * b,
        lambda c, a, b: (torch.tanh(a), torch.sigmoid(b), a)[1] * b,
    ),
    "outputs": (lambda c, a, b: (a, torch.tanh(a + b)), lambda c, a, b: (b, torch.tanh(a + b))),
    "gradients": (lambda c, a, b: a.detach() + b, lambda c, a, b: a + b),
    "parts without gradients": (lambda c, a, b: without_gradients(a, b), lambda c, a, b: torch.tanh(a) + b),
}


def without_gradients(a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad():
        a = torch.tanh(a)
    return a + b


@pytest.mark.parametrize("name", PAIRS)
def test_steps_that_differ_have_other_keys(name: str) -> None:
    one, other = PAIRS[name]
    keys = [key_of(Stepping(function)) for function in (one, one, other)]
    assert keys[0] == keys[1] is not None
    assert keys[2] not in (keys[0], None)


def freeze(cell: Stepping) -> None:
    cell.a.weight.requires_grad_(False)


def turn(cell: Stepping) -> None:
    cell.b.weight = nn.Parameter(cell.b.weight.detach().t().contiguous().t())


def tie(cell: Stepping) -> None:
    cell.b.bias = cell.a.bias


@pytest.mark.parametrize("change", [freeze, turn, tie])
def test_the_form_of_parameters_counts_and_their_values_do_not(change: Callable[[Stepping], None]) -> None:
    plain, changed = (Stepping(lambda c, a, b: torch.tanh(a + b)) for _ in range(2))
    assert key_of(plain) == key_of(changed)
    change(changed)
    assert key_of(plain) != key_of(changed)


def test_what_cannot_be_put_into_words_has_no_key() -> None:
    values = np.arange(4, dtype=np.float32)
    assert key_of(Stepping(lambda c, a, b: torch.tanh(a + b) * torch.tensor(values))) is None
