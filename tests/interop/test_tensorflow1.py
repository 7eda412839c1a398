"""TensorFlow 1's variables as cells of this library: outputs and final states of TensorFlow, and the way back."""

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.conformance.golden_cases import GOLDEN, GoldenCase, load_cases
from tests.refusal import refused
from unspool import LSTMState
from unspool.interop import from_tensorflow1, to_tensorflow1

CASES = load_cases("interop", {"tensorflow1": 12})
RNG = np.random.default_rng(0)
OPTIONS: dict[str, dict[str, Any]] = {
    "lstm_forget_bias_0": {"forget_bias": 0.0},
    "lstm_peephole": {"cell_clip": 0.3},
    "lstm_projected": {"proj_clip": 0.2},
}
SCOPES = {
    "rnn": "rnn/basic_rnn_cell",
    "basic_lstm": "rnn/basic_lstm_cell",
    "gru": "rnn/gru_cell",
    "mixed": "rnn/multi_rnn_cell",
    "deep": "rnn/multi_rnn_cell",
}


def kind(name: str) -> str:
    return name.rpartition("_")[0]


def variables_of(case: GoldenCase) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in case.under("variable/").items()}


def convert(name: str, scope: str) -> nn.Module:
    return from_tensorflow1(variables_of(CASES[name]), scope, **OPTIONS.get(kind(name), {}))


def leaves(state: Any) -> list[Tensor]:
    """The leaves of a state in TensorFlow's order: c before h."""
    if isinstance(state, LSTMState):
        return [state.c, state.h]
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple) else [state]


def check(case: GoldenCase, received: list[Tensor]) -> None:
    expected = case.under("result/")
    assert len(received) == len(expected)
    for what, one, other in zip(expected, received, expected.values(), strict=True):
        case.check(what, one.detach(), other)


@pytest.mark.parametrize("name", [name for name in CASES if "bidirectional" not in name])
@pytest.mark.parametrize("around", [False, True], ids=["its own scope", "a scope around it"])
def test_outputs_and_states_are_those_of_tensorflow(name, around):
    case = CASES[name]
    cell = convert(name, "rnn" if around else SCOPES.get(kind(name), "rnn/lstm_cell"))
    outputs, state = us.dynamic_rnn(cell, case.arrays["inputs"], case.meta["lengths"])
    check(case, [outputs, *leaves(state)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_directions(dtype):
    name = f"bidirectional_{dtype}"
    fw, bw = (convert(name, f"bidirectional_rnn/{direction}") for direction in ("fw", "bw"))
    case = CASES[name]
    outputs, states = us.bidirectional_dynamic_rnn(fw, bw, case.arrays["inputs"], case.meta["lengths"])
    check(case, [*outputs, *leaves(tuple(states))])


@pytest.mark.parametrize("name", [name for name in CASES if "bidirectional" not in name])
def test_the_way_back_is_exact(name):
    scope = SCOPES.get(kind(name), "rnn/lstm_cell")
    cell = convert(name, scope)
    if name == "deep_float64":  # TensorFlow had BasicLSTMCell here; LSTMCell is the same one
        renamed = {k.replace("basic_lstm", "lstm"): v for k, v in variables_of(CASES[name]).items()}
    else:
        renamed = variables_of(CASES[name])
    expected = {k.removesuffix(":0"): v for k, v in renamed.items() if k.startswith("rnn/") and "Adam" not in k}
    received = to_tensorflow1(cell, scope)
    assert received.keys() == expected.keys()
    for variable, array in received.items():
        assert array.dtype == expected[variable].dtype
        np.testing.assert_array_equal(array, expected[variable])


@pytest.mark.parametrize(
    "cell",
    [us.LSTMCell(3, 5), us.LSTMCell(3, 5, bias=False), us.GRUCell(3, 5, reset_after=False), us.SimpleRNNCell(3, 5)],
    ids=["lstm", "lstm without biases", "gru", "rnn"],
)
def test_two_biases_or_none_become_one(cell):
    back = from_tensorflow1(to_tensorflow1(cell, "net/cell"), "net", _kind(cell), forget_bias=0.0)
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(us.dynamic_rnn(back, x), us.dynamic_rnn(cell, x))


def _kind(cell: nn.Module) -> str:
    return {us.LSTMCell: "lstm", us.GRUCell: "gru", us.SimpleRNNCell: "rnn"}[type(cell)]


def test_layers_of_one_cell_are_taken_too():
    layer = us.RNN(us.StackedRNNCells([us.LSTMCell(3, 5), us.SimpleRNNCell(5, 2)]))
    assert set(to_tensorflow1(layer, "s")) == {
        *("s/cell_0/lstm_cell/kernel", "s/cell_0/lstm_cell/bias"),
        *("s/cell_1/basic_rnn_cell/kernel", "s/cell_1/basic_rnn_cell/bias"),
    }


LSTM = {"rnn/lstm_cell/kernel": np.zeros((8, 20)), "rnn/lstm_cell/bias": np.zeros(20)}


@pytest.mark.parametrize(
    ("variables", "scope", "kind", "parts"),
    [
        (LSTM, "net", None, ("'net' is not the scope", "in the scopes rnn/lstm_cell.")),
        (LSTM, "rn", None, ("'rn' is not the scope",)),
        ({**LSTM, "rnn/lstm_cell/gamma": 0}, "rnn", None, ("other variables ['rnn/lstm_cell/gamma']",)),
        ({**LSTM, "rnn/b/kernel": LSTM["rnn/lstm_cell/kernel"]}, "rnn", None, ("['rnn/b', 'rnn/lstm_cell']",)),
        ({"rnn/a/kernel": LSTM["rnn/lstm_cell/kernel"]}, "rnn", None, ("does not tell the kind", "kind='rnn'")),
        (LSTM, "rnn", "convolution", ("kind is 'convolution'", "expected one of rnn, lstm, gru")),
        (LSTM, "rnn", "gru", ("for a cell of kind 'gru'", "expected candidate/bias")),
        ({"rnn/lstm_cell/kernel": np.zeros((8, 20))}, "rnn", None, ("expected bias, kernel and perhaps",)),
        ({**LSTM, "rnn/lstm_cell/kernel": np.zeros((5, 20))}, "rnn", None, ("[5, 20]", "5 hidden features joined")),
        ({**LSTM, "rnn/lstm_cell/kernel": np.zeros((8, 24))}, "rnn", None, ("weight_ih [24, 3] (expected [20, 3])",)),
        ({**LSTM, "rnn/lstm_cell/w_i_diag": np.zeros(5)}, "rnn", None, ("peephole_f missing (expected [5])",)),
    ],
)
def test_what_cannot_be_converted_is_refused(variables, scope, kind, parts):
    with refused(ValueError, *parts):
        from_tensorflow1(variables, scope, kind)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        (us.GRUCell(3, 5), ("reset_after=True", "expected False")),
        (us.LSTMCell(3, 5, coupled=True), ("coupled=True",)),
        (us.LSTMCell(3, 5, recurrent_activation="hard_sigmoid"), ("'hard_sigmoid'", "expected 'sigmoid'")),
    ],
)
def test_what_tensorflow_has_not_is_refused(cell, parts):
    with refused(ValueError, *parts):
        to_tensorflow1(cell, "rnn/cell")


@pytest.mark.parametrize(
    ("name", "added"),
    [("basic_lstm_cell", 1.0), ("lstm_cell", 1.0), ("lstm_cell_1", 1.0), ("mine", 1.0),
     ("cudnn_compatible_lstm_cell", 0.0), ("cudnn_compatible_lstm_cell_2", 0.0)],
)  # fmt: skip
def test_the_forget_bias_is_the_one_that_tensorflows_cell_adds_unless_it_is_given(name, added):
    scope = f"rnn/multi_rnn_cell/cell_0/{name}"
    kernel, bias = RNG.normal(size=(8, 20)), RNG.normal(size=20)
    variables = {f"{scope}/kernel": kernel, f"{scope}/bias": bias}
    kind = "lstm" if name == "mine" else None
    cell = from_tensorflow1(variables, "rnn", kind)
    assert cell.forget_bias == added
    assert from_tensorflow1(variables, "rnn", kind, forget_bias=0.5).forget_bias == 0.5
    # By TensorFlow's equations: i, j, f, o on one kernel.
    x, h, c = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))
    i, j, f, o = torch.from_numpy(np.concatenate([x, h], 1) @ kernel + bias).chunk(4, 1)
    memory = torch.from_numpy(c) * torch.sigmoid(f + added) + torch.sigmoid(i) * torch.tanh(j)
    output, _ = cell(torch.from_numpy(x), us.LSTMState(torch.from_numpy(h), torch.from_numpy(c)))
    torch.testing.assert_close(output, torch.sigmoid(o) * torch.tanh(memory))


def test_a_cell_with_the_names_of_another_one_is_refused():
    scope = "rnn/coupled_input_forget_gate_lstm_cell"
    variables = {f"{scope}/kernel": np.zeros((11, 24)), f"{scope}/bias": np.zeros(24)}
    with refused(ValueError, scope, "whose step is another one", "expected the cells", "by hand"):
        from_tensorflow1(variables, "rnn", "lstm")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow, which reads it, is not here")
def test_a_checkpoint_is_read():
    for direction in ("fw", "bw"):
        received = from_tensorflow1(GOLDEN / "tensorflow1.ckpt", f"bidirectional_rnn/{direction}")
        expected = convert("bidirectional_float32", f"bidirectional_rnn/{direction}")
        assert str(received) == str(expected)
        assert all(map(torch.equal, received.parameters(), expected.parameters()))


def test_a_checkpoint_without_tensorflow_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with refused(ImportError, "model.ckpt", "needs tensorflow", "tf.train.load_checkpoint", "np.load"):
        from_tensorflow1("model.ckpt", "rnn")


def test_an_archive_of_arrays_is_a_mapping(tmp_path):
    np.savez(tmp_path / "variables.npz", **LSTM)
    with np.load(tmp_path / "variables.npz") as variables:
        assert str(from_tensorflow1(variables, "rnn")) == "LSTMCell(3, 5, recurrent_bias=False, forget_bias=1.0)"
