"""The layer RNN over any cell, and what all layers share: the static mode, what is returned, options.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tests.conformance.user_cells import DictStateCell, ProbeCell, SumCell
from tests.refusal import refused
from unspool import GRU, LSTM, RNN, Bidirectional, GRUCell, LSTMCell, LSTMState, SimpleRNN, StackedRNNCells, dynamic_rnn
from unspool.execution import Steps

B, T, I, H = 3, 6, 2, 4  # noqa: E741
X = torch.randn(T, B, I)


def test_the_state_is_that_of_the_cell():
    for cell in (LSTMCell(I, H), nn.LSTMCell(I, H)):
        _, state = RNN(cell)(X)
        assert isinstance(state, LSTMState)
        assert state.h.shape == (B, H)
    _, state = RNN(DictStateCell(I, H))(X)
    assert {name: tuple(leaf.shape) for name, leaf in state.items()} == {"slow": (B, H), "fast": (B, H + 1)}
    _, state = RNN(StackedRNNCells([GRUCell(I, H), GRUCell(H, 5)]))(X)
    assert [leaf.shape[1] for leaf in state] == [H, 5]


def test_parameters_appear_as_the_cells():
    cell = GRUCell(I, H)
    layer = RNN(cell)
    assert layer.cell is cell
    assert list(layer.state_dict()) == [f"cell.{name}" for name in cell.state_dict()]
    with refused(TypeError, "cell is GRU", "expected a cell"):
        RNN(GRU(I, H))


def test_initial_states_go_in_as_they_come_out():
    layer = RNN(DictStateCell(I, H))
    whole, final = layer(X)
    first, state = layer(X[:2])
    second, last = layer(X[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, final)
    with refused(ValueError, "hx has the structure [3, 4]", "expected {'slow': [3, 4], 'fast': [3, 5]}"):
        layer(X, torch.zeros(B, H))


def test_packed_sequences_go_through_any_cell():
    layer, lengths = RNN(LSTMCell(I, H), batch_first=True), [2, 6, 3]
    x = X.transpose(0, 1)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    output, state = layer(packed)
    expected, expected_state = layer(x, lengths=lengths)
    assert isinstance(output, PackedSequence)
    torch.testing.assert_close(pad_packed_sequence(output, batch_first=True)[0], expected)
    torch.testing.assert_close(state, expected_state)


@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_layers_fit_into_sequential(kind):
    model = nn.Sequential(
        kind(I, H, batch_first=True, return_state=False),
        Bidirectional(kind(H, 5, batch_first=True, return_state=False)),
        nn.Dropout(0.5),
        kind(10, 3, batch_first=True, return_sequences=False, return_state=False),
        nn.Linear(3, 2),
    )
    output = model(torch.randn(B, T, I))
    assert output.shape == (B, 2)
    output.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("return_state", [True, False])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_what_is_returned(return_sequences, return_state):
    layer = RNN(GRUCell(I, H), return_sequences=return_sequences, return_state=return_state)
    result = layer(X, lengths=[6, 0, 2])
    whole, final = dynamic_rnn(layer.cell, X, [6, 0, 2], time_major=True)
    if return_state:
        result, state = result
        assert torch.equal(state, final)
    expected = whole if return_sequences else torch.stack([whole[5, 0], torch.zeros(H), whole[1, 2]])
    assert torch.equal(result, expected)


LAYERS: list[Any] = [
    lambda **options: RNN(GRUCell(I, H), **options),
    lambda **options: LSTM(I, H, num_layers=2, bidirectional=True, **options),
    lambda **options: GRU(I, H, **options),
]


@pytest.mark.parametrize("make", LAYERS, ids=["RNN", "LSTM", "GRU"])
def test_the_static_mode_is_fixed_by_num_steps(make):
    layer = make(unroll=True, num_steps=4)
    plain = make()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(X[:4])[0], plain(X[:4])[0])
    assert torch.equal(layer(X[:2], lengths=[2, 0, 1])[0], plain(X[:2], lengths=[2, 0, 1])[0])
    kind = type(layer).__name__
    with refused(
        ValueError,
        f"{kind} is unrolled for 4 steps and received 6",
        "expected at most 4",
        "num_steps=6",
        "unroll=False",
    ):
        layer(X)
    with refused(ValueError, "unrolled for 4 steps and received 6"):
        layer(X, lengths=[4, 4, 4])


@pytest.mark.parametrize("make", LAYERS, ids=["RNN", "LSTM", "GRU"])
def test_the_static_mode_is_fixed_by_the_first_call(make):
    layer = make(unroll=True)
    assert layer.num_steps is None
    layer(X[:3])
    assert layer.num_steps == 3
    layer(X[:1])
    with refused(ValueError, "unrolled for 3 steps and received 4", "Cut the input"):
        layer(X[:4])


def test_both_layers_of_a_pair_are_static():
    layer = Bidirectional(RNN(GRUCell(I, H), unroll=True, num_steps=4))
    assert layer(X[:4])[0].shape == (4, B, 2 * H)
    with refused(ValueError, "unrolled for 4 steps and received 6"):
        layer(X)


def test_options_are_checked():
    with refused(TypeError, "RNN received ['padding']", "expected arguments among cell, batch_first, reverse"):
        RNN(GRUCell(I, H), padding="zero")  # type: ignore[call-arg]
    with refused(ValueError, "num_steps is 3 with unroll=False", "The dynamic mode takes any number of steps"):
        RNN(GRUCell(I, H), num_steps=3)
    with refused(ValueError, "backend is 'x'", "expected one of 'auto'"):
        RNN(GRUCell(I, H), backend="x")
    with refused(ValueError, "pad_output is 'x'", "expected 'zero' or 'repeat'"):
        RNN(GRUCell(I, H), pad_output="x")


def test_nested_outputs_are_returned_leaf_by_leaf():
    layer = RNN(SumCell(I, 0), batch_first=True, return_sequences=False)
    (last, sine), state = layer(X.transpose(0, 1), lengths=[6, 0, 2])
    assert torch.equal(last, state)
    torch.testing.assert_close(sine, torch.sin(state[:, :1]))


def test_nested_outputs_of_a_packed_sequence_are_refused():
    packed = pack_padded_sequence(X, torch.tensor([6, 3, 2]))
    with refused(TypeError, "([11, 2], [11, 1])", "all that a PackedSequence can hold", "Pass padded input and"):
        RNN(SumCell(I, 0))(packed)


@pytest.mark.parametrize(
    "layer",
    [
        GRU(I, H, return_sequences=False, return_state=False),
        RNN(GRUCell(I, H), return_sequences=False, return_state=False),
    ],
    ids=["GRU", "RNN"],
)
@pytest.mark.parametrize("what", ["output", "state"])
def test_a_batch_of_empty_rows_trains_with_zero_gradients(layer, what):
    layer.zero_grad()
    output, state = layer.run_with(None, X, None, Steps([0] * B), None)
    (output if what == "output" else state).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_no_cell_is_called_after_the_longest_row():
    cell = ProbeCell()
    layer = RNN(cell, return_sequences=False)
    layer(torch.zeros(50, B, 2), lengths=[3, 1, 0])
    assert [len(rows) for rows in cell.calls] == [2, 1, 1]
