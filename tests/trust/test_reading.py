"""A cell is read once: what changes, and is not read by the step, does not make it be read again.

Counted is how often Python enters the code of the step, on all threads; the engine does so to read and to check it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.trust.worlds import FEATURES, H, Small


class Attending(us.Cell):
    """Attends to a memory that is another one in each batch, and that `row_inputs` alone reads."""

    def __init__(self) -> None:
        super().__init__(H)
        self.gru, self.key, self.query = nn.GRUCell(FEATURES + 2, H), nn.Linear(2, 3), nn.Linear(H, 3)
        self.memory = torch.zeros(0)

    def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Any:
        return self.memory, self.key(self.memory)

    def forward(self, x: Tensor, h: Tensor, rows: Any) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        memory, keys = rows
        weights = (self.query(h).unsqueeze(1) + keys).tanh().sum(2, keepdim=True).softmax(1)
        h = self.gru(torch.cat([x, (weights * memory).sum(1)], 1), h)
        return h, h


class Shortcut(Small):
    """Keeps its parameters in a dict too, as ncps's cells do."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[str, Tensor] = {"w": self.lin.weight, "b": self.lin.bias}

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(nn.functional.linear(torch.cat([x, h], 1), self.tensors["w"], self.tensors["b"]))
        return h, h


class Logging(Small):
    """Has a list that grows outside of the step, and statistics that somebody keeps there."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.epoch = 0
        self.best: Tensor | None = None
        self.history: dict[int, Any] = {}


class Annealed(Small):
    """Has a slope that the step reads: a number that is another one at every run."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = 1.0

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.mix(x, self.slope * h)
        return h, h


def new_memory(cell: Attending, run: int) -> None:
    cell.memory = torch.randn(4, 5 + run % 2, 2)


def write_down(cell: Logging, run: int) -> None:
    cell.losses.append(float(run))
    cell.epoch, cell.best = run, torch.rand(3)
    cell.history[run] = {"loss": run}


def optimize(cell: nn.Module, run: int) -> None:
    with torch.no_grad():
        for p in cell.parameters():
            p -= 0.1 * p
    cell.zero_grad()


def load(cell: nn.Module, run: int) -> None:
    cell.load_state_dict({name: 0.9 * value for name, value in cell.state_dict().items()})


def back_and_forth(cell: nn.Module, run: int) -> None:
    cell.train(run % 2 == 0)


def nothing(cell: nn.Module, run: int) -> None:
    pass


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, int], None], int]] = {
    "nothing happens": (Small, nothing, 1),
    "an optimizer writes into parameters": (Small, optimize, 1),
    "weights are loaded": (Small, load, 1),
    "training and evaluation in turn": (Small, back_and_forth, 2),
    "a memory for each batch, of two lengths": (Attending, new_memory, 2),
    "parameters are in a dict too": (Shortcut, optimize, 1),
    "a log grows outside of the step": (Logging, write_down, 1),
    "a built-in cell": (lambda: us.LSTMCell(FEATURES, H), optimize, 1),
}


@contextmanager
def entered(code: CodeType) -> Iterator[list[str]]:
    """Collect when Python enters a function, on any thread."""
    calls: list[str] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code is code:
            calls.append(threading.current_thread().name)

    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]


def test_calls_of_the_reference_are_counted():
    cell = Small()
    with entered(Small.forward.__code__) as calls:
        us.dynamic_rnn(cell, torch.randn(4, 7, FEATURES), backend="reference")
    assert len(calls) == 7


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_cell_is_not_read_again(name: str, grad: bool) -> None:
    make, change, forms = CASES[name]
    cell = make()

    def run(number: int) -> int:
        change(cell, number)
        with entered(type(cell).forward.__code__) as calls, torch.set_grad_enabled(grad):
            outputs, _ = us.dynamic_rnn(cell, torch.randn(4, 5, FEATURES), [5, 0, 3, 1], backend="native")
            if grad:
                outputs.sum().backward()
        return len(calls)

    for number in range(forms):
        run(number)
    assert [run(number) for number in range(forms, forms + 10)] == [0] * 10


def test_a_setting_that_is_read_is_followed_and_is_known_when_it_comes_again():
    cell, x = Annealed(), torch.randn(4, 5, FEATURES)

    def reads(slope: float) -> int:
        cell.slope = slope
        with entered(Annealed.forward.__code__) as calls:
            got = us.dynamic_rnn(cell, x, backend="native")[0]
        torch.testing.assert_close(got, us.dynamic_rnn(cell, x, backend="reference")[0])
        return len(calls)

    first = sum(map(reads, (1.0, 0.9, 0.8)))
    assert sum(map(reads, (1.0, 0.9, 0.8, 0.9, 1.0, 0.8) * 2)) <= first
