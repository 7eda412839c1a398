"""`torch.nn`'s recurrent modules as this library's, and the way back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import unspool as us
from tests.refusal import refused
from unspool.interop import from_torch, to_torch

MODULES = {
    "rnn": lambda: nn.RNN(3, 5, nonlinearity="relu", bias=False),
    "lstm": lambda: nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.5),
    "lstm projected": lambda: nn.LSTM(3, 5, proj_size=2, dtype=torch.float64),
    "gru": lambda: nn.GRU(3, 5, num_layers=3),
    "rnn cell": lambda: nn.RNNCell(3, 5),
    "lstm cell": lambda: nn.LSTMCell(3, 5),
    "gru cell": lambda: nn.GRUCell(3, 5, bias=False),
}


def leaves(results: Any) -> list[Tensor]:
    return [leaf for part in results for leaf in leaves(part)] if isinstance(results, tuple) else [results]


def same_parameters(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name):
    module: Any = MODULES[name]().eval()
    first = next(module.parameters())
    first.requires_grad_(False)
    ours: Any = from_torch(module)
    theirs: Any = to_torch(ours)
    for converted in (ours, theirs):
        same_parameters(converted, module)
        assert not converted.training
        assert [p.requires_grad for p in converted.parameters()] == [p.requires_grad for p in module.parameters()]
    assert type(theirs) is type(module)
    assert str(theirs) == str(module)

    cell = name.endswith("cell")
    x = torch.randn(2, 3) if cell else torch.randn(2, 4, 3, dtype=first.dtype)
    expected = module(x)
    received = us.dynamic_rnn(ours, x[:, None])[1] if cell else ours(x)
    for one, other in zip(leaves(received), leaves(expected), strict=True):
        torch.testing.assert_close(one, other)


def test_parameters_are_copies():
    module = nn.LSTM(3, 5)
    converted = from_torch(module)
    with torch.no_grad():
        module.get_parameter("weight_ih_l0").zero_()
    assert bool(converted.get_parameter("weight_ih_l0").any())


def test_no_random_numbers_are_drawn():
    module = nn.GRU(3, 5)
    before = torch.get_rng_state()
    to_torch(from_torch(module))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "module",
    [us.LSTM(3, 5, recurrent_bias=False), us.GRU(3, 5, recurrent_bias=False, bidirectional=True), us.LSTM(3, 5)],
    ids=["lstm", "gru", "two biases"],
)
def test_a_missing_second_bias_is_zeros(module):
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(to_torch(module)(x)[0], module(x)[0])


def test_the_forget_bias_is_added():
    cell = us.LSTMCell(3, 5, forget_bias=1.0)
    x, state = torch.randn(2, 3), cell.initial_state(2)
    torch.testing.assert_close(to_torch(cell)(x, tuple(state))[0], cell(x, state)[0])


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (us.GRU(3, 5, reset_after=False), ("reset_after=False", "expected True", "torch.nn")),
        (us.GRU(3, 5, recurrent_dropout=0.5), ("recurrent_dropout=0.5",)),
        (us.LSTM(3, 5, activation="relu"), ("activation='relu'",)),
        (us.SimpleRNN(3, 5, activation="silu"), ("activation='silu'",)),
        (us.LSTMCell(3, 5, peephole=True), ("peephole=True",)),
        (us.LSTMCell(3, 5, proj_size=2), ("proj_size=2", "expected 0")),
        (us.LSTM(3, 5, reverse=True), ("reverse=True",)),
        (us.LSTM(3, 5, return_sequences=False), ("return_sequences=False",)),
        (us.LSTM(3, 5, learn_initial_state=True), ("learn_initial_state=True", "expected False")),
        (us.GRU(3, 5, stateful=True), ("stateful=True", "expected False")),
    ],
)
def test_what_torch_has_not_is_refused(module, parts):
    with refused(ValueError, *parts):
        to_torch(module)


def test_other_modules_are_refused():
    class Mine(nn.LSTM):
        pass

    normed = parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")
    for module in (nn.Linear(3, 5), Mine(3, 5), us.LSTM(3, 5), normed, us.accelerate(nn.GRU(3, 5))):
        with refused(TypeError, f"received {type(module).__name__}", "expected torch.nn's RNN, LSTM"):
            from_torch(module)
    with refused(TypeError, "received Linear", "expected unspool's SimpleRNN, LSTM"):
        to_torch(nn.Linear(3, 5))
    with refused(ValueError, "do not make a LSTM(3, 5)", "weight_hh_l0 missing (expected [20, 5])"):
        from_torch(prune.l1_unstructured(nn.LSTM(3, 5), "weight_hh_l0", amount=0.5))
