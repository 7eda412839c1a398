"""The static mode keeps memory and packed weights, and nobody can tell but by the clock."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import torch
from torch import nn

import unspool as us
from unspool.backends import _static
from unspool.backends._buffers import BufferPool
from unspool.backends._static import StaticPlan
from unspool.backends.dispatch import BACKENDS

NATIVE: Any = next(backend for backend in BACKENDS if backend.name == "native")
T, B, INPUT, H = 9, 16, 12, 33


def twins(make: Any = us.LSTM) -> tuple[Any, Any]:
    torch.manual_seed(0)
    dynamic, static = make(INPUT, H), make(INPUT, H, unroll=True)
    static.load_state_dict(dynamic.state_dict())
    return dynamic, static


def results(layer: nn.Module, x: torch.Tensor, **options: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    output, state = layer(x, **options)
    state = state if isinstance(state, tuple) else (state,)
    sources = [x, *layer.parameters()]
    grads = torch.autograd.grad(output.square().sum() + sum(s.sin().sum() for s in state), sources)
    return [output, *state, *grads]


def kept_of(cell: nn.Module) -> list[Any]:
    shelves = NATIVE.kept._cells[vars(cell).get("bound_from", cell)].values()
    return [what for shelf in shelves for _, what in shelf.entries]


def plans_of(layer: us.LSTM) -> list[StaticPlan]:
    (_, cell), *_ = layer._cells
    programs = kept_of(cell)
    return [plan for compiled in programs for plan in compiled.static_plans.by_steps.values()]


@pytest.mark.parametrize("make", [us.LSTM, us.GRU, us.SimpleRNN])
@pytest.mark.parametrize("batch", [B, 5, 2 * B])
@pytest.mark.parametrize("steps", [T, 4])
def test_the_same_numbers_as_dynamic(make, batch, steps):
    dynamic, static = twins(make)
    results(static, torch.randn(T, B, INPUT))
    for options in ({}, {"lengths": torch.arange(batch) % (steps + 1)}):
        x = torch.randn(steps, batch, INPUT)
        for _ in range(2):
            for got, want in zip(results(static, x, **options), results(dynamic, x, **options), strict=True):
                assert torch.equal(got, want)


def test_longer_input_is_refused():
    _, static = twins()
    static(torch.randn(T, B, INPUT))
    with pytest.raises(ValueError, match="unrolled for 9 steps and received 10"):
        static(torch.randn(T + 1, B, INPUT))


def test_no_memory_is_made_after_the_first_calls():
    _, static = twins()
    x = torch.randn(T, 8 * B, INPUT)
    for _ in range(2):
        results(static, x)
    (plan,) = plans_of(static)
    made = plan.buffers.made
    assert made > 0
    for batch in (8 * B, 8 * B, 3 * B):
        results(static, x[:, :batch])
    assert plan.buffers.made == made


def test_results_that_somebody_holds_are_left_alone():
    _, static = twins()
    inputs = [torch.randn(T, 8 * B, INPUT) for _ in range(4)]
    held = [static(x)[0] for x in inputs]
    copies = [output.detach().clone() for output in held]
    views = [output.detach()[3:5] for output in held]
    del held
    gc.collect()
    for x in inputs:
        results(static, x)
    for view, copy in zip(views, copies, strict=True):
        assert torch.equal(view, copy[3:5])


def test_graphs_that_somebody_holds_are_left_alone():
    dynamic, static = twins()
    inputs = [torch.randn(T, 8 * B, INPUT) for _ in range(3)]
    losses = [[layer(x)[0].square().sum() for x in inputs] for layer in (dynamic, static)]
    for layer, terms in zip((dynamic, static), losses, strict=True):
        torch.stack(terms).sum().backward()
        assert layer.weight_hh_l0.grad is not None
    assert torch.equal(dynamic.weight_hh_l0.grad, static.weight_hh_l0.grad)


def change_data(layer: Any) -> None:
    layer.weight_hh_l0.data[3, 5] += 0.5


def change_by_optimizer(layer: Any) -> None:
    layer.weight_ih_l0.grad = torch.ones_like(layer.weight_ih_l0)
    torch.optim.SGD([layer.weight_ih_l0], lr=0.1).step()


def change_from_numpy(layer: Any) -> None:
    layer.weight_hh_l0.detach().numpy()[-1, -1] = 2.0


def change_by_another_parameter(layer: Any) -> None:
    layer.weight_hh_l0 = nn.Parameter(torch.randn_like(layer.weight_hh_l0))


@pytest.mark.parametrize("change", [change_data, change_by_optimizer, change_from_numpy, change_by_another_parameter])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_changed_weights_are_noticed(change, mode):
    dynamic, static = twins()
    x = torch.randn(T, B, INPUT)
    with mode():
        before = static(x)[0].clone()
    change(static)
    dynamic.load_state_dict(static.state_dict())
    with mode():
        assert torch.equal(static(x)[0], dynamic(x)[0])
        assert not torch.equal(static(x)[0], before)


def test_threads_may_share_a_plan():
    dynamic, static = twins()
    inputs = [torch.randn(T, B, INPUT) for _ in range(4)]
    with torch.no_grad():
        wanted = [dynamic(x)[0] for x in inputs]
        static(inputs[0])
    wrong: list[int] = []

    def work(k: int) -> None:
        with torch.no_grad():
            wrong.extend(k for _ in range(50) if not torch.equal(static(inputs[k])[0], wanted[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_static_rnn_keeps_its_plan_with_the_cell():
    cell = us.GRUCell(INPUT, H)
    steps = [torch.randn(B, INPUT) for _ in range(T)]
    want = us.dynamic_rnn(cell, torch.stack(steps), time_major=True)[0]
    for _ in range(3):
        outputs, _ = us.static_rnn(cell, steps)
        assert torch.equal(torch.stack(outputs), want)
    (compiled,) = {c for c in kept_of(cell) if c.static_plans.by_steps}
    assert list(compiled.static_plans.by_steps) == [T]


def test_ever_new_numbers_of_steps_keep_few_plans(monkeypatch):
    monkeypatch.setattr(_static, "MOST_PLANS", 3)
    cell = us.GRUCell(INPUT, H)
    held = {}
    for count in (4, 5, 6, 4, 7, 8, 4):
        x = torch.randn(count, 8 * B, INPUT)
        outputs, _ = us.static_rnn(cell, list(x))
        held[count] = torch.stack(outputs), us.dynamic_rnn(cell, x, time_major=True)[0]
    (compiled,) = {c for c in kept_of(cell) if c.static_plans.by_steps}
    assert list(compiled.static_plans.by_steps) == [7, 8, 4]
    assert all(torch.equal(got, want) for got, want in held.values())  # also of plans that have gone


def test_plans_keep_so_many_bytes(monkeypatch):
    cell, numbers = us.LSTMCell(INPUT, H), []
    for count in range(20, 30):
        x = torch.randn(count, 8 * B, INPUT, requires_grad=True)
        outputs, _ = us.static_rnn(cell, list(x))
        torch.stack(outputs).sum().backward()
        del outputs, x
        gc.collect()
        (compiled,) = {c for c in kept_of(cell) if c.static_plans.by_steps}
        *others, last = compiled.static_plans.by_steps.values()
        if not others:
            monkeypatch.setattr(_static, "MOST_BYTES", 3 * last.buffers.kept)
        assert last.buffers.kept > 1 << 20
        assert sum(plan.buffers.kept for plan in others) <= _static.MOST_BYTES
        numbers.append(len(others))
    assert max(numbers) == 2  # later ones are larger than a third each


def test_a_pool_hands_memory_out_again_when_the_last_view_is_gone():
    pool = BufferPool()
    first = pool.empty((100, 10), torch.float32)
    address, part = first.data_ptr(), first[5]
    del first
    assert pool.empty((100, 10), torch.float32).data_ptr() != address
    del part
    assert address in {pool.empty((99, 10), torch.float32).data_ptr() for _ in range(2)}


def test_a_pool_keeps_to_its_limits():
    pool = BufferPool(smallest=1000, slack=1.5, limit=10_000)
    tensors = [pool.empty((4000,), torch.uint8) for _ in range(5)]
    pool.empty((999,), torch.uint8)
    assert pool.made == 5
    del tensors
    pool.empty((5000,), torch.uint8)  # none fits; what came back is counted
    assert sum(block.nbytes for block in pool._free.values()) <= 10_000
    pool.empty((1500,), torch.uint8)  # 4000 is more than half again as much
    assert pool.made == 7


def test_an_empty_array_is_no_block():
    pool = BufferPool()
    assert pool.empty((0, 5), torch.float64).shape == (0, 5)
    assert pool.zeros((2, 3), torch.float64).tolist() == [[0.0] * 3] * 2
    assert pool.made == 1
