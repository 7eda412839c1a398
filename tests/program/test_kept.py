"""Readings are kept, found again, and not made too often."""

from __future__ import annotations

import copy
import pickle
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as us
from unspool.program import kept
from unspool.program.kept import ALWAYS, KEPT, SELDOM, Kept
from unspool.program.read import Reading

X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


class Scaled(us.Cell):
    """A cell that multiplies by a number and, in training, by two."""

    def __init__(self) -> None:
        super().__init__(4)
        self.lin = nn.Linear(7, 4)
        self.scale: Any = 1.0

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.lin(torch.cat([x, h], 1))) * self.scale
        h = 2 * h if self.training else h
        return h, h


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[int]:
    """One item a reading; in a queue, since a list would be put back by `explain`."""
    found: SimpleQueue[int] = SimpleQueue()
    read = Reading.read

    def counted(self: Reading, *args: Any) -> Any:
        found.put(1)
        return read(self, *args)

    monkeypatch.setattr(Reading, "read", counted)
    return found


def run(cell: us.Cell, backend: str = "auto") -> str:
    """Run a cell, compare, and return who has run it and why."""
    report = us.explain(cell, X)
    got, want = (us.dynamic_rnn(cell, X, [5, 0, 3, 1], backend=b)[0] for b in (backend, "reference"))
    assert torch.allclose(got, want, atol=1e-6)
    return str(report)


def test_training_and_evaluation_in_turn_are_read_twice(readings: SimpleQueue[int]):
    cell = Scaled()
    for i in range(10):
        run(cell.train(i % 2 == 0), "native")
    assert readings.qsize() == 2


def test_a_value_that_is_another_one_in_each_run_ends_on_the_reference_backend_until_it_stands_still(
    readings: SimpleQueue[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kept, "ALWAYS", always := 4)
    cell = Scaled()
    for i in range(8 * always):
        cell.scale = 1.0 / (1.0 + i)
        run(cell)
    cell.scale = 2.0
    assert "cell.scale changes from run to run" in run(cell)
    assert readings.qsize() <= always + 1 + 16 * always // SELDOM
    found = ["changes from run to run" in run(cell) for _ in range(3 * SELDOM)]
    assert found[-1] is False
    assert sorted(found, reverse=True) == found
    count = readings.qsize()
    run(cell, "native")
    assert readings.qsize() == count


def test_few_programs_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "ALWAYS", 10 * KEPT)
    here: Kept[int] = Kept()
    cell = Scaled()

    def read(value: int) -> tuple[Any, int]:
        def ask(cell: Scaled) -> tuple[Tensor, ...] | int:
            return () if cell.scale == value else 0

        return SimpleNamespace(ask=ask), value

    for _ in range(2):
        for value in range(2 * KEPT):
            cell.scale = value
            found, _ = here.find(cell, "form", lambda value=value: read(value), len)
            assert found == value
    (shelf,) = here._cells[cell].values()
    assert len(shelf.entries) == KEPT


def test_copies_are_cells_of_their_own(readings: SimpleQueue[int]):
    cell = Scaled()
    run(cell, "native")
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell)), copy.copy(cell)):
        other.scale = 3.0
        run(other, "native")
        run(cell, "native")
    assert readings.qsize() == 4


class Counting(Scaled):
    """A cell that counts its calls in many places, and computes with the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.table, self.log = 0, {"calls": 0}, [0]

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        self.table["calls"] += 1
        self.log.append(self.calls)
        h, _ = super().forward(x, h)
        h = h + 0 * (self.calls + self.table["calls"] + len(self.log))
        return h, h


def test_what_a_refused_step_writes_does_not_let_it_be_read_again(readings: SimpleQueue[int]):
    cell = Counting()
    reports = [run(cell) for _ in range(3 * ALWAYS)]
    assert all("changes cell.calls" in report for report in reports)
    assert readings.qsize() == 1
    cell.scale = 2.0
    run(cell)
    assert readings.qsize() == 2
