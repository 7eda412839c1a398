"""A program is used only for the cell that it was read from, as it was then."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as US
from tests.conformance.oracle import assert_close
from unspool.backends import dispatch, native
from unspool.program.fingerprint import fingerprint


class Scaled(US.Cell):
    """A cell with attributes that are no parameters."""

    def __init__(self) -> None:
        super().__init__(state_size=4)
        self.project = nn.Linear(3, 4)
        self.scale: Any = torch.tensor(1.0)
        self.activation: Any = torch.tanh

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.activation(self.project(x) + h) * self.scale
        return h, h


class Told(Scaled):
    """A cell that finds its scale in an object."""

    def __init__(self, read: Callable[[Any], float]) -> None:
        super().__init__()
        self.read = read

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.activation(self.project(x) + h) * self.read(self.scale)
        return h, h


@dataclass(slots=True)
class Options:
    """What has attributes and no `__dict__`."""

    scale: Any


def _assert_runs_as_written(cell: US.Cell, backend: str = "native") -> None:
    x = torch.randn(2, 3, 3)
    found = US.dynamic_rnn(cell, x, backend=backend)[0]
    expected = US.dynamic_rnn(cell, x, backend="reference")[0]
    assert_close({"outputs": found}, {"outputs": expected}, torch.float32)


def _times(number: float) -> Callable[[Tensor], Tensor]:
    return lambda value: number * torch.tanh(value)


@pytest.mark.parametrize(("name", "make"), [("scale", torch.tensor), ("activation", _times)])
def test_an_object_at_the_address_of_an_earlier_one(name, make):
    cell = Scaled()
    for number in range(1, 20):
        setattr(cell, name, None)  # its memory is free for the next
        setattr(cell, name, make(float(number)))
        _assert_runs_as_written(cell)


def test_a_key_at_the_address_of_an_earlier_one():
    cell = Told(lambda table: next(iter(table))[0])
    for number in range(1, 20):
        cell.scale = None
        cell.scale = {(float(number), *"seven"): None}
        _assert_runs_as_written(cell)


def test_attributes_in_slots_count():
    cell = Told(lambda options: options.scale)
    cell.scale = Options(1.0)
    for number in (1.0, -3.0):
        cell.scale.scale = number
        _assert_runs_as_written(cell)
    cell.scale.scale = cell  # and what they hold is not kept alive
    fingerprints, gone = fingerprint(cell), weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None
    assert fingerprints


def test_a_tensor_that_wants_a_gradient_from_now_on():
    cell, x = Scaled().requires_grad_(False), torch.randn(2, 3, 3)
    assert not US.dynamic_rnn(cell, x, backend="native")[0].requires_grad
    cell.scale.requires_grad_()
    gradients = [
        torch.autograd.grad(US.dynamic_rnn(cell, x, backend=backend)[0].sum(), cell.scale)[0]
        for backend in ("native", "reference")
    ]
    assert_close({"scale": gradients[0]}, {"scale": gradients[1]}, torch.float32)


def test_a_cell_made_in_inference_mode_has_tensors_without_versions():
    with torch.inference_mode():
        cell = Scaled()
        before = fingerprint(cell)
        _assert_runs_as_written(cell, "auto")
        cell.scale.mul_(3.0)
        assert fingerprint(cell) != before
        _assert_runs_as_written(cell, "auto")
        cell.scale.fill_(torch.nan)
        assert fingerprint(cell) == fingerprint(cell)


def test_what_counts_by_identity_is_held_only_where_nothing_else_is_possible():
    cell = Scaled()
    for same, other in ((slice(1), slice(1)), (_times(1), _times(1))):
        cell.activation = same
        before = fingerprint(cell)
        assert fingerprint(cell) == before
        assert hash(fingerprint(cell)) == hash(before)
        cell.activation = other
        assert fingerprint(cell) != before


def test_a_cell_that_changes_from_call_to_call_keeps_few_programs(monkeypatch):
    monkeypatch.setattr(native, "KEPT", 3)
    backend = next(b for b in dispatch.BACKENDS if isinstance(b, native.NativeBackend))
    cell = Scaled()
    for number in range(1, 8):
        cell.scale = float(number)
        _assert_runs_as_written(cell)
    assert len(backend._programs[cell]) == 3
