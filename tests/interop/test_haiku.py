"""Haiku's parameters as cells of this library: outputs and final states of Haiku itself, and the way back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import unspool as us
from tests.conformance.golden_cases import GoldenCase, load_cases
from tests.refusal import refused
from unspool.interop import from_haiku, to_haiku

CASES = load_cases("interop", {"haiku": 10})
CORES = {"lstm": "lstm", "gru": "gru", "vanilla": "vanilla_rnn", "vanilla_one_bias": "vanilla_rnn"}
DEEP = ["lstm", "lstm_1", "gru"]


def params_of(case: GoldenCase) -> dict[str, dict[str, np.ndarray]]:
    params: dict[str, dict[str, np.ndarray]] = {}
    for path, array in case.under("params/").items():
        module, name = path.split("|")
        params.setdefault(module, {})[name] = array.numpy()
    return params


def cores_of(name: str) -> list[str]:
    kind = name.removeprefix("haiku_").rpartition("_")[0]
    return DEEP if kind == "deep" else [CORES[kind]]


def leaves(state: Any) -> list[Tensor]:
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_states_are_those_of_haiku(name):
    case = CASES[name]
    cells = [from_haiku(params_of(case), core) for core in cores_of(name)]
    outputs, state = us.dynamic_rnn(us.StackedRNNCells(cells), case.arrays["inputs"])
    case.check("outputs", outputs.detach(), case.arrays["outputs"])
    for received, expected in zip(leaves(state), case.under("final_state/").values(), strict=True):
        case.check("final state", received.detach(), expected)


@pytest.mark.parametrize("name", CASES)
def test_the_way_back_is_exact(name):
    expected = params_of(CASES[name])
    received: dict[str, dict[str, np.ndarray]] = {}
    for core in cores_of(name):
        received |= to_haiku(from_haiku(expected, core), core)
    assert {module: set(entry) for module, entry in received.items()} == {k: set(v) for k, v in expected.items()}
    for module, entry in expected.items():
        for key, array in entry.items():
            assert received[module][key].dtype == array.dtype
            np.testing.assert_array_equal(received[module][key], array)


@pytest.mark.parametrize(
    "module",
    [
        us.LSTM(3, 5),
        us.LSTM(3, 5, bias=False),
        us.GRU(3, 5, reset_after=False),
        us.SimpleRNN(3, 5, nonlinearity="relu", bias=False),
    ],
    ids=lambda module: str(module),
)
def test_other_biases_mean_the_same(module):
    x = torch.randn(4, 2, 3)
    back = us.RNN(from_haiku(to_haiku(module, "net/~/core"), "net/~/core"))
    torch.testing.assert_close(back(x)[0], module(x)[0])


def test_unknown_cores_are_refused():
    params = {"lstm/linear": {"w": np.zeros((8, 20)), "b": np.zeros(20)}, "mlp/linear": {"w": np.zeros((3, 3))}}
    for name in ("gru", "mlp", "lstm/linear"):
        with refused(ValueError, f"'{name}' is not the name of", "lstm/linear, mlp/linear", f"expected {name}/linear"):
            from_haiku(params, name)


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (us.GRU(3, 5), ("reset_after=True", "expected False", "Haiku")),
        (us.SimpleRNN(3, 5), ("activation='tanh'", "expected 'relu'")),
        (us.LSTM(3, 5, activation="relu"), ("activation='relu'", "expected 'tanh'")),
        (us.LSTM(3, 5, proj_size=2), ("proj_size=2", "expected 0")),
    ],
)
def test_what_haiku_has_not_is_refused(module, parts):
    with refused(ValueError, *parts):
        to_haiku(module, "core")
