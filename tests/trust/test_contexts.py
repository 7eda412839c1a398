"""Runs inside of what PyTorch offers around them: checkpoints, hooks on saved tensors, modes, transforms, threads.

Each is held against PyTorch's own modules, or against the plain loop, outside of all that.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import unspool as us
from tests.trust.histories import plain_loop
from tests.trust.worlds import FEATURES, H, Small

BATCH, STEPS = 4, 24
LENGTHS = [24, 7, 1, 13]


class Over(nn.Module):
    """Runs a cell by the functions, or by the plain loop."""

    def __init__(self, cell: nn.Module, own: bool) -> None:
        super().__init__()
        self.cell, self.own = cell, own

    def forward(self, x: Tensor) -> Tensor:
        run = us.dynamic_rnn if self.own else plain_loop
        outputs, state = run(self.cell, x.transpose(0, 1), LENGTHS, None)
        return outputs.transpose(0, 1) + state


class First(nn.Module):
    """Gives the output of a layer alone."""

    def __init__(self, layer: nn.Module, **options: Any) -> None:
        super().__init__()
        self.layer, self.options = layer, options

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, **self.options)[0]


def masked(kind: str) -> tuple[nn.Module, nn.Module]:
    """Return a layer that is told lengths, and PyTorch's, whose padding is set to zero."""

    class Padded(First):
        def forward(self, x: Tensor) -> Tensor:
            live = (torch.arange(STEPS, device="cpu")[:, None] < torch.tensor(LENGTHS, device="cpu")).unsqueeze(2)
            return torch.where(live, super().forward(x), 0.0)

    own, theirs = getattr(us, kind)(FEATURES, H), getattr(nn, kind)(FEATURES, H)
    own.load_state_dict(theirs.state_dict())
    return First(own, lengths=LENGTHS), Padded(theirs)


def pair(own: nn.Module, theirs: nn.Module) -> tuple[nn.Module, nn.Module]:
    own.load_state_dict(theirs.state_dict())
    return First(own), First(theirs)


def cells() -> tuple[nn.Module, nn.Module]:
    own, theirs = Small(), Small()
    own.load_state_dict(theirs.state_dict())
    return Over(own, True), Over(theirs, False)


MODELS: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "cell": cells,
    "layer": lambda: masked("GRU"),
    "unrolled": lambda: pair(us.LSTM(FEATURES, H, unroll=True, num_steps=STEPS), nn.LSTM(FEATURES, H)),
    "both ways": lambda: pair(us.LSTM(FEATURES, H, 2, bidirectional=True), nn.LSTM(FEATURES, H, 2, bidirectional=True)),
    "accelerated": lambda: pair(us.accelerate(nn.LSTM(FEATURES, H)), nn.LSTM(FEATURES, H)),
}

Way = Callable[[nn.Module, Tensor], Tensor]
"""Runs a model on an input forward and backward in some surroundings; returns the output."""


def loss_of(output: Tensor) -> Tensor:
    return (output.square() + output).sum()


def plainly(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    loss_of(output).backward()
    return output


def within(context: Callable[[], Any], *, backward: bool = True) -> Way:
    """Run forward, and backward too, inside of a context."""

    def way(model: nn.Module, x: Tensor) -> Tensor:
        with context():
            output = model(x)
            if backward:
                loss_of(output).backward()
        if not backward:
            loss_of(output).backward()
        return output

    return way


def checkpointed(*, reentrant: bool, depth: int = 1) -> Way:
    def way(model: nn.Module, x: Tensor) -> Tensor:
        def run(a: Tensor, left: int) -> Any:
            return model(a) if left == 0 else checkpoint(run, a, left - 1, use_reentrant=reentrant)

        output = run(x, depth)
        loss_of(output).backward()
        return output

    return way


@contextlib.contextmanager
def anomaly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Anomaly Detection has been enabled")
        with torch.autograd.detect_anomaly(check_nan=True):
            yield


@contextlib.contextmanager
def switched(switch: Callable[[Any], object], value: Any, before: Any) -> Iterator[None]:
    switch(value)
    try:
        yield
    finally:
        switch(before)


def twice(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    (loss_of(output) / 2).backward(retain_graph=True)
    (loss_of(output) / 2).backward()
    return output


def in_threads(model: nn.Module, x: Tensor) -> Tensor:
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        output = one.submit(model, x).result()
        other.submit(loss_of(output).backward).result()
    return output


def by_functional_call(model: nn.Module, x: Tensor) -> Tensor:
    fresh = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    output = functional_call(model, fresh, (x,))
    loss_of(output).backward()
    for name, p in model.named_parameters():
        p.grad = fresh[name].grad
    return output


def by_torch_func(model: nn.Module, x: Tensor) -> Tensor:
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    grads, x.grad = grad(lambda p, a: loss_of(functional_call(model, p, (a,))), argnums=(0, 1))(parameters, x.detach())
    for name, p in model.named_parameters():
        p.grad = grads[name]
    return model(x)


def by_vmap(model: nn.Module, x: Tensor) -> Tensor:
    samples = torch.stack([x.detach(), x.detach()])
    one, other = vmap(model)(samples)
    torch.testing.assert_close(one, other)
    loss_of(model(x)).backward()
    return one


def penalised(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    (first,) = torch.autograd.grad(loss_of(output), x, create_graph=True)
    first.square().sum().backward()
    return output


def halved() -> saved_tensors_hooks:
    return saved_tensors_hooks(
        lambda t: t / 2 if t.is_floating_point() else t, lambda t: t * 2 if t.is_floating_point() else t
    )


WAYS: dict[str, tuple[Way, Way]] = {
    "a checkpoint": (checkpointed(reentrant=False), plainly),
    "an old checkpoint": (checkpointed(reentrant=True), plainly),
    "checkpoints in a checkpoint": (checkpointed(reentrant=False, depth=2), plainly),
    "saved tensors on the CPU": (within(save_on_cpu, backward=False), plainly),
    "saved tensors packed": (within(halved, backward=False), plainly),
    "anomaly mode": (within(anomaly), plainly),
    "deterministic algorithms": (
        within(lambda: switched(torch.use_deterministic_algorithms, True, False)),
        plainly,
    ),
    "another default dtype": (within(lambda: switched(torch.set_default_dtype, torch.float64, torch.float32)), plainly),
    "a default device": (within(lambda: torch.device("cpu")), plainly),
    "another default device": (within(lambda: torch.device("meta"), backward=False), plainly),
    "a counter of operations": (within(lambda: FlopCounterMode(display=False)), plainly),
    "backward twice": (twice, plainly),
    "two threads": (in_threads, plainly),
    "a functional call": (by_functional_call, plainly),
    "torch.func.grad": (by_torch_func, plainly),
    "torch.func.vmap": (by_vmap, plainly),
    "derivatives of derivatives": (penalised, penalised),
}


def _rows() -> list[Any]:
    return [pytest.param(way, model, id=f"{way}-{model}") for way in WAYS for model in MODELS]


@pytest.mark.parametrize(("way", "model"), _rows())
def test_surroundings_change_nothing(way: str, model: str) -> None:
    torch.default_generator.manual_seed(0)
    own, theirs = MODELS[model]()
    values = torch.randn(STEPS, BATCH, FEATURES)
    x, y = values.clone().requires_grad_(), values.clone().requires_grad_()
    got, want = WAYS[way][0](own, x), WAYS[way][1](theirs, y)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    for a, b in [(x, y), *zip(own.parameters(), theirs.parameters(), strict=True)]:
        assert a.grad is not None
        assert b.grad is not None
        scale = max(1.0, float(b.grad.abs().max()))
        torch.testing.assert_close(a.grad / scale, b.grad / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_without_gradients(mode: Any, model: str) -> None:
    own, theirs = MODELS[model]()
    x = torch.randn(STEPS, BATCH, FEATURES)
    with mode():
        got = own(x)
    assert not got.requires_grad
    assert got.is_inference() == (mode is torch.inference_mode)
    torch.testing.assert_close(got, theirs(x).detach(), rtol=1e-4, atol=1e-5)
    # Tensors and parameters go on as before: what was kept under inference mode must not be what training meets.
    plainly(own, x.requires_grad_())


@pytest.mark.parametrize("model", [name for name in MODELS if name != "accelerated"])  # which may be left to PyTorch
def test_autocast(model: str) -> None:
    own, theirs = MODELS[model]()
    values = torch.randn(STEPS, BATCH, FEATURES)
    x, y = values.clone().requires_grad_(), values.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        got = own(x)
    loss_of(got.float()).backward()
    want = plainly(theirs, y)
    torch.testing.assert_close(got.float(), want, rtol=0.1, atol=0.1)
    assert x.grad is not None
    assert y.grad is not None
    assert torch.nn.functional.cosine_similarity(x.grad.flatten(), y.grad.flatten(), dim=0) > 0.98


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("model", ["cell", "layer", "unrolled", "both ways"])
def test_forward_mode(model: str) -> None:
    own, theirs = MODELS[model]()
    x, tangent = torch.randn(STEPS, BATCH, FEATURES), torch.randn(STEPS, BATCH, FEATURES)
    with forward_ad.dual_level():
        got = forward_ad.unpack_dual(own(forward_ad.make_dual(x, tangent))).tangent
    step = 1e-3
    moved = theirs.double()(x.double() + step * tangent.double()) - theirs(x.double() - step * tangent.double())
    torch.testing.assert_close(got, (moved / (2 * step)).float().detach(), rtol=1e-2, atol=1e-3)
