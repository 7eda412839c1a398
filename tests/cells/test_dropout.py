"""Dropout: masks that are held over a sequence, fresh at every call, absent in evaluation.

Masks are read off cells that are linear in what is dropped: no statistics are needed.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.user_cells import CountingStepsCell, SumCell
from tests.refusal import refused
from unspool import (
    GRU,
    LSTM,
    RNN,
    Cell,
    DropoutCell,
    GRUCell,
    LSTMCell,
    LSTMState,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
    ZoneoutCell,
    dynamic_rnn,
    static_rnn,
)

B, T, H = 6, 9, 64


class PassCell(Cell):
    """Puts its input out and keeps its state: whatever is dropped shows."""

    input_size = output_size = H

    def __init__(self) -> None:
        super().__init__(H)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state


class ShowStateCell(PassCell):
    """Puts out the state that it was given, and starts every step from ones."""

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.ones(batch_size, H)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return state, torch.ones_like(state)


def identity_cell(**options: Any) -> SimpleRNNCell:
    """Return a cell whose output is its (dropped) input plus nothing."""

    def fill(name: str, parameter: nn.Parameter) -> None:
        parameter.copy_(torch.eye(H) if name == "weight_ih" else torch.zeros(parameter.shape))

    return SimpleRNNCell(H, H, activation="linear", init=fill, **options)


def memory_cell(**options: Any) -> SimpleRNNCell:
    """Return a cell whose output is its (dropped) state."""

    def fill(name: str, parameter: nn.Parameter) -> None:
        parameter.copy_(torch.eye(H) if name == "weight_hh" else torch.zeros(parameter.shape))

    return SimpleRNNCell(H, H, activation="linear", init=fill, **options)


ONES = torch.ones(B, T, H)

INPUT_DROPPERS: dict[str, Callable[..., nn.Module]] = {
    "built in": lambda **options: identity_cell(dropout=0.5, **options),
    "input of a wrapper": lambda **options: DropoutCell(PassCell(), input=0.5, **options),
    "output of a wrapper": lambda **options: DropoutCell(PassCell(), output=0.5, **options),
    "state of a wrapper": lambda **options: DropoutCell(ShowStateCell(), state=0.5, **options),
    "in a stack": lambda **options: StackedRNNCells([PassCell(), identity_cell(dropout=0.5, **options)]),
    "wrapped twice": lambda **options: DropoutCell(DropoutCell(PassCell(), input=0.5, **options)),
}


def is_a_mask(values: Tensor) -> bool:
    """Tell whether values are those of inverted dropout with probability one half, some dropped and some kept."""
    return bool(((values == 0) | (values == 2)).all() and (values == 0).any() and (values == 2).any())


@pytest.mark.parametrize("name", INPUT_DROPPERS)
def test_masks_are_held_over_time_and_drawn_anew_at_every_call(name):
    cell = INPUT_DROPPERS[name]()
    first, _ = dynamic_rnn(cell, ONES)
    assert is_a_mask(first)
    assert (first == first[:, :1]).all()
    assert not (first[0] == first[1]).all()  # each row has its own
    second, _ = dynamic_rnn(cell, ONES)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", INPUT_DROPPERS)
def test_one_mask_for_the_whole_batch(name):
    outputs, _ = dynamic_rnn(INPUT_DROPPERS[name](shared_over_batch=True), ONES)
    assert is_a_mask(outputs)
    assert (outputs == outputs[:1, :1]).all()


@pytest.mark.parametrize("name", INPUT_DROPPERS)
def test_nothing_is_dropped_in_evaluation(name):
    cell = INPUT_DROPPERS[name]().eval()
    outputs, _ = dynamic_rnn(cell, ONES)
    assert torch.equal(outputs, ONES)


@pytest.mark.parametrize("name", INPUT_DROPPERS)
def test_the_seed_reproduces_and_static_equals_dynamic(name):
    cell, runs = INPUT_DROPPERS[name](), []
    for _ in range(2):
        torch.manual_seed(4)
        runs.append(dynamic_rnn(cell, ONES, [9, 0, 3, 9, 1, 4])[0])
    torch.manual_seed(4)
    static, _ = static_rnn(cell, list(ONES.unbind(1)), [9, 0, 3, 9, 1, 4])
    runs.append(torch.stack(static, 1))
    torch.manual_seed(4)
    runs.append(RNN(cell, batch_first=True)(ONES, lengths=[9, 0, 3, 9, 1, 4])[0])
    assert all(torch.equal(runs[0], other) for other in runs[1:])


@pytest.mark.parametrize("kind", [SimpleRNNCell, GRUCell, LSTMCell])
def test_built_in_cells_multiply_by_the_masks_that_they_are_given(kind):
    cell, plain = kind(3, 4, dropout=0.5, recurrent_dropout=0.25), kind(3, 4)
    plain.load_state_dict(cell.state_dict())
    x, state = torch.randn(B, 3), torch.randn(B, 4)
    rows = cell.row_inputs(B)
    assert rows["input"].shape == (B, 3)
    assert rows["hidden"].shape == (B, 4)
    assert {float(v) for v in rows["hidden"].unique()} <= {0.0, float(torch.tensor(1.0) / 0.75)}
    given = LSTMState(state, state) if kind is LSTMCell else state
    dropped = state * rows["hidden"]
    output, new_state = cell(x, given, rows)
    if kind is GRUCell:  # what z carries over is never dropped
        gates_x = x * rows["input"] @ cell.weight_ih.T + cell.bias_ih
        gates_h = dropped @ cell.weight_hh.T + cell.bias_hh
        (x_r, x_z, x_n), (h_r, h_z, h_n) = gates_x.chunk(3, 1), gates_h.chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        expected = (1 - z) * torch.tanh(x_n + r * h_n) + z * state
    else:
        expected, _ = plain(x * rows["input"], LSTMState(dropped, state) if kind is LSTMCell else dropped)
    torch.testing.assert_close(output, expected)
    assert type(new_state) is type(given)


def test_recurrent_dropout_keeps_one_mask_on_the_state():
    cell = memory_cell(recurrent_dropout=0.5)
    outputs, final = dynamic_rnn(cell, torch.zeros(B, T, H), initial_state=torch.ones(B, H))
    powers = 2.0 ** torch.arange(1, T + 1).view(1, T, 1)
    assert is_a_mask(outputs[:, 0])
    assert torch.equal(outputs, (outputs[:, :1] > 0) * powers)
    assert torch.equal(final, outputs[:, -1])


def test_row_inputs_of_built_in_cells():
    assert LSTMCell(3, 4).row_inputs(B) is None
    assert LSTMCell(3, 4, dropout=0.5).eval().row_inputs(B) is None
    rows = LSTMCell(3, 4, proj_size=2, recurrent_dropout=0.5, dtype=torch.float64).row_inputs(B)
    assert rows is not None
    assert list(rows) == ["hidden"]
    assert rows["hidden"].shape == (B, 2)
    assert rows["hidden"].dtype == torch.float64
    shared = GRUCell(3, 4, dropout=0.5, shared_over_batch=True).row_inputs(B, dtype=torch.bfloat16)
    assert shared is not None
    assert (shared["input"] == shared["input"][0]).all()
    assert shared["input"].dtype == torch.bfloat16


def test_without_variational_masks_every_step_draws_anew():
    for cell in (
        DropoutCell(PassCell(), variational=False, input=0.5),
        DropoutCell(PassCell(), variational=False, output=0.5),
    ):
        outputs, _ = dynamic_rnn(cell, ONES)
        assert is_a_mask(outputs)
        assert not (outputs == outputs[:, :1]).all()
    outputs, _ = dynamic_rnn(DropoutCell(ShowStateCell(), variational=False, state=0.5), ONES)
    assert is_a_mask(outputs)
    assert not (outputs == outputs[:, :1]).all()
    cell = DropoutCell(PassCell(), variational=False, input=0.5, shared_over_batch=True)
    outputs, _ = dynamic_rnn(cell, ONES)
    assert is_a_mask(outputs)
    assert (outputs == outputs[:1]).all()
    assert not (outputs == outputs[:, :1]).all()


def test_state_dropout_does_not_touch_the_state_that_is_returned():
    cell = DropoutCell(PassCell(), state=0.5)
    _, final = dynamic_rnn(cell, ONES[:, :1], initial_state=torch.ones(B, H))
    assert ((final == 0) | (final == 2)).all()  # PassCell returns what it was given: the dropped state
    _, final = dynamic_rnn(DropoutCell(ShowStateCell(), state=0.5), ONES)
    assert torch.equal(final, torch.ones(B, H))


class StateCell(Cell):
    """A state of nested LSTM states."""

    def __init__(self) -> None:
        super().__init__({"x": LSTMState(4, 4), "y": (LSTMState(4, 4), [3])})  # type: ignore[arg-type]

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x, state


def masked_leaves(cell: DropoutCell) -> list[str]:
    rows = cell.row_inputs(B)
    assert rows is not None
    return sorted(rows["state"])


def test_the_memory_of_an_lstm_is_not_dropped_wherever_it_stands():
    assert masked_leaves(DropoutCell(LSTMCell(3, 4), state=0.5)) == ["0"]
    assert masked_leaves(DropoutCell(nn.LSTMCell(3, 4), state=0.5)) == ["0"]
    assert masked_leaves(DropoutCell(StackedRNNCells([LSTMCell(3, 4), GRUCell(4, 2)]), state=0.5)) == ["0", "2"]
    assert masked_leaves(DropoutCell(StateCell(), state=0.5)) == ["0", "2", "4"]


def test_a_filter_chooses_what_is_dropped():
    only_memory = DropoutCell(
        LSTMCell(3, 4),
        state=0.5,
        state_filter=lambda state: LSTMState(False, True),  # type: ignore[arg-type]
    )
    assert masked_leaves(only_memory) == ["1"]
    rows = only_memory.row_inputs(B)
    assert rows is not None
    assert rows["state"]["1"].shape == (B, 4)
    x, state = torch.randn(B, 3), LSTMState(torch.randn(B, 4), torch.randn(B, 4))
    output, _ = only_memory(x, state, rows)
    expected, _ = only_memory.cell(x, LSTMState(state.h, state.c * rows["state"]["1"]))
    torch.testing.assert_close(output, expected)


def test_integers_in_a_state_are_not_dropped():
    for options in ({}, {"variational": False}, {"variational": False, "shared_over_batch": True}):
        cell = DropoutCell(CountingStepsCell(3, 4), state=0.5, **options)  # type: ignore[arg-type]
        _, state = dynamic_rnn(cell, torch.randn(B, T, 3))
        assert state["count"].tolist() == [T] * B
        assert state["odd"].all()


@pytest.mark.parametrize("variational", [False, True])
def test_a_filter_of_another_structure_is_refused(variational):
    cell = DropoutCell(LSTMCell(3, 4), state=0.5, variational=variational, state_filter=lambda state: True)
    with refused(ValueError, "state_filter returned bool True", "expected True or False for each leaf", "LSTMState("):
        dynamic_rnn(cell, torch.zeros(B, T, 3))


@pytest.mark.parametrize("probability", [0.1, 0.9])
@pytest.mark.parametrize("options", [{}, {"variational": False}, {"shared_over_batch": True}], ids=str)
def test_how_often_features_are_dropped_and_how_they_are_scaled(probability, options):
    torch.manual_seed(0)
    cell = DropoutCell(PassCell(), input=probability, **options)
    outputs = torch.cat([dynamic_rnn(cell, torch.ones(100, 2, H))[0] for _ in range(40)])
    independent = 40 * H * (1 if "shared_over_batch" in options else 200 if options else 100)
    share = (outputs == 0).double().mean()
    assert abs(share - probability) < 4 * (probability * (1 - probability) / independent) ** 0.5
    torch.testing.assert_close(outputs.max(), torch.tensor(1 / (1 - probability)))


def test_a_loop_by_hand_holds_the_masks_that_it_has_drawn():
    stack = StackedRNNCells([LSTMCell(3, 4, dropout=0.5), DropoutCell(GRUCell(4, 4), state=0.5)])
    x = torch.randn(B, T, 3)
    torch.manual_seed(1)
    expected, _ = dynamic_rnn(stack, x)
    torch.manual_seed(1)
    state, rows, outputs = stack.initial_state(B), stack.row_inputs(B), []
    for x_t in x.unbind(1):
        output, state = stack(x_t, state, rows)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, 1), expected)


def test_wrappers_hand_the_masks_of_the_cell_inside_on():
    cell = DropoutCell(ZoneoutCell(LSTMCell(3, 4, recurrent_dropout=0.5), 0.0), output=0.5)
    rows = cell.row_inputs(B)
    assert rows is not None
    assert set(rows) == {"output", "cell"}
    assert set(rows["cell"]["cell"]) == {"hidden"}
    assert cell.eval().row_inputs(B) is None


LAYERS: list[Any] = [LSTM, GRU, SimpleRNN]


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_of_layers_acts_between_them_only(kind):
    layer = kind(3, 8, num_layers=2, dropout=1.0, bias=False)
    x = torch.randn(5, 2, 3)
    output, state = layer(x)
    h_n = state[0] if kind is LSTM else state
    assert h_n[0].abs().max() > 0.01  # the first layer is whole
    assert not output.any()  # the second one has received nothing
    plain = kind(3, 8, num_layers=2, bias=False)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x)[0], plain(x)[0])


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("option", ["input_dropout", "recurrent_dropout"])
def test_dropout_inside_of_layers(kind, option):
    layer = kind(3, 8, bidirectional=True, **{option: 0.5})
    x = torch.randn(5, 2, 3)
    torch.manual_seed(0)
    first = layer(x)[0]
    assert not torch.equal(first, layer(x)[0])
    torch.manual_seed(0)
    assert torch.equal(first, layer(x)[0])
    plain = kind(3, 8, bidirectional=True)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x)[0], plain(x)[0])


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_with_one_layer_warns(kind):
    with pytest.warns(UserWarning, match=r"dropout=0\.3 acts between layers, and there is one layer") as caught:
        kind(3, 4, dropout=0.3)
    assert caught[0].filename == __file__


MASKS_MISSING = [
    LSTMCell(H, H, dropout=0.5),
    GRUCell(H, H, recurrent_dropout=0.5),
    DropoutCell(LSTMCell(H, H), input=0.5),
    ZoneoutCell(LSTMCell(H, H), 0.5, variational=True),
]


@pytest.mark.parametrize("cell", MASKS_MISSING, ids=lambda cell: type(cell).__name__)
def test_a_step_in_training_without_its_masks_is_refused(cell):
    x, state = torch.zeros(2, H), cell.initial_state(2)
    with refused(ValueError, type(cell).__name__, "in training", "rows = cell.row_inputs(batch_size)", "cell.eval()"):
        cell(x, state)
    cell(x, state, cell.row_inputs(2))
    cell.eval()(x, state)
    cell.train()


def test_wrong_probabilities_and_missing_sizes_are_refused():
    with refused(ValueError, "input is 1.0", "expected a probability of dropping in [0, 1)"):
        DropoutCell(PassCell(), input=1.0)
    with refused(ValueError, "output is -0.5", "expected a probability of dropping in [0, 1)"):
        DropoutCell(PassCell(), output=-0.5)
    with refused(ValueError, "state is 2", "expected a probability of dropping in [0, 1)"):
        DropoutCell(PassCell(), state=2)
    with refused(ValueError, "DropoutCell must know the input_size of SumCell", "Set self.input_size in the cell"):
        dynamic_rnn(DropoutCell(SumCell(3, 3), input=0.5), torch.zeros(2, 4, 3))
    with refused(ValueError, "DropoutCell must know the output_size of SumCell", "expected an attribute with an int"):
        dynamic_rnn(DropoutCell(SumCell(3, 3), output=0.5), torch.zeros(2, 4, 3))
    with refused(TypeError, "cell is Linear", "expected a cell"):
        DropoutCell(nn.Linear(3, 3))


def test_printing_shows_the_probabilities():
    assert "input=0.5, output=0.0, state=0.0, variational=True\n" in repr(DropoutCell(PassCell(), input=0.5))
    assert "variational=True, shared_over_batch=True" in repr(DropoutCell(PassCell(), shared_over_batch=True))
