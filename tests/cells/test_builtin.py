"""SimpleRNNCell, LSTMCell and GRUCell: equations, parameters, dtypes, errors.

Letters: B batch, I input size, H hidden size, P projected size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.refusal import refused
from unspool import Cell, GRUCell, LSTMCell, LSTMState, SimpleRNNCell
from unspool.cells import ACTIVATIONS, activation

B, I, H = 4, 3, 5  # noqa: E741
F64 = torch.float64


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_simple_rnn_cell_equals_torch(nonlinearity, bias):
    theirs = nn.RNNCell(I, H, bias=bias, nonlinearity=nonlinearity, dtype=F64)
    ours = SimpleRNNCell(I, H, bias, nonlinearity, dtype=F64)
    ours.load_state_dict(theirs.state_dict())
    x, h = randn(B, I), randn(B, H)
    output, state = ours(x, h)
    assert output is state
    torch.testing.assert_close(output, theirs(x, h))


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell_equals_torch(bias):
    theirs, ours = nn.LSTMCell(I, H, bias=bias, dtype=F64), LSTMCell(I, H, bias, dtype=F64)
    ours.load_state_dict(theirs.state_dict())
    x, h, c = randn(B, I), randn(B, H), randn(B, H)
    output, state = ours(x, LSTMState(h, c))
    assert isinstance(state, LSTMState)
    assert output is state.h
    torch.testing.assert_close(tuple(state), theirs(x, (h, c)))


@pytest.mark.parametrize("bias", [True, False])
def test_gru_cell_equals_torch(bias):
    theirs, ours = nn.GRUCell(I, H, bias=bias, dtype=F64), GRUCell(I, H, bias, dtype=F64)
    ours.load_state_dict(theirs.state_dict())
    x, h = randn(B, I), randn(B, H)
    torch.testing.assert_close(ours(x, h)[0], theirs(x, h))


def test_positional_arguments_are_those_of_torch():
    assert SimpleRNNCell(I, H, False, "relu", "cpu", F64).weight_ih.dtype == F64
    assert LSTMCell(I, H, False, "cpu", F64).weight_ih.dtype == F64
    assert GRUCell(I, H, False, "cpu", F64).weight_ih.dtype == F64
    assert LSTMCell(I, H, False).bias_ih is None


def test_simple_rnn_cell_with_an_activation_of_the_users_own():
    cell: Any = SimpleRNNCell(I, H, dtype=F64, activation=torch.sin)
    x, h = randn(B, I), randn(B, H)
    expected = torch.sin(x @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh)
    torch.testing.assert_close(cell(x, h)[0], expected)


def test_activation_takes_the_place_of_nonlinearity():
    cell = SimpleRNNCell(I, H, nonlinearity="relu", activation="linear", dtype=F64, bias=False)
    x, h = randn(B, I), randn(B, H)
    torch.testing.assert_close(cell(x, h)[0], x @ cell.weight_ih.T + h @ cell.weight_hh.T)


@pytest.mark.parametrize("coupled", [False, True], ids=["", "coupled"])
@pytest.mark.parametrize("peephole", [False, True], ids=["", "peephole"])
@pytest.mark.parametrize(("proj_size", "proj_clip"), [(0, None), (2, None), (2, 0.001)])
@pytest.mark.parametrize("cell_clip", [None, 0.2])
@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_lstm_variants_follow_their_equations(coupled, peephole, proj_size, proj_clip, cell_clip, forget_bias):
    cell: Any = LSTMCell(
        I,
        H,
        dtype=F64,
        coupled=coupled,
        peephole=peephole,
        proj_size=proj_size,
        proj_clip=proj_clip,
        cell_clip=cell_clip,
        forget_bias=forget_bias,
        activation="softsign",
        recurrent_activation="hard_sigmoid",
    )
    x, h, c = randn(B, I), randn(B, proj_size or H), randn(B, H)

    def phi(a: Tensor) -> Tensor:
        return a / (1 + a.abs())

    def sigma(a: Tensor) -> Tensor:
        return (a / 6 + 0.5).clamp(0, 1)

    gates = x @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
    parts = list(gates.split(H, 1))
    o, g, f = parts.pop(), parts.pop(), parts.pop()
    see = (lambda name, memory: getattr(cell, name) * memory) if peephole else (lambda name, memory: 0.0)
    forget = sigma(f + see("peephole_f", c) + forget_bias)
    enter = 1 - forget if coupled else sigma(parts.pop() + see("peephole_i", c))
    new_c = forget * c + enter * phi(g)
    if cell_clip is not None:
        new_c = new_c.clamp(-cell_clip, cell_clip)
        assert (new_c.abs() == cell_clip).any()
    new_h = sigma(o + see("peephole_o", new_c)) * phi(new_c)
    if proj_size:
        new_h = new_h @ cell.weight_hr.T
    if proj_clip is not None:
        new_h = new_h.clamp(-proj_clip, proj_clip)
        assert (new_h.abs() == proj_clip).any()
    output, state = cell(x, LSTMState(h, c))
    assert not parts
    torch.testing.assert_close(output, new_h)
    torch.testing.assert_close(state.h, new_h)
    torch.testing.assert_close(state.c, new_c)


@pytest.mark.parametrize("reset_after", [True, False], ids=["reset after", "reset before"])
@pytest.mark.parametrize("recurrent_bias", [True, False], ids=["two biases", "one bias"])
def test_gru_follows_its_equations(reset_after, recurrent_bias):
    cell: Any = GRUCell(I, H, dtype=F64, reset_after=reset_after, recurrent_bias=recurrent_bias, activation=torch.sin)
    x, h = randn(B, I), randn(B, H)
    w, u, b = cell.weight_ih.split(H), cell.weight_hh.split(H), cell.bias_ih.split(H)
    d = cell.bias_hh.split(H) if recurrent_bias else [torch.zeros(H, dtype=F64)] * 3
    r = sigmoid(x @ w[0].T + b[0] + h @ u[0].T + d[0])
    z = sigmoid(x @ w[1].T + b[1] + h @ u[1].T + d[1])
    product = r * (h @ u[2].T + d[2]) if reset_after else (r * h) @ u[2].T + d[2]
    expected = (1 - z) * torch.sin(x @ w[2].T + b[2] + product) + z * h
    torch.testing.assert_close(cell(x, h)[0], expected)


SHAPES: list[tuple[Any, dict[str, Any], dict[str, list[int]]]] = [
    (SimpleRNNCell, {}, {"weight_ih": [H, I], "weight_hh": [H, H], "bias_ih": [H], "bias_hh": [H]}),
    (SimpleRNNCell, {"recurrent_bias": False}, {"weight_ih": [H, I], "weight_hh": [H, H], "bias_ih": [H]}),
    (GRUCell, {}, {"weight_ih": [3 * H, I], "weight_hh": [3 * H, H], "bias_ih": [3 * H], "bias_hh": [3 * H]}),
    (GRUCell, {"bias": False}, {"weight_ih": [3 * H, I], "weight_hh": [3 * H, H]}),
    (LSTMCell, {}, {"weight_ih": [4 * H, I], "weight_hh": [4 * H, H], "bias_ih": [4 * H], "bias_hh": [4 * H]}),
    (
        LSTMCell,
        {"proj_size": 2, "peephole": True, "recurrent_bias": False},
        {
            "weight_ih": [4 * H, I],
            "weight_hh": [4 * H, 2],
            "bias_ih": [4 * H],
            "peephole_i": [H],
            "peephole_f": [H],
            "peephole_o": [H],
            "weight_hr": [2, H],
        },
    ),
    (
        LSTMCell,
        {"coupled": True, "peephole": True, "bias": False},
        {"weight_ih": [3 * H, I], "weight_hh": [3 * H, H], "peephole_f": [H], "peephole_o": [H]},
    ),
]


@pytest.mark.parametrize(("kind", "options", "shapes"), SHAPES)
def test_parameters_have_torch_names_and_shapes(kind, options, shapes):
    cell = kind(I, H, **options)
    assert {name: list(p.shape) for name, p in cell.named_parameters()} == shapes
    assert list(cell.state_dict()) == list(shapes)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(SimpleRNNCell, H), (GRUCell, H), (LSTMCell, LSTMState(H, H))],  # type: ignore[arg-type]
)
def test_initial_state_is_zero_and_zero_state_another_name_for_it(kind, size):
    cell = kind(I, H, dtype=F64)
    assert cell.state_size == size
    assert (cell.input_size, cell.output_size) == (I, H)
    for state in (cell.initial_state(B), cell.zero_state(B), cell.zero_state(B, torch.float64, "cpu")):
        for leaf in state if isinstance(state, tuple) else [state]:
            assert leaf.shape == (B, H)
            assert leaf.dtype == F64
            assert not leaf.any()
    wide = cell.zero_state(2, torch.float32)
    assert {leaf.dtype for leaf in (wide if isinstance(wide, tuple) else [wide])} == {torch.float32}


def test_a_projected_lstm_keeps_h_and_c_of_different_sizes():
    state = LSTMCell(I, H, proj_size=2).initial_state(B)
    assert (state.h.shape, state.c.shape) == ((B, 2), (B, H))


def test_a_subclass_of_cell_gets_zeros_in_the_structure_of_its_state_size():
    class Mixed(Cell):
        def forward(self, x: Tensor, state: Any, /) -> tuple[Tensor, Any]:
            return x, state

    state = Mixed({"a": 2, "b": (3, [4])}).initial_state(B, dtype=F64)
    assert state["a"].shape == (B, 2)
    assert state["b"][0].dtype == F64
    assert state["b"][1][0].shape == (B, 4)
    with pytest.raises(TypeError, match="abstract"):
        Cell(3)  # type: ignore[abstract]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_what_their_names_say(name):
    x = torch.linspace(-5, 5, 101, dtype=F64)
    exp = torch.exp(x)
    expected = {
        "tanh": torch.tanh(x),
        "sigmoid": sigmoid(x),
        "relu": x.clamp(min=0),
        "leaky_relu": torch.where(x > 0, x, 0.01 * x),
        "elu": torch.where(x > 0, x, exp - 1),
        "gelu": x * 0.5 * (1 + torch.erf(x / 2**0.5)),
        "silu": x * sigmoid(x),
        "softplus": torch.log(1 + exp),
        "softsign": x / (1 + x.abs()),
        "hard_sigmoid": (x / 6 + 0.5).clamp(0, 1),
        "hard_tanh": x.clamp(-1, 1),
        "linear": x,
    }
    torch.testing.assert_close(activation(name)(x), expected[name])


def test_a_callable_activation_is_taken_as_it_is():
    assert activation(torch.sin) is torch.sin


@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell])
def test_an_activation_with_parameters_is_registered_once(kind):
    cell = kind(I, H, activation=nn.PReLU())
    assert [name for name in cell.state_dict() if "activation" in name] == ["activation.weight"]
    output, _ = cell(torch.randn(B, I), cell.initial_state(B))
    output.sum().backward()
    assert cell.activation.weight.grad is not None


@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell])
def test_an_activation_that_is_set_later_is_obeyed(kind):
    cell, other = kind(I, H), kind(I, H, activation="softsign")
    other.load_state_dict(cell.state_dict())
    cell.activation = "softsign"
    x, state = torch.randn(B, I), cell.initial_state(B)
    assert torch.equal(cell(x, state)[0], other(x, state)[0])
    assert repr(cell) == repr(other)


def test_printing_shows_sizes_and_what_is_not_default():
    assert repr(SimpleRNNCell(I, H, nonlinearity="relu")) == "SimpleRNNCell(3, 5, activation=relu)"
    text = repr(LSTMCell(I, H, peephole=True, proj_size=2, dropout=0.5, activation=torch.sin, recurrent_bias=False))
    for part in ("3, 5", "peephole=True", "proj_size=2", "dropout=0.5", "activation=sin", "recurrent_bias=False"):
        assert part in text
    assert "coupled" not in text
    assert (
        repr(GRUCell(I, H, dropout=0.5, shared_over_batch=True)) == "GRUCell(3, 5, dropout=0.5, shared_over_batch=True)"
    )
    assert repr(GRUCell(I, H, bias=False, reset_after=False)) == "GRUCell(3, 5, bias=False, reset_after=False)"


WRONG_ARGUMENTS: list[tuple[Any, dict[str, Any], type[Exception], tuple[str, ...]]] = [
    (LSTMCell, {"hidden_size": 0}, ValueError, ("hidden_size is 0", "expected at least 1")),
    (GRUCell, {"input_size": -2}, ValueError, ("input_size is -2", "expected at least 1")),
    (SimpleRNNCell, {"hidden_size": 2.5}, TypeError, ("hidden_size is 2.5", "expected an int")),
    (SimpleRNNCell, {"input_size": True}, TypeError, ("input_size is True", "expected an int")),
    (LSTMCell, {"dropout": 1.0}, ValueError, ("dropout is 1.0", "expected a probability", "[0, 1)")),
    (LSTMCell, {"dropout": -0.1}, ValueError, ("dropout is -0.1", "expected a probability")),
    (GRUCell, {"recurrent_dropout": 1.5}, ValueError, ("recurrent_dropout is 1.5", "expected a probability")),
    (LSTMCell, {"proj_size": -1}, ValueError, ("proj_size is -1", "expected at least 0", "no projection")),
    (LSTMCell, {"proj_size": 2.5}, TypeError, ("proj_size is 2.5", "expected an int")),
    (LSTMCell, {"proj_size": True}, TypeError, ("proj_size is True", "expected an int")),
    (GRUCell, {"dropout": None}, ValueError, ("dropout is None", "expected a probability")),
    (GRUCell, {"dropout": "0.1"}, ValueError, ("dropout is '0.1'", "expected a probability")),
    (LSTMCell, {"cell_clip": "3"}, ValueError, ("cell_clip is '3'", "expected a positive bound, or None")),
    (LSTMCell, {"cell_clip": 0.0}, ValueError, ("cell_clip is 0.0", "expected a positive bound, or None")),
    (LSTMCell, {"proj_size": 2, "proj_clip": -1.0}, ValueError, ("proj_clip is -1.0", "expected a positive bound")),
    (LSTMCell, {"proj_clip": 1.0}, ValueError, ("proj_clip", "without a projection", "set proj_size")),
    (SimpleRNNCell, {"nonlinearity": "tan"}, ValueError, ("nonlinearity is 'tan'", "expected one of tanh, sigmoid")),
    (GRUCell, {"activation": ["tanh"]}, ValueError, ("activation is ['tanh']", "expected one of tanh")),
    (LSTMCell, {"recurrent_activation": "foo"}, ValueError, ("recurrent_activation is 'foo'", "or a function")),
    (GRUCell, {"init": "zeros"}, ValueError, ("init is 'zeros'", "expected 'torch', 'keras' or a function")),
]


@pytest.mark.parametrize(("kind", "options", "error", "parts"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused(kind, options, error, parts):
    with refused(error, *parts):
        kind(**{"input_size": I, "hidden_size": H, **options})


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype)


WRONG_STEPS: list[tuple[Any, Any, Any, type[Exception], tuple[str, ...]]] = [
    (
        GRUCell,
        zeros(B, I + 1),
        zeros(B, H),
        ValueError,
        ("GRUCell", "[4, 4]", "expected a tensor [B, 3]", "Build the cell"),
    ),
    (GRUCell, zeros(I), zeros(1, H), ValueError, ("input of shape [3]", "expected a tensor [B, 3]", "x[None]")),
    (GRUCell, None, zeros(B, H), ValueError, ("NoneType", "expected a tensor [B, 3]", "torch.as_tensor")),
    (GRUCell, zeros(B, I, dtype=F64), zeros(B, H), TypeError, ("float64", "torch.float32", ".to(", "cell.to(torch.")),
    (GRUCell, zeros(B, I, dtype=torch.long), zeros(B, H), TypeError, ("int64", "Convert it with .to(torch.float32).")),
    (GRUCell, zeros(7, B, I), zeros(B, H), ValueError, ("[7, 4, 3]", "expected a tensor [B, 3]", "dynamic_rnn")),
    (GRUCell, zeros(B, I).to("meta"), zeros(B, H), ValueError, ("input on meta", "expected cpu", "cell.to('meta')")),
    (GRUCell, zeros(B, I), zeros(B, H).to("meta"), ValueError, ("state h on meta", "expected cpu", ".to('cpu')")),
    (GRUCell, zeros(B, I), zeros(B, H + 1), ValueError, ("state h", "[4, 6]", "expected [4, 5]", "initial_state(")),
    (GRUCell, zeros(B, I), zeros(B + 1, H), ValueError, ("state h", "[5, 5]", "expected [4, 5]")),
    (GRUCell, zeros(B, I), (zeros(B, H),), ValueError, ("state h", "([4, 5],)", "expected [4, 5]")),
    (SimpleRNNCell, zeros(B, I), zeros(B, H, dtype=F64), TypeError, ("state h", "float64", "expected torch.float32")),
    (LSTMCell, zeros(B, I), zeros(B, H), ValueError, ("the state [4, 5]", "expected a pair (h, c)")),
    (LSTMCell, zeros(B, I), zeros(2, H), ValueError, ("the state [2, 5]", "expected a pair (h, c)")),
    (LSTMCell, zeros(B, I), (zeros(B, H),) * 3, ValueError, ("([4, 5], [4, 5], [4, 5])", "expected a pair (h, c)")),
    (LSTMCell, zeros(B, I), (zeros(B, H), zeros(1, H)), ValueError, ("state c", "[1, 5]", "expected [4, 5]")),
    (LSTMCell, zeros(B, I), (zeros(B, H), zeros(B, H, dtype=F64)), TypeError, ("state c", "float64", "Convert it")),
]


@pytest.mark.parametrize(("kind", "x", "state", "error", "parts"), WRONG_STEPS)
def test_wrong_inputs_and_states_are_refused(kind, x, state, error, parts):
    cell = kind(I, H)
    with refused(error, *parts):
        cell(x, state)
