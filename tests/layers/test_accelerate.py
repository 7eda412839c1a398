"""Swapping the classes of a model's recurrent modules, and back: what stays, what is refused, what is new.

Oracles are `torch.nn`'s own modules.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import unspool as us
from tests.conformance.oracle import assert_close
from unspool.layers import AcceleratedLSTM, _accelerated

MODULES = {
    "RNN": lambda: nn.RNN(3, 5),
    "RNN relu, no bias": lambda: nn.RNN(3, 5, nonlinearity="relu", bias=False, batch_first=True),
    "LSTM": lambda: nn.LSTM(3, 5, batch_first=True),
    "LSTM, 2 layers both ways": lambda: nn.LSTM(3, 5, 2, bidirectional=True),
    "LSTM, projection both ways": lambda: nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True, batch_first=True),
    "GRU": lambda: nn.GRU(3, 5),
    "GRU, 3 layers both ways": lambda: nn.GRU(3, 5, 3, bidirectional=True, batch_first=True),
}


@pytest.fixture(params=MODULES, ids=str)
def module(request) -> nn.RNNBase:
    torch.manual_seed(0)
    return MODULES[request.param]().double()


@pytest.fixture
def x(module) -> torch.Tensor:
    shape = (4, 6, 3) if module.batch_first else (6, 4, 3)
    return torch.randn(shape, dtype=torch.float64)


def values(result: Any) -> list[torch.Tensor]:
    output, state = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output, *(state if isinstance(state, tuple) else (state,))]


def gradients(module: nn.Module, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Return what a module computes, and the gradients of its parameters."""
    module.zero_grad()
    found = values(module(*args, **kwargs))
    weights = torch.Generator().manual_seed(1)
    sum((v * torch.randn(v.shape, generator=weights, dtype=v.dtype)).sum() for v in found).backward()  # type: ignore[union-attr]
    names = {f"value {k}": v.detach() for k, v in enumerate(found)}
    return names | {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
def test_the_numbers_are_those_of_torch(module, x):
    expected = [gradients(module, x), gradients(module, x[0])]
    parameters = list(module.parameters())
    assert us.accelerate(module) is module
    assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
    for given, before in zip((x, x[0]), expected, strict=True):
        assert_close(gradients(module, given), before, torch.float64)
    assert {d.chosen for d in us.explain(module, x).decisions} == {"native"}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize("lengths", [[6, 5, 5, 1], [2, 6, 1, 4]], ids=["sorted", "unsorted"])
def test_packed_sequences_come_back_packed_alike(module, x, lengths):
    packed = pack_padded_sequence(x, torch.tensor(lengths), module.batch_first, enforce_sorted=lengths[1] == 5)
    expected, before = gradients(module, packed), module(packed)[0]
    us.accelerate(module)
    assert_close(gradients(module, packed), expected, torch.float64)
    output = module(packed)[0]
    assert torch.equal(output.batch_sizes, before.batch_sizes)
    for ours, theirs in zip(output[2:], before[2:], strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    padded, found = pad_packed_sequence(output, module.batch_first, total_length=9)
    assert padded.shape[1 if module.batch_first else 0] == 9
    assert found.tolist() == lengths


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
def test_lengths_without_packing(module, x):
    lengths = [2, 6, 0, 4]
    kept = [0, 1, 3]
    rows = x[kept] if module.batch_first else x[:, kept]
    packed = pack_padded_sequence(rows, torch.tensor([2, 6, 4]), module.batch_first, enforce_sorted=False)
    output, state = module(packed)
    expected = pad_packed_sequence(output, module.batch_first)[0]
    us.accelerate(module)
    output, found = module(x, lengths=lengths)
    assert_close({"": output[kept] if module.batch_first else output[:, kept]}, {"": expected}, torch.float64)
    for ours, theirs in zip(values((output, found))[1:], values((output, state))[1:], strict=True):
        assert_close({"": ours[:, kept]}, {"": theirs}, torch.float64)
        assert not ours[:, 2].any()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_batches_of_any_size_run_on_the_engine(kind):
    module = kind(3, 5)
    xs = [torch.randn(1, 1, 3), torch.randn(2, 4, 3), torch.randn(100, 4, 3)]
    expected = [gradients(module, x) for x in xs]
    us.accelerate(module)
    for x, want in zip(xs, expected, strict=True):
        assert {d.chosen for d in us.explain(module, x).decisions} == {"native"}
        assert_close(gradients(module, x), want, torch.float32)
    with pytest.raises(ValueError, match="backend is 'fast'"):
        us.accelerate(module, backend="fast")


def test_a_ragged_batch_is_taken_as_it_is():
    module = us.accelerate(nn.GRU(3, 5))
    lengths = torch.tensor([2, 0, 4])
    batch = us.RaggedBatch(torch.randn(6, 3), lengths, None, torch.arange(3))
    padded, _ = batch.to_padded(time_major=True)
    output, state = module(batch)
    expected, last = module(padded, lengths=lengths)
    assert torch.equal(output.to_padded(time_major=True)[0], expected)
    assert torch.equal(state, last)


def test_attributes_state_dict_and_class_stay(module):
    before = copy.deepcopy(module)
    us.accelerate(module)
    assert isinstance(module, type(before))
    assert vars(module).keys() == vars(before).keys()
    state = module.state_dict()
    assert list(state) == list(before.state_dict())
    assert all(torch.equal(state[name], value) for name, value in before.state_dict().items())
    us.decelerate(module)
    assert type(module) is type(before)
    assert vars(module).keys() == vars(before).keys()


def test_copies_leave_the_model_alone():
    model = nn.Sequential(nn.Embedding(4, 3), nn.LSTM(3, 5))
    faster = us.accelerate(model, copy=True)
    assert type(model[1]) is nn.LSTM
    assert type(faster[1]) is AcceleratedLSTM
    slower = us.decelerate(faster, copy=True)
    assert type(faster[1]) is AcceleratedLSTM
    assert type(slower[1]) is nn.LSTM


class ForgetLSTM(nn.LSTM):
    """As people write it: another start, the same forward."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            self.get_parameter("bias_ih_l0")[5:10] = 1.0


class LoudGRU(nn.GRU):
    def forward(self, input, hx=None):
        return super().forward(10 * input, hx)


@pytest.mark.parametrize("kind", [nn.LSTM, ForgetLSTM])
def test_pickling_and_deepcopy(kind):
    module = us.accelerate(kind(3, 5))
    x = torch.randn(4, 2, 3)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(again) is type(module)
        assert torch.equal(again(x)[0], module(x)[0])
    assert type(us.decelerate(module)) is kind


def test_subclasses_without_a_forward_of_their_own_are_accelerated():
    module = ForgetLSTM(3, 5)
    x = torch.randn(4, 2, 3)
    expected = module(x)[0]
    us.accelerate(module, backend="native")
    assert isinstance(module, ForgetLSTM)
    assert {d.chosen for d in us.explain(module, x).decisions} == {"native"}
    assert_close({"": module(x)[0].detach()}, {"": expected.detach()}, torch.float32)


def test_subclasses_with_a_forward_of_their_own_stay_and_are_named():
    model = nn.ModuleDict({"loud": LoudGRU(3, 5)})
    with pytest.warns(UserWarning, match=r"leaves as they are: loud \(LoudGRU\) has a forward of its own"):
        us.accelerate(model)
    assert type(model["loud"]) is LoudGRU


def test_bare_cells_stay_and_are_named():
    model = nn.ModuleDict({"cell": nn.LSTMCell(3, 5), "layer": us.RNN(nn.GRUCell(3, 5)), "rnn": nn.LSTM(3, 5)})
    with pytest.warns(UserWarning, match=r"leaves as they are: cell \(LSTMCell\) is one step.*unspool.RNN") as found:
        us.accelerate(model)
    assert "layer" not in str(found[0].message)
    assert type(model["rnn"]) is AcceleratedLSTM


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
def test_scripted_modules_stay_and_are_named():
    with pytest.warns(UserWarning, match="is scripted"):
        us.accelerate(nn.Sequential(torch.jit.script(nn.LSTM(3, 5))))


def test_nothing_to_accelerate_is_said_once_done_is_fine():
    with pytest.warns(UserWarning, match=r"found no torch.nn.RNN, LSTM or GRU in Linear"):
        us.accelerate(nn.Linear(3, 5))
    module = nn.LSTM(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(us.accelerate(us.accelerate(module))) is AcceleratedLSTM


def test_a_model_must_be_a_module():
    with pytest.raises(TypeError, match=r"model is list; expected a torch.nn.Module"):
        us.accelerate([nn.LSTM(3, 5)])  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"model is type"):
        us.decelerate(nn.LSTM)  # type: ignore[type-var]


def test_parametrised_modules_swap_and_shed_their_parametrisation():
    module = parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0")
    twin = copy.deepcopy(module)
    x = torch.randn(4, 2, 3)
    expected = module(x)[0]
    us.accelerate(module, backend="native")
    assert {d.chosen for d in us.explain(module, x).decisions} == {"native"}
    assert_close({"": module(x)[0].detach()}, {"": expected.detach()}, torch.float32)
    assert not isinstance(twin, AcceleratedLSTM)
    us.decelerate(module)
    assert not isinstance(module, AcceleratedLSTM)
    us.accelerate(module)
    parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert type(module) is AcceleratedLSTM
    assert_close({"": module(x)[0].detach()}, {"": expected.detach()}, torch.float32)


def test_a_parametrisation_may_come_after():
    module = us.accelerate(nn.GRU(3, 5))
    x = torch.randn(4, 2, 3)
    before = module(x)[0]
    parametrizations.weight_norm(module, "weight_ih_l0")
    with torch.no_grad():
        module.parametrizations.weight_ih_l0.original0 *= 2  # type: ignore[union-attr]
    after = module(x)[0]
    assert not torch.allclose(before, after)
    assert torch.equal(after, us.accelerate(us.decelerate(module))(x)[0])


def test_recurrent_dropout_by_one_word():
    torch.manual_seed(0)
    module = us.accelerate(nn.LSTM(3, 5), recurrent_dropout=0.5, input_dropout=0.25)
    layer = us.LSTM(3, 5, recurrent_dropout=0.5, input_dropout=0.25)
    layer.load_state_dict(module.state_dict())
    x = torch.randn(6, 4, 3)
    torch.manual_seed(1)
    found = module(x)[0]
    torch.manual_seed(1)
    assert torch.equal(found, layer(x)[0])
    assert_close({"": copy.deepcopy(module).eval()(x)[0].detach()}, {"": layer.eval()(x)[0].detach()}, x.dtype)
    us.decelerate(module)
    assert "_unspool_options" not in vars(module)
    with pytest.raises(ValueError, match=r"recurrent_dropout is 1.0; expected a probability"):
        us.accelerate(module, recurrent_dropout=1.0)


def test_arguments_that_change_later_are_obeyed():
    module = us.accelerate(nn.LSTM(3, 5, 2, dropout=0.5))
    x = torch.randn(6, 4, 3)
    module.dropout = 0.0
    assert torch.equal(module(x)[0], module.eval()(x)[0])
    expected = module(x)[0]
    module.batch_first = True
    assert torch.equal(module(x.transpose(0, 1))[0].transpose(0, 1), expected)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
def test_sizes_of_numpy_are_taken_where_torch_takes_them():
    module = nn.LSTM(3, 5, np.int64(2), proj_size=np.int64(2))  # type: ignore[reportArgumentType]
    x = torch.randn(6, 4, 3)
    expected = module(x)[0]
    assert_close({"outputs": us.accelerate(module, backend="native")(x)[0]}, {"outputs": expected}, torch.float32)


def test_dropout_may_change_over_time():
    module = us.accelerate(nn.LSTM(3, 7, 2, dropout=0.5), backend="native")
    x, programs = torch.randn(6, 4, 3), []
    for probability in (0.5, 0.25, 0.125):
        module.dropout = probability
        assert module(x)[0].shape == (6, 4, 7)
        programs.append(_accelerated._make_delegate.cache_info().currsize)
    assert programs == [programs[0]] * 3


class BusyLSTM(nn.LSTM):
    """Has attributes of its own under names that are ours."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.input_dropout, self.recurrent_dropout, self.backend = 0.25, 0.5, "gloo"


def test_attributes_of_a_subclass_are_its_own():
    module = BusyLSTM(3, 5).double()
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    expected = module(x)[0]
    us.accelerate(module)
    assert_close({"": module(x)[0].detach()}, {"": expected.detach()}, torch.float64)
    us.accelerate(module, backend="native")
    assert_close({"": module(x)[0].detach()}, {"": expected.detach()}, torch.float64)
    us.decelerate(module)
    assert (module.input_dropout, module.recurrent_dropout, module.backend) == (0.25, 0.5, "gloo")


@pytest.mark.parametrize("lengths", [None, [6, 2, 0, 3]])
def test_the_state_of_an_lstm_may_be_a_list(lengths):
    module = us.accelerate(nn.LSTM(3, 5))
    x, state = torch.randn(6, 4, 3), [torch.randn(1, 4, 5), torch.randn(1, 4, 5)]
    assert torch.equal(module(x, state, lengths=lengths)[0], module(x, tuple(state), lengths=lengths)[0])


def test_a_forward_on_the_instance_stays_and_is_named():
    module = nn.GRU(3, 5)
    module.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="the model \\(GRU\\) has a forward of its own"):
        us.accelerate(module)
    assert type(module) is nn.GRU


def test_cells_inside_of_cells_of_ours_are_not_named():
    model = nn.ModuleDict({"cells": us.StackedRNNCells([nn.GRUCell(3, 4), nn.GRUCell(4, 4)]), "rnn": nn.GRU(3, 4)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        us.accelerate(model)
    cells = model["cells"]
    assert isinstance(cells, us.StackedRNNCells)
    assert [type(cell) for cell in cells.cells] == [nn.GRUCell, nn.GRUCell]
    assert type(model["rnn"]) is not nn.GRU


def test_a_model_of_which_one_module_cannot_be_swapped_stays_whole():
    class Named(nn.LSTM):
        def __init_subclass__(cls, *, name: str) -> None:
            cls.name = name

    model = nn.Sequential(nn.LSTM(3, 4), Named(4, 4))
    with pytest.raises(TypeError, match="name"):
        us.accelerate(model)
    assert type(model[0]) is nn.LSTM


def test_the_first_call_may_be_under_vmap():
    _accelerated._make_delegate.cache_clear()
    models = [us.accelerate(nn.GRU(3, 5)) for _ in range(2)]
    x = torch.randn(60, 4, 3)
    parameters, _ = torch.func.stack_module_state(models)  # type: ignore[arg-type]
    found = torch.func.vmap(lambda own: torch.func.functional_call(models[0], own, (x,))[0])(parameters)
    assert_close({"": found.detach()}, {"": torch.stack([m(x)[0] for m in models]).detach()}, torch.float32)
