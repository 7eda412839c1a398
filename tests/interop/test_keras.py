"""Keras 3's layers as this library's: outputs and final states of Keras itself, and the way back."""

import importlib.util
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unspool as us
from tests.conformance.golden_cases import GoldenCase, load_cases
from tests.refusal import refused
from unspool.interop import from_keras, to_keras

CASES = load_cases("interop", {"keras": 19})
LEAKY = {"leaky_relu": partial(F.leaky_relu, negative_slope=0.2)}


def weights_of(case: GoldenCase) -> list[np.ndarray]:
    return [array.numpy() for array in case.under("weight/").values()]


def convert(case: GoldenCase) -> nn.Module:
    return from_keras(case.meta["layer"], weights_of(case), activations=LEAKY)


def leaves(results: Any) -> list[Tensor]:
    """Results in Keras's order: states of layers have an axis of layers here."""
    if isinstance(results, tuple):
        return [leaf for part in results for leaf in leaves(part)]
    return [results]


def without_layers(module: nn.Module, states: Any) -> list[Tensor]:
    stacked = isinstance(module, us.SimpleRNN | us.LSTM | us.GRU)
    return [leaf.squeeze(0) if stacked else leaf for leaf in leaves(states)]


def run(module: Any, case: GoldenCase) -> list[Tensor]:
    rows = case.meta["mask"]
    mask = None if rows is None else torch.tensor([[step == "1" for step in row] for row in rows])
    results = module(case.arrays["inputs"], mask=mask)
    both = isinstance(module, us.Bidirectional)
    if not (module.forward_layer if both else module).return_state:
        return leaves(results)
    output, state = results
    if not both:
        return [*leaves(output), *without_layers(module, state)]
    layers = (module.forward_layer, module.backward_layer)
    return [*leaves(output), *(leaf for pair in zip(layers, state, strict=True) for leaf in without_layers(*pair))]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_states_are_those_of_keras(name):
    case = CASES[name]
    module = convert(case).eval()
    expected = case.under("result/")
    received = run(module, case)
    assert len(received) == len(expected)
    for what, one, other in zip(expected, received, expected.values(), strict=True):
        case.check(what, one.detach(), other)


def settings_agree(ours: Any, theirs: Any) -> None:
    """Compare all that our configuration says with Keras's, which says more."""
    if isinstance(ours, dict) and set(ours) >= {"class_name", "config"}:
        assert ours["class_name"] == theirs["class_name"]
        settings_agree(ours["config"], theirs["config"])
    elif isinstance(ours, dict):
        for key, value in ours.items():
            if key == "dtype":
                assert theirs[key]["config"]["name"] == value
            elif key != "zero_output_for_mask":
                settings_agree(value, theirs[key])
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            settings_agree(one, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", [name for name in CASES if "leaky" not in name])
def test_the_way_back_is_exact(name):
    case = CASES[name]
    config, weights = to_keras(convert(case))
    settings_agree(config, case.meta["layer"])
    for received, expected in zip(weights, weights_of(case), strict=True):
        assert received.dtype == expected.dtype
        np.testing.assert_array_equal(received, expected)


MODULES = {
    "lstm with two biases and a forget bias": us.RNN(us.LSTMCell(3, 5, forget_bias=1.0), batch_first=True),
    "lstm without biases but a forget bias": us.RNN(us.LSTMCell(3, 5, bias=False, forget_bias=1.0), batch_first=True),
    "gru with one bias": us.GRU(3, 5, batch_first=True, recurrent_bias=False),
    "gru with the reset gate before": us.GRU(3, 5, batch_first=True, reset_after=False),
    "simple rnn": us.SimpleRNN(3, 5, batch_first=True, nonlinearity="relu"),
    "bidirectional": us.LSTM(3, 5, batch_first=True, bidirectional=True),
    "last": us.LSTM(3, 5, batch_first=True, reverse=True, return_sequences=False, return_state=False),
    "cell": us.StackedRNNCells([us.LSTMCell(3, 5), us.GRUCell(5, 2)]),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_keras_writes_otherwise_means_the_same(name):
    module = MODULES[name]
    back = from_keras(*to_keras(module))
    x = torch.randn(2, 4, 3)
    if name == "cell":
        module, back = (us.RNN(one, batch_first=True) for one in (module, back))
    expected, received = module(x), back(x)
    pairs = zip(leaves(expected), leaves(received), strict=False)
    for one, other in pairs if name != "bidirectional" else [(expected[0], received[0])]:
        torch.testing.assert_close(other, one)


@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras, which builds the layers, is not here")
@pytest.mark.parametrize("name", MODULES)
def test_keras_builds_what_is_written(name):
    import keras  # pyright: ignore[reportMissingImports]

    module = MODULES[name]
    config, weights = to_keras(module)
    layer = keras.layers.deserialize(config)
    if name == "cell":
        module, layer = us.RNN(module, batch_first=True, return_sequences=False), keras.layers.RNN(layer)
    x = torch.randn(2, 4, 3)
    layer.build(x.shape)
    layer.set_weights(weights)
    received = keras.tree.flatten(layer(x.numpy()))[0]
    torch.testing.assert_close(torch.from_numpy(np.asarray(received)), leaves(module(x))[0])


class Layer:
    """What `from_keras` asks of a live layer."""

    def __init__(self, name: str) -> None:
        self.case = CASES[name]

    def get_config(self) -> dict[str, Any]:
        return self.case.meta["layer"]["config"]

    def get_weights(self) -> list[np.ndarray]:
        return weights_of(self.case)


def test_a_live_layer_tells_everything_itself():
    layer = type("LSTM", (Layer,), {})("lstm_float64")
    received, expected = from_keras(layer), convert(CASES["lstm_float64"])
    assert str(received) == str(expected)
    assert all(map(torch.equal, received.parameters(), expected.parameters()))


def test_dropout_is_taken_over():
    layer = convert(CASES["simple_float64"])
    assert isinstance(layer, us.SimpleRNN)
    (cell,) = layer.bound_cells()
    assert (cell.dropout, cell.recurrent_dropout) == (0.25, 0.5)


def config(**settings: Any) -> dict[str, Any]:
    return {"class_name": "LSTM", "config": {"units": 5, **settings}}


WEIGHTS = [np.zeros((3, 20)), np.zeros((5, 20)), np.zeros(20)]


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        (config(implementation=2), ("Keras 2", "expected one of Keras 3")),
        (config(zero_output_for_mask=True), ("return_sequences=False", "expected False")),
        (config(activation="leaky_relu"), ("'leaky_relu'", "expected one of tanh", "activations={'leaky_relu'")),
        (config(activation={"class_name": "__lambda__", "config": {"value": []}}), ("'__lambda__'",)),
        (config(units=4), ("do not make a LSTM", "weight_hh_l0 [20, 5] (expected [16, 4])")),
        ({"class_name": "ConvLSTM2D", "config": {}}, ("received a ConvLSTM2D", "expected SimpleRNN, LSTM, GRU")),
        ({"class_name": "Bidirectional", "config": {"layer": config(go_backwards=True)}}, ("go_backwards=True",)),
        ({"class_name": "Bidirectional", "config": {"layer": {"class_name": "Conv1D", "config": {}}}}, ("Conv1D",)),
        ({"class_name": "GRU", "config": {"units": 5}}, ("[3, 20]", "the 3 gates")),
    ],
)
def test_what_cannot_be_converted_is_refused(layer, parts):
    with refused(ValueError, *parts):
        from_keras(layer, WEIGHTS)


def test_too_few_or_too_many_weights_are_refused():
    with refused(ValueError, "end before the bias of a LSTM", "been built"):
        from_keras(config(), WEIGHTS[:2])
    with refused(ValueError, "received 4 weights", "expected 3"):
        from_keras(config(), [*WEIGHTS, WEIGHTS[0]])
    with refused(TypeError, "weights[0] is an array of torch.int64", "floating-point"):
        from_keras(config(), [np.zeros((3, 20), int), *WEIGHTS[1:]])
    with refused(TypeError, "expected one"):
        from_keras(config(), [np.zeros((3, 20), np.float32), *WEIGHTS[1:]])


def test_stateful_is_one_option_on_both_sides():
    layer = from_keras(config(stateful=True), WEIGHTS)
    assert layer.stateful
    assert to_keras(layer).config["config"]["stateful"]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: us.LSTMCell(3, 5, peephole=True), ("peephole=True", "expected False", "Keras")),
        (lambda: us.LSTM(3, 5, proj_size=2), ("proj_size=2",)),
        (lambda: us.LSTM(3, 5, learn_initial_state=True), ("learn_initial_state=True", "expected False: Keras")),
        (lambda: us.LSTM(3, 5, num_layers=2), ("num_layers=2", "expected 1")),
        (lambda: us.LSTM(3, 5, reverse=True), ("reverse=True", "expected go_backwards=True")),
        (lambda: us.LSTM(3, 5, activation="leaky_relu"), ("'leaky_relu'", "expected one of tanh")),
        (lambda: us.Bidirectional(us.LSTM(3, 5), merge_mode=torch.maximum), ("merge_mode", "expected a name")),
        (lambda: us.Bidirectional(us.LSTM(3, 5, reverse=True)), ("forward layer is reversed",)),
    ],
)
def test_what_keras_has_not_is_refused(make, parts):
    with refused(ValueError, *parts):
        to_keras(make())


def test_other_modules_are_refused():
    with refused(TypeError, "received Linear", "expected SimpleRNNCell, LSTMCell or GRUCell"):
        to_keras(nn.Linear(3, 5))
