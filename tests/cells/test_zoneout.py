"""Zoneout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.user_cells import CountingStepsCell, DictStateCell
from tests.refusal import refused
from unspool import Cell, GRUCell, LSTMCell, LSTMState, StackedRNNCells, ZoneoutCell, dynamic_rnn

B, T, H = 6, 9, 64


class CountCell(Cell):
    """Its state counts the steps of every unit, so a unit that is kept shows."""

    def __init__(self) -> None:
        super().__init__(H)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state + 1
        return state, state


def increments(outputs: Tensor) -> Tensor:
    return torch.diff(outputs, dim=1, prepend=torch.zeros_like(outputs[:, :1]))


def test_units_are_kept_or_updated_whole_in_training():
    outputs, final = dynamic_rnn(ZoneoutCell(CountCell(), 0.5), torch.zeros(B, T, 1))
    steps = increments(outputs)
    assert set(steps.unique().tolist()) == {0.0, 1.0}
    assert not (steps == steps[:, :1]).all()  # drawn anew at every step
    assert torch.equal(final, outputs[:, -1])  # the output follows the state


def test_variational_zoneout_holds_its_draw():
    outputs, _ = dynamic_rnn(ZoneoutCell(CountCell(), 0.5, variational=True), torch.zeros(B, T, 1))
    steps = increments(outputs)
    assert set(steps.unique().tolist()) == {0.0, 1.0}
    assert (steps == steps[:, :1]).all()
    assert not (steps[0] == steps[1]).all()


@pytest.mark.parametrize("variational", [False, True])
def test_the_seed_reproduces(variational):
    cell, runs = ZoneoutCell(CountCell(), 0.5, variational=variational), []
    for _ in range(2):
        torch.manual_seed(5)
        runs.append(dynamic_rnn(cell, torch.zeros(B, T, 1))[0])
    assert torch.equal(*runs)


def test_evaluation_takes_the_expectation():
    inside = LSTMCell(3, 4, dtype=torch.float64)
    cell = ZoneoutCell(inside, LSTMState(0.25, 0.5)).eval()  # type: ignore[arg-type]
    x, old = torch.randn(B, 3).double(), LSTMState(torch.randn(B, 4).double(), torch.randn(B, 4).double())
    _, new = inside(x, old)
    output, state = cell(x, old)
    torch.testing.assert_close(state.h, 0.25 * old.h + 0.75 * new.h)
    torch.testing.assert_close(state.c, 0.5 * old.c + 0.5 * new.c)
    assert output is state.h
    assert cell.row_inputs(B) is None


def test_without_zoneout_nothing_changes():
    inside = GRUCell(3, 4)
    x = torch.randn(B, T, 3)
    expected, _ = dynamic_rnn(inside, x)
    for cell in (ZoneoutCell(inside, 0.0), ZoneoutCell(inside, 0).eval(), ZoneoutCell(inside, 0.0, variational=True)):
        torch.testing.assert_close(dynamic_rnn(cell, x)[0], expected)


def test_an_output_that_is_not_part_of_the_state_is_left_alone():
    inside = DictStateCell(3, 4)
    x, state = torch.randn(B, 3), inside.initial_state(B)
    expected, _ = inside(x, state)
    output, new_state = ZoneoutCell(inside, 0.5).eval()(x, state)
    assert torch.equal(output, expected)
    assert set(new_state) == {"slow", "fast"}


def test_torch_cells_can_be_zoned_out():
    inside = nn.LSTMCell(3, 4)
    cell = ZoneoutCell(inside, (0.0, 0.5)).eval()
    assert (cell.input_size, cell.output_size) == (3, 4)
    x, old = torch.randn(B, 3), LSTMState(torch.zeros(B, 4), torch.ones(B, 4))
    _, c = inside(x, tuple(old))
    torch.testing.assert_close(cell(x, old)[1].c, 0.5 + 0.5 * c)


def test_probabilities_in_the_structure_of_the_state_find_their_leaves():
    inside = DictStateCell(3, 4)
    sizes = {name: leaf.shape[1] for name, leaf in inside.initial_state(1).items()}
    cell = ZoneoutCell(inside, {"slow": 0.25, "fast": 0.5}).eval()
    assert ZoneoutCell(inside, {"fast": 0.5, "slow": 0.25}).zoneout == cell.zoneout
    assert dict(zip(sizes, cell.zoneout, strict=True)) == {"slow": 0.25, "fast": 0.5}
    x, old = torch.randn(B, 3), {name: torch.randn(B, size) for name, size in sizes.items()}
    _, new = inside(x, old)
    _, mixed = cell(x, old)
    torch.testing.assert_close(mixed["slow"], 0.25 * old["slow"] + 0.75 * new["slow"])
    torch.testing.assert_close(mixed["fast"], 0.5 * old["fast"] + 0.5 * new["fast"])
    stack = ZoneoutCell(StackedRNNCells([LSTMCell(3, 4), GRUCell(4, 4)]), [(0.1, 0.2), 0.3])
    assert stack.zoneout == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("variational", [False, True])
def test_integers_in_a_state_are_not_zoned_out(mode, variational):
    cell = ZoneoutCell(CountingStepsCell(3, 4), 0.5, variational=variational).train(mode == "training")
    _, state = dynamic_rnn(cell, torch.randn(B, T, 3), [T, 0, 1, 2, 3, 4])
    assert state["count"].tolist() == [T, 0, 1, 2, 3, 4]
    assert state["odd"].tolist() == [True, False, True, False, True, False]
    with refused(ValueError, "expected 0 for the leaves", "that hold integers", "'count': [0] int64"):
        ZoneoutCell(CountingStepsCell(3, 4), {"h": 0.1, "count": 0.1, "odd": 0.0})


def test_a_state_that_holds_no_tensors_is_refused():
    class OddStateCell(CountCell):
        def initial_state(self, batch_size: int, **options: Any) -> Any:
            return {"h": super().initial_state(batch_size), "extra": object()}

    with refused(TypeError, "OddStateCell.initial_state(0)['extra'] is object", "expected a tensor"):
        ZoneoutCell(OddStateCell())


def test_how_often_units_are_kept():
    torch.manual_seed(0)
    cell = ZoneoutCell(CountCell(), 0.3)
    _, count = dynamic_rnn(cell, torch.zeros(100, 50, 1))
    share = 1 - count.double().mean() / 50
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / (100 * 50 * H)) ** 0.5
    _, expectation = dynamic_rnn(cell.eval(), torch.zeros(1, 50, 1))
    torch.testing.assert_close(expectation, torch.full((1, H), 0.7 * 50))


def test_wrong_probabilities_are_refused():
    with refused(ValueError, "zoneout is 1.0", "expected a probability"):
        ZoneoutCell(GRUCell(3, 4), 1.0)
    with refused(ValueError, "zoneout is (0.1, 0.2)", "expected one probability, or one for each leaf", "[0, 4]"):
        ZoneoutCell(GRUCell(3, 4), (0.1, 0.2))
    for wrong in ([0.1], [0.1, 0.2, 0.3], {"h": 0.1, "c": 0.2}, "0.1"):
        with refused(ValueError, "for each leaf", "(LSTMState(h=[0, 4], c=[0, 4]), [0, 4])", "in its structure"):
            ZoneoutCell(StackedRNNCells([LSTMCell(3, 4), GRUCell(4, 4)]), wrong)
    with refused(ValueError, "zoneout is '0.1'", "expected a probability of dropping in [0, 1)"):
        ZoneoutCell(GRUCell(3, 4), "0.1")
    with refused(TypeError, "cell is Linear", "expected a cell"):
        ZoneoutCell(nn.Linear(3, 3))


def test_printing_shows_the_probabilities():
    assert "zoneout=[0.1, 0.1], variational=False" in repr(ZoneoutCell(LSTMCell(3, 4)))
