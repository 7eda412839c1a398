"""Layers as PyTorch modules: copying, saving, parametrising, functional calls, precision, threads and forks.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm
from torch.utils.data import DataLoader, Dataset

from tests.conformance.oracle import leaves_of
from tests.conformance.user_cells import LayerNormLSTMCell
from unspool import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    DropoutCell,
    GRUCell,
    HighwayCell,
    LSTMCell,
    SimpleRNN,
    StackedRNNCells,
    ZoneoutCell,
)

B, T, I, H = 3, 6, 4, 4  # noqa: E741
LENGTHS = [6, 0, 3]

MODULES: dict[str, Callable[[], Any]] = {
    "SimpleRNN": lambda: SimpleRNN(I, H, bidirectional=True),
    "LSTM": lambda: LSTM(I, H, 2, proj_size=3, recurrent_dropout=0.5),
    "GRU": lambda: GRU(I, H, reset_after=False, init="keras", unroll=True, num_steps=T),
    "RNN of a cell": lambda: RNN(LSTMCell(I, H, peephole=True, cell_clip=1.0, activation=torch.sin)),
    "RNN of a torch.nn cell": lambda: RNN(nn.LSTMCell(I, H)),
    "RNN of a user's cell": lambda: RNN(LayerNormLSTMCell(I, H)),
    "RNN of wrappers": lambda: RNN(
        StackedRNNCells([DropoutCell(HighwayCell(GRUCell(I, I)), input=0.5), ZoneoutCell(LSTMCell(I, H))])
    ),
    "Bidirectional": lambda: Bidirectional(GRU(I, H), merge_mode="sum"),
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


def run(layer: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return layer(x, lengths=LENGTHS)[0]


def fresh_input() -> Tensor:
    return torch.randn(T, B, I)


def saved_and_loaded(layer: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@every_module
def test_a_copy_is_the_same_and_independent(make):
    """A deep copy, one that was pickled or saved whole, and another module with the same state."""
    layer, other, x = make(), make(), fresh_input()
    before = run(layer, x)
    assert not torch.equal(before, run(other, x))
    other.load_state_dict(layer.state_dict())
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), saved_and_loaded(layer), other]
    for twin in copies:
        assert torch.equal(run(twin, x), before)
    with torch.no_grad():
        for parameter in copies[0].parameters():
            parameter.mul_(0.5)
    assert not torch.equal(run(copies[0], x), before)
    assert torch.equal(run(layer, x), before)


@every_module
def test_dtypes_and_modes_of_a_module_reach_the_cells(make):
    layer = make().double()
    x = fresh_input().double()
    assert run(layer, x).dtype == torch.float64
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.requires_grad_(False)
    assert not run(layer, x).requires_grad


@every_module
def test_functional_calls_use_the_given_parameters(make):
    layer, other, x = make().eval(), make(), fresh_input()
    given = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    output, _ = torch.func.functional_call(layer, given, (x,), {"lengths": LENGTHS})
    torch.testing.assert_close(output, run(other.eval(), x))
    gradients = torch.autograd.grad(output.square().sum(), list(given.values()))
    assert all(g.isfinite().all() for g in gradients)
    assert all(p.grad is None for p in layer.parameters())


@every_module
def test_a_module_trains(make):
    layer, x = make(), fresh_input()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (run(layer, x)[[0, 1, 2], 0] - 0.3).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l1_reverse"])
def test_parametrised_weights_are_obeyed_and_trained(kind, name):
    layer, x = kind(I, H, num_layers=2, bidirectional=True), fresh_input()
    before = run(layer, x)
    weight_norm(layer, name)
    torch.testing.assert_close(run(layer, x), before)
    magnitude = layer.get_parameter(f"parametrizations.{name}.original0")
    with torch.no_grad():
        magnitude.mul_(2.0)
    after = run(layer, x)
    assert not torch.allclose(after, before)
    after.sum().backward()
    for part in ("original0", "original1"):
        gradient = layer.get_parameter(f"parametrizations.{name}.{part}").grad
        assert gradient is not None
        assert gradient.any()
    assert torch.equal(run(copy.deepcopy(layer), x), after)


def test_an_orthogonal_recurrent_weight():
    layer: Any = SimpleRNN(I, H)
    orthogonal(layer, "weight_hh_l0")
    torch.testing.assert_close(layer.weight_hh_l0 @ layer.weight_hh_l0.T, torch.eye(H))
    run(layer, fresh_input()).sum().backward()
    cell_layer = RNN(GRUCell(I, H))
    weight_norm(cell_layer.cell, "weight_hh")
    run(cell_layer, fresh_input()).sum().backward()
    assert cell_layer.cell.get_parameter("parametrizations.weight_hh.original0").grad is not None


def test_a_replaced_parameter_is_obeyed():
    layer, x = GRU(I, H), fresh_input()
    layer.weight_hh_l0 = nn.Parameter(torch.zeros(3 * H, H))
    layer.bias_hh_l0 = nn.Parameter(torch.zeros(3 * H))
    reference = GRU(I, H)
    reference.load_state_dict(layer.state_dict())
    assert torch.equal(run(layer, x), run(reference, x))


@every_module
def test_autocast_to_bfloat16_runs_and_trains(make):
    layer, x = make(), fresh_input()
    exact = run(layer, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(layer, x)
        state = layer(x)[1]
    torch.testing.assert_close(output.float(), exact, atol=0.1, rtol=0.1)
    for leaf in leaves_of(state):
        assert leaf.dtype == torch.float32  # the state is carried in full precision
    output.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters(dtype):
    layer, x = LSTM(I, H, num_layers=2, dtype=dtype), fresh_input().to(dtype)
    output, state = layer(x, lengths=LENGTHS)
    assert output.dtype == state.c.dtype == dtype
    torch.testing.assert_close(output.float(), layer.float()(x.float(), lengths=LENGTHS)[0], atol=0.05, rtol=0.05)


@every_module
def test_threads_may_share_a_layer(make):
    layer = make().eval()
    inputs = [fresh_input() for _ in range(4)]
    expected = [run(layer, x).detach() for x in inputs]
    found: list[list[Tensor]] = [[] for _ in inputs]
    barrier = threading.Barrier(len(inputs))

    def work(k: int) -> None:
        barrier.wait()
        found[k] = [layer(inputs[k], lengths=LENGTHS)[0].detach() for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, right in zip(found, expected, strict=True):
        assert len(outputs) == 5
        assert all(torch.equal(output, right) for output in outputs)


class Encoded(Dataset[Tensor]):
    """Runs a layer in the worker process."""

    def __init__(self, layer: nn.Module, inputs: list[Tensor]) -> None:
        self.layer, self.inputs = layer, inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return run(self.layer, self.inputs[index])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_layers_run_in_forked_workers():
    layer = LSTM(I, H, num_layers=2, bidirectional=True)
    inputs = [fresh_input() for _ in range(4)]
    expected = torch.stack([run(layer, x).detach() for x in inputs])  # the parent has computed before it forks
    loader = DataLoader(Encoded(layer, inputs), batch_size=2, num_workers=1, multiprocessing_context="fork", timeout=60)
    assert torch.equal(torch.cat(list(loader)), expected)
