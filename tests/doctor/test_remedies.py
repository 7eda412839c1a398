"""Every reason of the native backend has a line that removes it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from tests.backends.test_native_refusals import ALL_REFUSED, X
from unspool import LSTM, RNN, Cell, GRUCell, ZoneoutCell, doctor
from unspool.backends import dispatch, native
from unspool.backends.cudnn import CudnnBackend


@pytest.mark.parametrize("cell", ALL_REFUSED)
def test_a_cell_that_is_not_read_is_told_what_to_write(cell):
    (finding,) = doctor(cell(), X).findings
    assert finding.runs_on == "reference"
    (reason,) = (text for text in finding.held_up_by if text.startswith("native: "))
    (change,) = (line for line in finding.changes if "lengths" not in line)
    where = re.search(r"\w+\.py:\d+", reason)
    assert where is None or change.startswith(f"{where[0]}: ")


def test_zoneout_is_not_told_to_change_our_own_code():
    (change,) = doctor(ZoneoutCell(GRUCell(3, 4), 0.1), X).changes
    assert change == "take recurrent_dropout, which draws once per sequence, in place of ZoneoutCell"


class NoisyCell(Cell):
    """Draws at every step; mended, once per sequence."""

    def __init__(self, mended: bool) -> None:
        super().__init__(4)
        self.project, self.mended = nn.Linear(7, 4), mended

    def row_inputs(self, batch_size, *, dtype=None, device=None):
        return 0.1 * torch.randn(batch_size, 4, dtype=dtype, device=device) if self.mended else None

    def forward(self, x, h, noise=None):
        h = torch.tanh(self.project(torch.cat([x, h], 1)))
        h = h + (0.1 * torch.randn_like(h) if noise is None else noise)
        return h, h


def test_a_cell_that_draws_is_told_where_and_drawing_in_row_inputs_helps():
    (finding,) = doctor(RNN(NoisyCell(mended=False), batch_first=True), X).findings
    assert finding.kind == "unspool.RNN(NoisyCell)"
    (line,) = finding.changes
    assert re.fullmatch(r"test_remedies\.py:\d+: draw once per sequence, in the cell's row_inputs", line)
    (finding,) = doctor(RNN(NoisyCell(mended=True), batch_first=True), X).findings
    assert (finding.runs_on, finding.changes) == ("native", ())


class ShiftedCell(Cell):
    """Adds something of each row: held by the cell; mended, a constant of the run."""

    def __init__(self) -> None:
        super().__init__(3)
        self.shift: torch.Tensor | None = None

    def forward(self, x, h, shift=None):
        h = torch.tanh(x + h + (self.shift if shift is None else shift))
        return h, h


def test_a_cell_that_holds_something_of_each_row_is_told_of_constants_and_they_help():
    cell, shift = ShiftedCell(), torch.randn(len(X), 3)
    cell.shift = shift
    (change,) = doctor(cell, X).changes
    assert change == "pass what the cell holds for each row of a batch, if it does, to model as constants="
    (finding,) = doctor(ShiftedCell(), X, constants=shift).findings
    assert (finding.runs_on, finding.changes) == ("native", ())


def test_integers_among_constants_are_told_to_be_used_before_the_run():
    (change,) = doctor(ShiftedCell(), X, constants=torch.ones(len(X), 3).long()).changes
    assert change == "compute what depends on integers before model, and pass it floating-point numbers or booleans"


def test_half_precision_is_told_to_be_float():
    model, x = RNN(GRUCell(3, 4, dtype=torch.bfloat16)), X.bfloat16()
    (line,) = doctor(model, x).changes
    names = {"model": model, "x": x}
    exec(line, names)
    assert doctor(names["model"], names["x"]).changes == ()


def test_several_dtypes_are_told_to_be_one():
    class Mixed(NoisyCell):
        def __init__(self) -> None:
            super().__init__(mended=True)
            self.scale = nn.Parameter(torch.ones(4, dtype=torch.float64))

        def forward(self, x, h, noise=None):
            h = torch.tanh(self.project(torch.cat([x, h], 1)) * self.scale.to(x.dtype))
            return h, h

    names = {"model": RNN(Mixed()), "x": X}
    (line,) = doctor(names["model"], X).changes
    exec(line, names)
    assert doctor(names["model"], X).changes == ()


def test_hooks_and_autocast_are_told_to_go():
    model = RNN(GRUCell(3, 4))
    handle = model.cell.register_forward_hook(lambda *_: None)
    assert doctor(model, X).changes == ("remove the hooks of the cell in model, or let them listen to model itself",)
    handle.remove()
    model.register_forward_hook(lambda *_: None)
    assert doctor(model, X).changes == ()
    with torch.autocast("cpu", torch.bfloat16):
        (line,) = doctor(model, X).changes
    assert line == "call model with torch.autocast off: torch.autocast('cpu', enabled=False)"
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert doctor(model, X).changes == ()


@pytest.mark.parametrize(
    ("options", "mask", "line"),
    [
        ({"activation": "relu"}, None, "build model with what cuDNN has: tanh, sigmoid"),
        ({"recurrent_dropout": 0.2}, None, "build model without recurrent_dropout"),
        ({"unroll": True}, None, "build model with unroll=False"),
        ({}, [[False, True, True, True, True]] * len(X), "give model lengths in place of a mask with gaps"),
    ],
)
def test_the_conditions_of_cudnn_have_lines_too(options: dict[str, Any], mask, line, monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (CudnnBackend("cpu"), dispatch.BACKENDS[-1]))
    (change,) = doctor(LSTM(3, 4, batch_first=True, **options), X, mask=mask).changes
    assert change.startswith(line)


def test_an_absent_engine_is_told_to_be_installed(monkeypatch):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(native, "import_module", absent)
    engine, missing = native.load_engine()
    monkeypatch.setattr(native, "engine", engine)
    monkeypatch.setattr(native, "missing", missing)
    assert doctor(GRUCell(3, 4), X).changes == ("reinstall unspool with its engine",)
