"""Stacks of cells."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from tests.conformance.user_cells import SumCell
from tests.refusal import refused
from unspool import DropoutCell, GRUCell, LSTMCell, LSTMState, SimpleRNNCell, StackedRNNCells, dynamic_rnn


def test_a_stack_feeds_each_output_to_the_next_cell():
    a, b = LSTMCell(3, 4), GRUCell(4, 5)
    stack = StackedRNNCells([a, b])
    x, h, c, g = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4), torch.randn(2, 5)
    output, state = stack(x, (LSTMState(h, c), g))
    middle, first = a(x, LSTMState(h, c))
    expected, second = b(middle, g)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state, (first, second))
    assert isinstance(state, tuple)
    assert isinstance(state[0], LSTMState)


def test_a_stack_shows_its_cells_sizes_and_states():
    stack = StackedRNNCells(cell for cell in [nn.LSTMCell(3, 4), GRUCell(4, 6), nn.RNNCell(6, 5)])
    assert isinstance(stack.cells, nn.ModuleList)
    assert (stack.input_size, stack.output_size) == (3, 5)
    assert [name for name, _ in stack.named_parameters()][:2] == ["cells.0.weight_ih", "cells.0.weight_hh"]
    state = stack.zero_state(2)
    assert isinstance(state, tuple)
    assert isinstance(state[0], LSTMState)
    assert [leaf.shape[1] for leaf in (*state[0], *state[1:])] == [4, 4, 6, 5]


def test_torch_cells_in_a_stack_equal_the_layers():
    lower, upper = nn.LSTMCell(3, 4), nn.LSTMCell(4, 4)
    layer = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    for k, cell in enumerate((lower, upper)):
        layer.load_state_dict({f"{n}_l{k}": p for n, p in cell.state_dict().items()}, strict=False)
    x = torch.randn(2, 6, 3)
    output, state = dynamic_rnn(StackedRNNCells([lower, upper]), x)
    expected, (h_n, c_n) = layer(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.stack([part.h for part in state]), h_n)
    torch.testing.assert_close(torch.stack([part.c for part in state]), c_n)


def test_row_inputs_are_kept_apart_by_place():
    stack = StackedRNNCells([GRUCell(3, 4), SimpleRNNCell(4, 4, recurrent_dropout=0.5), LSTMCell(4, 2, dropout=0.5)])
    rows = stack.row_inputs(7)
    assert rows is not None
    assert {key: list(value) for key, value in rows.items()} == {"1": ["hidden"], "2": ["input"]}
    assert rows["2"]["input"].shape == (7, 4)
    assert stack.eval().row_inputs(7) is None


def test_users_cells_need_not_tell_their_sizes():
    stack = StackedRNNCells([SumCell(3, 3), LSTMCell(5, 2)])
    assert stack.input_size is None
    assert DropoutCell(stack).input_size is None
    assert stack.output_size == 2


def test_wrong_stacks_are_refused():
    with refused(ValueError, "received no cells", "expected at least one"):
        StackedRNNCells([])
    with refused(ValueError, "cells[0] puts out 4 features and cells[1] takes 3", "Change the input_size"):
        StackedRNNCells([nn.GRUCell(3, 4), LSTMCell(3, 4)])
    with refused(ValueError, "cells[1] puts out 2 features and cells[2] takes 5", "expected the same number"):
        StackedRNNCells([LSTMCell(3, 5), LSTMCell(5, 5, proj_size=2), GRUCell(5, 5)])


def test_wrong_states_are_refused():
    stack = StackedRNNCells([GRUCell(3, 4), GRUCell(4, 4)])
    with refused(ValueError, "received the state ([2, 4],)", "expected 2, one per cell", "initial_state(batch_size)"):
        stack(torch.zeros(2, 3), (torch.zeros(2, 4),))
    with refused(ValueError, "initial_state has the structure [2, 4]", "expected ([2, 4], [2, 4])"):
        dynamic_rnn(stack, torch.zeros(2, 5, 3), initial_state=torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: [LSTMCell(5, 5)] * 3, "LSTMCell"),
        (lambda: [nn.GRUCell(5, 5)] * 3, "GRUCell"),
        (lambda: [DropoutCell(cell, state=0.5) for cell in [GRUCell(5, 5)] * 3], "GRUCell"),
        (lambda: [LSTMCell(5, 5), *[StackedRNNCells([SimpleRNNCell(5, 5)])] * 2], "SimpleRNNCell"),
    ],
    ids=["a cell", "one of torch.nn's", "inside of wrappers", "a stack"],
)
def test_a_cell_that_stands_several_times_is_named_once(make, name):
    cells = make()
    with pytest.warns(UserWarning, match=f"hold the same {name}, so its weights are shared") as warned:
        stack = StackedRNNCells(cells)
    (message,) = [str(warning.message) for warning in warned]
    assert f"[{name}(...) for _ in range(3)]" in message
    assert warned[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        copy.deepcopy(stack)


def test_cells_with_weights_of_their_own_and_those_without_weights_are_no_cause_for_warning():
    StackedRNNCells([LSTMCell(5, 5) for _ in range(3)])
    StackedRNNCells([SumCell(5, 5)] * 3)
    a, b = GRUCell(5, 5), GRUCell(5, 5)
    b.weight_ih = a.weight_ih  # tied on purpose
    StackedRNNCells([a, b])
