"""Residual and highway connections."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.user_cells import SumCell
from tests.refusal import refused
from unspool import Cell, GRUCell, HighwayCell, LSTMCell, ResidualCell, SimpleRNNCell, dynamic_rnn


def test_residual_adds_the_input():
    inside = LSTMCell(4, 4)
    x, state = torch.randn(2, 4), inside.initial_state(2)
    output, new_state = ResidualCell(inside)(x, state)
    expected, expected_state = inside(x, state)
    torch.testing.assert_close(output, expected + x)
    torch.testing.assert_close(new_state, expected_state)


def test_residual_adds_nested_inputs_leaf_by_leaf():
    class PairCell(Cell):
        def forward(self, x: tuple[Tensor, Tensor], state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            return (2 * x[0], 3 * x[1]), state

    x = (torch.ones(2, 3, 1), torch.ones(2, 3, 4))
    outputs, _ = dynamic_rnn(ResidualCell(PairCell(1)), x)
    assert (outputs[0] == 3).all()
    assert (outputs[1] == 4).all()


def test_highway_mixes_the_input_in():
    inside = nn.GRUCell(4, 4)
    cell = HighwayCell(inside)
    x, h = torch.randn(2, 4), torch.randn(2, 4)
    carry = torch.sigmoid(x @ cell.weight_carry.T + cell.bias_carry)
    output, state = cell(x, h)
    torch.testing.assert_close(output, carry * x + (1 - carry) * inside(x, h))
    torch.testing.assert_close(state, inside(x, h))
    assert {name for name, _ in cell.named_parameters(recurse=False)} == {"weight_carry", "bias_carry"}


@pytest.mark.parametrize("kind", [ResidualCell, HighwayCell])
def test_an_output_that_autocast_has_narrowed_is_added(kind):
    cell = kind(SimpleRNNCell(4, 4))
    x = torch.randn(2, 3, 4)
    expected, _ = dynamic_rnn(cell, x)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = dynamic_rnn(cell, x)
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0)


def test_cells_whose_output_is_not_like_their_input_are_refused():
    for kind in (ResidualCell, HighwayCell):
        with refused(
            ValueError,
            kind.__name__,
            "an input [2, 3] and an output [2, 4]",
            "expected the same shapes",
            "Choose a cell",
        ):
            dynamic_rnn(kind(GRUCell(3, 4)), torch.zeros(2, 5, 3))
    with refused(ValueError, "HighwayCell must know the input_size of SumCell", "Set self.input_size in the cell"):
        HighwayCell(SumCell(3, 3))
    with refused(TypeError, "cell is int", "expected a cell"):
        ResidualCell(3)  # type: ignore[arg-type]
