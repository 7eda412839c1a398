"""Flax's trees as cells of this library: outputs and final states of Flax itself, and the way back."""

from typing import Any

import numpy as np
import pytest
import torch

import unspool as us
from tests.conformance.golden_cases import GoldenCase, load_cases
from tests.refusal import refused
from unspool import LSTMState
from unspool.interop import from_flax, to_flax

CASES = load_cases("interop", {"flax": 18})
OPTIONS = {"activation": "relu", "recurrent_activation": "hard_sigmoid"}


def tree_of(case: GoldenCase) -> dict[str, dict[str, np.ndarray]]:
    tree: dict[str, dict[str, np.ndarray]] = {}
    for path, array in case.under("params/").items():
        name, part = path.split("|")
        tree.setdefault(name, {})[part] = array.numpy()
    return tree


def convert(name: str) -> us.Cell:
    return from_flax(tree_of(CASES[name]), **(OPTIONS if "relu" in name else {}))


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_states_are_those_of_flax(name):
    case = CASES[name]
    outputs, state = us.dynamic_rnn(convert(name), case.arrays["inputs"])
    case.check("outputs", outputs.detach(), case.arrays["outputs"])
    leaves = [state.c, state.h] if isinstance(state, LSTMState) else [state]
    for received, expected in zip(leaves, case.under("final_state/").values(), strict=True):
        case.check("final state", received.detach(), expected)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("linen")])
def test_the_way_back_is_exact(name):
    received, expected = to_flax(convert(name)), tree_of(CASES[name])
    assert {name: set(entry) for name, entry in received.items()} == {k: set(v) for k, v in expected.items()}
    for entry, parts in expected.items():
        for part, array in parts.items():
            assert received[entry][part].dtype == array.dtype
            np.testing.assert_array_equal(received[entry][part], array)


@pytest.mark.parametrize(
    "module",
    [
        us.RNN(us.LSTMCell(3, 5, forget_bias=1.0)),
        us.LSTM(3, 5, bias=False),
        us.GRU(3, 5),
        us.GRU(3, 5, bias=False),
        us.GRU(3, 5, recurrent_bias=False),
        us.SimpleRNN(3, 5),
    ],
    ids=lambda module: str(module).replace("\n", " "),
)
def test_other_biases_mean_the_same(module):
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(us.RNN(from_flax(to_flax(module)))(x)[0], module(x)[0])


def entry(*shape: int, bias: int = 0) -> dict[str, Any]:
    return {"kernel": np.zeros(shape)} | ({"bias": np.zeros(bias)} if bias else {})


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"params": {}}, ("received a tree with ['params']", "below the cell")),
        ({"if": entry(3, 5), "in": entry(3, 5), "hf": entry(5, 5), "hn": entry(5, 5)}, ("['hf', 'hn', 'if', 'in']",)),
        ({"i": {"w": 0}, "h": entry(5, 5)}, ("i holds ['w']", "expected a kernel")),
        ({"i": 1.0, "h": entry(5, 5)}, ("i holds float",)),
        ({"dense_i": entry(3, 10), "dense_h": entry(5, 10)}, ("[5, 10]", "[H, 4 H] (LSTM)")),
        ({"i": entry(3, 4), "h": entry(5, 5)}, ("weight_ih [4, 3] (expected [5, 3])",)),
    ],
)
def test_what_cannot_be_converted_is_refused(tree, parts):
    with refused(ValueError, *parts):
        from_flax(tree)


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (us.GRUCell(3, 5, reset_after=False), ("reset_after=False", "expected True", "Flax")),
        (us.LSTMCell(3, 5, cell_clip=1.0), ("cell_clip=1.0", "expected None")),
        (us.GRU(3, 5, bidirectional=True), ("bidirectional=True", "expected one layer in one direction")),
    ],
)
def test_what_flax_has_not_is_refused(module, parts):
    with refused(ValueError, *parts):
        to_flax(module)


def test_bfloat16_has_no_array():
    with refused(TypeError, "bfloat16", ".float()"):
        to_flax(us.GRU(3, 5, dtype=torch.bfloat16))
