"""Runs that are checked while they happen: what is found, where it is said to be, and that nothing is left behind."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import unspool as us
from tests.trust.snapshots import differences, global_randomness
from unspool._nest import leaves_of
from unspool.backends import Call, Result, Run, call_with, dispatch
from unspool.backends.reference import ReferenceBackend
from unspool.cells import inside
from unspool.data import ragged_from_padded

LENGTHS = [5, 2, 0, 4, 5, 1]


class Masked(us.Cell):
    """Has a parameter, and a mask for each row."""

    def __init__(self) -> None:
        super().__init__(4)
        self.lin = nn.Linear(7, 4)

    def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        return torch.rand(batch_size, 4, dtype=dtype, device=device)

    def forward(self, x: Tensor, h: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = torch.tanh(self.lin(torch.cat([x, mask * h], 1)))
        return h, h


class Wrong(torch.autograd.Function):
    """The identity, with a gradient that is wrong in one place."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, index: tuple[int, ...]) -> Tensor:
        ctx.index = index
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        grad = grad.clone()
        grad[ctx.index] += 1.0
        return grad, None


def _first_changed(inputs: Any, index: tuple[Any, ...]) -> Any:
    """Return inputs, alone or beside resets, that are wrong in one place of their gradient."""
    return (Wrong.apply(inputs[0], index), *inputs[1:]) if isinstance(inputs, tuple) else Wrong.apply(inputs, index)


@dataclass
class Faulty:
    """A fast backend that is wrong in one place, in batches of six rows alone."""

    place: str
    index: tuple[Any, ...]
    name: str = "native"
    device: str | None = None

    def prepare(self, call: Call) -> Run:
        return partial(self.run, call)

    def run(self, call: Call) -> Result:
        loop = ReferenceBackend()
        if call.schedule.batch != 6:
            return loop.run(call)
        cell = inside(call.cell)
        if self.place.startswith("lin."):
            weight = dict(cell.named_parameters())[self.place]
            wrong = {**dict(cell.named_parameters()), self.place: Wrong.apply(weight, self.index)}
            return call_with(cell, wrong, lambda: loop.run(call))
        rows: Any = call.row_inputs  # of a cell with resets around it
        changed = {
            "inputs": lambda: {"inputs": _first_changed(call.inputs, self.index)},
            "initial_state": lambda: {"initial_state": Wrong.apply(call.initial_state, self.index)},
            "reset_state": lambda: {"row_inputs": rows._replace(start=Wrong.apply(rows.start, self.index))},
            "row_inputs": lambda: {"row_inputs": rows._replace(inside=(Wrong.apply(rows.inside[0], self.index),))},
        }
        if self.place in changed:
            return loop.run(replace(call, **changed[self.place]()))
        result = loop.run(call)
        whole = isinstance(result.outputs, tuple)  # with the states of all steps
        outputs, all_states = result.outputs if whole else (result.outputs, None)
        found: dict[str, Any] = {"outputs": outputs, "all_states": all_states, "final_state": result.final_state}
        error = torch.zeros_like(found[self.place])
        error[self.index] = 1.0
        found[self.place] = found[self.place] + error
        return Result((found["outputs"], found["all_states"]) if whole else found["outputs"], found["final_state"])


PLACES = {
    "outputs": ((3, 4, 2), "the output of sequence 4 at step 3, element [2] is"),
    "all_states": ((2, 0, 1), "the state after each step of sequence 0 at step 2, element [1] is"),
    "final_state": ((5, 0), "the final state of sequence 5, element [0] is"),
    "inputs": ((3, 3, 1), "the gradient of the input of sequence 3 at step 3, element [1] is"),
    "initial_state": ((1, 2), "the gradient of the initial state of sequence 1, element [2] is"),
    "reset_state": ((4, 0), "the gradient of the state after a reset of sequence 4, element [0] is"),
    "row_inputs": ((0, 3), "the gradient of the row input of sequence 0, element [3] is"),
    "lin.weight": ((2, 5), "the gradient of lin.weight of sequences [0, 1, 2, 3, 4, 5] together, element [2, 5] is"),
}


class Start(Masked):
    """Begins with a state that is learned, so that resets have a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.rand(4))

    def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        return torch.rand(batch_size, 4, dtype=dtype, device=device).requires_grad_()

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        return self.start.expand(batch_size, 4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_the_first_place_that_differs_is_named(place, reverse, monkeypatch):
    index, text = PLACES[place]
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty(place, index), ReferenceBackend()))
    cell, x = Start(), torch.randn(6, 5, 3).requires_grad_()
    h = torch.rand(6, 4).requires_grad_()
    resets = torch.rand(6, 5) < 0.3
    options: Any = {"resets": resets, "reverse": reverse, "return_all_states": True}
    with pytest.raises(us.VerificationError, match=re.escape(text)), us.verified(6):
        torch.cat([leaf.flatten() for leaf in us.dynamic_rnn(cell, x, LENGTHS, h, **options)]).sum().backward()


def test_of_a_wrong_run_the_earliest_step_is_named_and_backward_the_latest(monkeypatch):
    x = torch.randn(6, 5, 3).requires_grad_()

    def message(place: str, index: Any, reverse: bool = False) -> str:
        monkeypatch.setattr(dispatch, "BACKENDS", (Faulty(place, index), ReferenceBackend()))
        with pytest.raises(us.VerificationError) as caught, us.verified(6):
            us.dynamic_rnn(Masked(), x, reverse=reverse)[0].sum().backward()
        return str(caught.value)

    late = (slice(2, 4),)
    assert "at step 2," in message("outputs", late)
    assert "at step 3," in message("outputs", late, reverse=True)
    assert "at step 3," in message("inputs", late)
    assert "at step 2," in message("inputs", late, reverse=True)


def test_the_message_has_both_values_and_what_is_allowed(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("outputs", (0, 0, 0)), ReferenceBackend()))
    cell, x = Masked(), torch.randn(6, 5, 3)
    with pytest.raises(us.VerificationError) as caught, us.verified(6):
        us.dynamic_rnn(cell, x)
    found = re.search(r"is (\S+) instead of (\S+), which .* differ by (\S+)\)", str(caught.value))
    assert found
    got, want, allowed = map(float, found.groups())
    assert got - want == pytest.approx(1.0, abs=1e-5)
    assert 0 < allowed < 1e-2
    with us.verified(6, tolerance=10.0):
        us.dynamic_rnn(cell, x)


def test_other_sequences_are_checked_in_other_runs(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("outputs", (0, 3, 0)), ReferenceBackend()))
    cell, x = Masked(), torch.randn(6, 5, 3)

    def finds() -> bool:
        try:
            us.dynamic_rnn(cell, x)
        except us.VerificationError:
            return True
        return False

    with us.verified(1):
        found = [finds() for _ in range(60)]
    assert 0 < sum(found) < 30


class Chaotic(us.Cell):
    """Two states that differ by the last place are far apart after fifty steps."""

    def __init__(self) -> None:
        super().__init__(16)
        self.lin = nn.Linear(16, 16)
        nn.init.orthogonal_(self.lin.weight)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(4 * self.lin(h) + x)
        return h, h


@pytest.mark.parametrize("reverse", [False, True])
def test_what_rounding_alone_makes_of_a_chaotic_cell_is_no_error(reverse):
    cell, x = Chaotic(), torch.randn(6, 120, 16).requires_grad_()
    with us.verified():
        got = us.dynamic_rnn(cell, x, reverse=reverse, backend="native")[0]
        (grad,) = torch.autograd.grad(got.sum(), x)
    want = us.dynamic_rnn(cell, x, reverse=reverse, backend="reference")[0]
    assert (got - want).abs().max() > 0.1
    assert not torch.allclose(grad, torch.autograd.grad(want.sum(), x)[0], rtol=0.1)


def test_an_error_in_a_chaotic_cell_is_found_where_it_begins(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("outputs", (slice(3, 99), 2, 3)), ReferenceBackend()))
    with pytest.raises(us.VerificationError, match="sequence 2 at step 3, element"), us.verified(6):
        us.dynamic_rnn(Chaotic(), torch.randn(6, 99, 16))


CALLS: dict[str, Any] = {
    "lstm": lambda x: us.LSTM(3, 4, num_layers=2, bidirectional=True)(x, lengths=LENGTHS),
    "unrolled": lambda x: us.LSTM(3, 4, unroll=True, num_steps=5)(x, lengths=LENGTHS),
    "dropout": lambda x: us.GRU(3, 4, recurrent_dropout=0.3)(x),
    "ragged": lambda x: [
        leaf.values if isinstance(leaf, us.RaggedBatch) else leaf
        for leaf in us.GRU(3, 4, reverse=True)(ragged_from_padded(x.transpose(0, 1), torch.tensor(LENGTHS)))
    ],
    "reset": lambda x: us.GRU(3, 4)(x, lengths=LENGTHS, resets=torch.eye(6)[:5].bool()),
    "backwards": lambda x: us.GRU(3, 4, reverse=True, pad_output="repeat")(x, lengths=LENGTHS),
    "masked cell": lambda x: us.dynamic_rnn(Masked(), x, time_major=True, return_all_states=True),
    "pairs": lambda x: us.dynamic_rnn(us.LSTMCell(3, 4), x, LENGTHS, time_major=True, return_all_states=True),
    "accelerated": lambda x: us.accelerate(nn.LSTM(3, 4))(x, lengths=LENGTHS),
    "no rows": lambda x: us.GRU(3, 4)(x[:, :0]),
    "no steps": lambda x: us.GRU(3, 4)(x[:0]),
}


@pytest.mark.parametrize("name", CALLS)
def test_right_runs_give_what_they_give_without(name):
    dtype = (torch.float32, torch.float64)[list(CALLS).index(name) % 2]

    def run(check: bool) -> tuple[list[Tensor], Tensor, Any]:
        torch.manual_seed(1)
        random.seed(1)
        x = torch.randn(5, 6, 3).requires_grad_()
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            if check:
                with us.verified(3):
                    leaves = leaves_of(CALLS[name](x.to(dtype)))
            else:
                leaves = leaves_of(CALLS[name](x.to(dtype)))
        finally:
            torch.set_default_dtype(before)
        torch.stack([(leaf.square() + leaf).sum() for leaf in leaves]).sum().backward()
        assert x.grad is not None
        return leaves, x.grad, global_randomness()

    (got, grad, after), (want, wanted, expected) = run(True), run(False)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert torch.equal(grad, wanted)
    assert not differences(after, expected)


def test_nothing_is_checked_that_the_loop_has_run():
    class Random(us.Cell):
        calls = 0

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return x + torch.rand_like(x), h

    cell = Random(3)
    with us.verified():
        us.dynamic_rnn(cell, torch.randn(2, 5, 3), backend="reference")
    assert cell.calls == 5


def test_results_may_be_written_into():
    with us.verified():
        outputs, _ = us.GRU(3, 4)(torch.randn(5, 6, 3))
    outputs *= 2
    outputs[0].zero_()
    outputs.sum().backward()


def test_derivatives_of_derivatives():
    layer, x = us.GRU(3, 4), torch.randn(5, 2, 3).requires_grad_()

    def penalty() -> Tensor:
        (grad,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), next(layer.parameters()))[0]

    with us.verified():
        got = penalty()
    torch.testing.assert_close(got, penalty())


def test_one_graph_may_be_taken_back_twice(monkeypatch):
    layer, x = us.GRU(3, 4), torch.randn(5, 2, 3).requires_grad_()
    with us.verified():
        outputs, final = layer(x)
    outputs.sum().backward(retain_graph=True)
    final.square().sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_in_a_checkpoint(reentrant):
    layer, x = us.GRU(3, 4), torch.randn(5, 6, 3).requires_grad_()
    layer(x)[0].square().sum().backward()
    wanted, x.grad = x.grad, None
    with us.verified():
        outputs = checkpoint(lambda a: layer(a)[0], x, use_reentrant=reentrant)
    outputs.square().sum().backward()  # type: ignore[union-attr]
    assert torch.equal(x.grad, wanted)  # type: ignore[arg-type]


def test_in_a_compiled_model(monkeypatch):
    layer, x = us.RNN(Masked(), batch_first=True), torch.randn(6, 5, 3).requires_grad_()
    compiled = torch.compile(layer, backend="eager")
    compiled(x)
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("outputs", (0, 0, 0)), ReferenceBackend()))
    with pytest.raises(us.VerificationError, match="sequence 0 at step 0"), us.verified(6):
        compiled(x)
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("inputs", (0, 0, 0)), ReferenceBackend()))
    with pytest.raises(us.VerificationError, match="gradient of the input of sequence 0 at step 0"), us.verified(6):
        compiled(x)[0].sum().backward()


def test_blocks_are_nested_and_their_threads_own(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (Faulty("outputs", (0, 0, 0)), ReferenceBackend()))
    cell, x = Masked(), torch.randn(6, 5, 3)
    with us.verified(6):
        with us.verified(tolerance=10.0):
            us.dynamic_rnn(cell, x)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(us.dynamic_rnn, cell, x).result()
        with pytest.raises(us.VerificationError):
            us.dynamic_rnn(cell, x)
    us.dynamic_rnn(cell, x)


@pytest.mark.parametrize("arguments", [{"sequences": 0}, {"sequences": 1.5}, {"tolerance": -1.0}])
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} is .*; expected"), us.verified(**arguments):
        pass
