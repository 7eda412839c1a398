"""On a CUDA device everything gives what it gives on the CPU; the built-in cells run on cuDNN."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import unspool as us
from tests.conformance.oracle import Problem, Run, assert_close, measure
from tests.conformance.user_cells import LayerNormLSTMCell
from tests.refusal import refused
from unspool import RaggedBatch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device; make test-gpu runs these"),
]
DEVICE = "cuda"
B, T, I, H = 5, 7, 6, 16  # noqa: E741


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Keep products in float32 from being taken in TensorFloat-32, which PyTorch allows cuDNN by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


LAYERS: dict[str, Any] = {
    "SimpleRNN": us.SimpleRNN,
    "SimpleRNN relu": lambda i, h, **o: us.SimpleRNN(i, h, nonlinearity="relu", **o),
    "LSTM": us.LSTM,
    "LSTM one bias": lambda i, h, **o: us.LSTM(i, h, recurrent_bias=False, **o),
    "LSTM projection": lambda i, h, **o: us.LSTM(i, h, proj_size=3, **o),
    "GRU": us.GRU,
    "CuDNNLSTM": us.CuDNNLSTM,
    "CuDNNGRU": us.CuDNNGRU,
}
WAYS: dict[str, dict[str, Any]] = {
    "all real": {},
    "lengths": {"lengths": [3, 7, 0, 6, 1]},
    "no tokens": {"lengths": [0] * B},
    "mask": {"mask": (torch.arange(T) < torch.tensor([[3], [7], [0], [6], [1]])).tolist()},
}


def on_cpu(layer: nn.Module) -> Any:
    """Return a copy on the CPU that runs on the reference backend."""
    twin: Any = copy.deepcopy(layer).cpu()
    twin.backend = "reference"
    return twin


def states_of(state: Any) -> Any:
    return tuple(state) if isinstance(state, tuple) else state


def results(layer: nn.Module, x: Tensor, forward: Any) -> dict[str, Tensor]:
    """Return outputs, states and gradients, on the CPU."""
    found = measure(lambda: Run(*forward(layer, x)), Problem(layer, x, None))
    return {name: value.cpu() for name, value in found.items()}


def compare(layer: Any, forward: Any, dtype: torch.dtype) -> None:
    """Compare a layer on the device with its copy on the CPU."""
    layer = layer.to(dtype)
    x = torch.randn(B, T, I, dtype=dtype)
    wanted = results(on_cpu(layer), x.requires_grad_(), forward)
    received = results(layer.to(DEVICE), x.detach().to(DEVICE).requires_grad_(), forward)
    assert_close(received, wanted, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"reverse": True, "pad_output": "repeat"}, {"pad_output": "repeat"}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_one_layer(name: str, options: dict[str, Any], way: str, dtype: torch.dtype):
    layer = LAYERS[name](I, H, batch_first=True, **options)
    compare(layer, lambda module, x: module(x, **WAYS[way]), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_in_both_directions(name: str, way: str, dtype: torch.dtype):
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True, batch_first=True)
    compare(layer, lambda module, x: module(x, **WAYS[way]), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_packed_sequences_and_ragged_batches(name: str):
    lengths = torch.tensor([3, 7, 1, 6, 2])
    layer = LAYERS[name](I, H, batch_first=True)

    def packed(module: Any, x: Tensor) -> tuple[Tensor, Any]:
        output, state = module(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return output.data, states_of(state)

    def ragged(module: Any, x: Tensor) -> tuple[Tensor, Any]:
        values = torch.cat([x[b, :n] for b, n in enumerate(lengths.tolist())])
        output, state = module(RaggedBatch(values, lengths.to(x.device), None, torch.arange(B)))
        return output.values, states_of(state)

    compare(layer, packed, torch.float64)
    compare(layer, ragged, torch.float64)


@pytest.mark.parametrize("where", ["cpu", DEVICE])
def test_lengths_may_be_on_either_device(where: str):
    lengths = torch.tensor([3, 7, 0, 6, 1], device=where)
    compare(us.LSTM(I, H, batch_first=True), lambda module, x: module(x, lengths=lengths), torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_cudnn_is_what_runs(name: str):
    layer = LAYERS[name](I, H, num_layers=2, bidirectional=True).to(DEVICE)
    x = torch.randn(T, B, I, device=DEVICE)
    for lengths in (None, [3, 7, 0, 6, 1]):
        assert {decision.chosen for decision in us.explain(layer, x, lengths=lengths).decisions} == {"cudnn"}


def test_what_cudnn_cannot_run_runs_elsewhere_and_says_why():
    x = torch.randn(B, T, I, device=DEVICE)
    for cell, reason in (
        (us.LSTMCell(I, H, activation="relu"), "the activation is relu"),
        (us.GRUCell(I, H, reset_after=False), "reset_after is False"),
        (LayerNormLSTMCell(I, H), "the cell is LayerNormLSTMCell"),
    ):
        (decision,) = us.explain(cell.to(DEVICE), x, [3, 7, 0, 6, 1]).decisions
        assert decision.chosen == "reference"
        assert reason in "; ".join(decision.reasons["cudnn"])
        assert any("not on the CPU" in reason for reason in decision.reasons["native"])
        with refused(us.BackendError, "backend 'cudnn' cannot run", reason):
            us.dynamic_rnn(cell, x, backend="cudnn")


def test_any_cell_runs_with_gaps_and_resets():
    cell = LayerNormLSTMCell(I, H)
    mask, resets = torch.rand(B, T) > 0.3, torch.rand(B, T) > 0.7
    compare(
        us.RNN(cell, batch_first=True, pad_output="repeat"),
        lambda module, x: module(x, mask=mask, resets=resets),
        torch.float64,
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_layers_named_after_cudnn_equal_those_of_torch(kind: str):
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    theirs = getattr(nn, kind)(I, H, **options).to(DEVICE)
    ours = getattr(us, f"CuDNN{kind}")(I, H, **options).to(DEVICE)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(B, T, I, device=DEVICE, requires_grad=True)

    def forward(module: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
        output, state = module(x)
        return output, states_of(state)

    assert_close(results(ours, x, forward), results(theirs, x, forward), torch.float32)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_accelerated_modules_equal_their_own_selves(kind: str):
    module = getattr(nn, kind)(I, H, num_layers=2, bidirectional=True, batch_first=True).to(DEVICE)
    x = torch.randn(B, T, I, device=DEVICE, requires_grad=True)
    wanted = results(module, x, lambda m, x: m(x))
    faster = us.accelerate(module, copy=True, backend="cudnn")
    assert_close(results(faster, x, lambda m, x: m(x)), wanted, torch.float32)
    assert {decision.chosen for decision in us.explain(faster, x).decisions} == {"cudnn"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "LSTM projection", "GRU"])
def test_autocast(name: str, dtype: torch.dtype):
    layer = LAYERS[name](I, H, batch_first=True).to(DEVICE)
    x = torch.randn(B, T, I, device=DEVICE)
    for way in ("all real", "lengths"):
        with torch.autocast(DEVICE, dtype):
            output, _ = layer(x, **WAYS[way])
            assert us.explain(layer, x, **WAYS[way]).decisions[0].chosen == "cudnn"
        exact, _ = layer(x, **WAYS[way])
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, exact, atol=0.05, rtol=0.05)
        layer.zero_grad()
        output.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes(dtype: torch.dtype):
    layer, x = us.CuDNNLSTM(I, H).to(DEVICE), torch.randn(T, B, I, device=DEVICE)
    exact, _ = layer(x)
    output, (h, c) = layer.to(dtype)(x.to(dtype))
    assert output.dtype == h.dtype == c.dtype == dtype
    torch.testing.assert_close(output.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("batch", "steps"), [(0, T), (B, 0), (0, 0)])
def test_no_steps_and_no_rows(batch: int, steps: int):
    layer = us.CuDNNLSTM(I, H, batch_first=True).to(DEVICE)
    output, (h, _) = layer(torch.randn(batch, steps, I, device=DEVICE))
    assert (output.shape, h.shape) == ((batch, steps, H), (1, batch, H))
    output.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_gradients_do_not_need_training_mode():
    layer = us.CuDNNGRU(I, H).to(DEVICE).eval()
    layer(torch.randn(T, B, I, device=DEVICE))[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_derivatives_of_derivatives_need_cudnn_to_be_off():
    layer = us.GRU(I, H).to(DEVICE)
    x = torch.randn(T, B, I, device=DEVICE, requires_grad=True)

    def twice() -> None:
        (first,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
        first.square().sum().backward()

    with pytest.raises(RuntimeError, match="Double backwards is not supported for CuDNN RNNs"):
        twice()
    with torch.backends.cudnn.flags(enabled=False):
        twice()
    assert x.grad is not None


def test_a_default_device_changes_nothing():
    def forward(module: Any, x: Tensor) -> Any:
        with torch.device(DEVICE):
            return module(x, lengths=[3, 7, 0, 6, 1])

    compare(us.LSTM(I, H, batch_first=True), forward, torch.float64)


def test_two_graphs_may_share_parameters():
    layer = us.CuDNNLSTM(I, H).to(DEVICE)
    x = torch.randn(T, B, I, device=DEVICE)
    first, _ = layer(x)
    second, _ = layer(first.new_zeros(T, B, I))
    (first.sum() + second.sum()).backward()
    assert all(p.grad is not None for p in layer.parameters())
