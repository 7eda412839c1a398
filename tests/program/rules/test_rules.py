"""Every spelling that has a rule gives PyTorch's own numbers: as a program, and run by the engine.

Letters: B batch, T steps, H features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.conformance.oracle import leaves_of
from tests.program.rules.spellings import EXPRESSIONS, KINKS, PRODUCTS, REPEATED, STATEMENTS, posed, spellings, step_of
from tests.program.rules.test_kinds import REFUSED
from tests.program.steps import H, StepCell, run_program
from tests.program.test_differentiate import assert_differentiated
from unspool import dynamic_rnn
from unspool.program import rules
from unspool.program.hoist import hoist
from unspool.program.read import read_step
from unspool.program.recording import Recording
from unspool.program.source import TraceError


def grouped(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return spellings in groups that one cell has together, each for an output of its own."""
    return [texts[start : start + 16] for start in range(0, len(texts), 16)]


GROUPS = grouped(EXPRESSIONS)


def first_of(texts: Sequence[str]) -> str:
    return texts[0]


def together(texts: Sequence[str]) -> Any:
    """Return a step that gives a list of what the spellings give."""
    functions = [step_of(text) for text in texts]

    def outputs(x: Tensor, h: Tensor, m: Any) -> list[Tensor]:
        found = []
        for function in functions:
            found.append(function(x, h, m))  # noqa: PERF401 - a comprehension has a frame of its own
        return found

    return outputs


class Noting(dict):
    """Rules, and the names of those that have been looked up."""

    def __init__(self, known: dict[Any, Any]) -> None:
        super().__init__(known)
        self.reached: set[str] = set()

    def get(self, key, default=None):
        if key in self:
            self.reached.add(key)
        return super().get(key, default)


@contextmanager
def noting() -> Iterator[set[str]]:
    """Note the rules that are looked up."""
    before, rules.RULES = rules.RULES, Noting(rules.RULES)
    try:
        yield rules.RULES.reached
    finally:
        rules.RULES = before


class Midst(NamedTuple):
    """Spellings in the midst of others: the cell, how it is read, and the rules that reading has looked up."""

    cell: StepCell
    recording: Recording
    reached: set[str]


@cache
def in_the_midst(number: int) -> Midst:
    """Return a group of spellings, the same at every call: for tests that do not change it."""
    inner = together(GROUPS[number])

    def outputs(x: Tensor, h: Tensor, m: Any) -> Any:
        found = []
        for y in inner(x, torch.tanh(h @ m.w) + 0.1, m):
            found.append(torch.tanh(y) * h)  # noqa: PERF401 - a comprehension has a frame of its own
        return found

    cell = StepCell(outputs)
    with noting() as reached:
        return Midst(cell, read_step(cell, *posed(), None), reached)


@pytest.mark.parametrize("number", range(len(GROUPS)), ids=lambda k: GROUPS[k][0])
def test_spellings_give_the_numbers_and_gradients_of_pytorch(number):
    """As they are read, hoisted, and differentiated in the midst of others: values are saved or computed again."""
    (cell, traced, _), (x, h), texts = in_the_midst(number), posed(), GROUPS[number]
    for program in (traced.program, hoist(traced.program)):
        got, _ = run_program(program, traced, cell, x, h)
        for text, one, want in zip(texts, got, cell(x, h)[0], strict=True):
            torch.testing.assert_close(one, want, rtol=1e-10, atol=1e-10, msg=lambda m, t=text: f"{t}: {m}")
    assert_differentiated(traced, cell, x, h)


@pytest.mark.parametrize("texts", GROUPS, ids=first_of)
def test_spellings_of_inputs_alone_leave_the_loop(texts):
    """With the input in place of the state: either a rule or a call to PyTorch."""
    functions = {text: step_of(text) for text in texts if "h.T" not in text}

    def outputs(a: Tensor, b: Tensor, m: Any) -> Any:
        found = {}
        for text, function in functions.items():
            found[text] = function(a * 0.5, a, m) + b
        return found

    cell, (x, h) = StepCell(outputs), posed()
    traced = read_step(cell, x, h, None)
    got, _ = run_program(traced.program, traced, cell, x, h)
    for text, one, want in zip(functions, got, cell(x, h)[0].values(), strict=True):
        torch.testing.assert_close(one, want, rtol=1e-10, atol=1e-11, msg=lambda m, t=text: f"{t}: {m}")
    in_loop = [v.op for v in traced.program.live() if v.level == "state" and v.op not in ("state", "expand")]
    assert sorted(in_loop) == ["add"] * len(functions) + ["mul"]  # the mul is the cell's own new state


@pytest.mark.parametrize("texts", grouped(spellings(REPEATED + PRODUCTS)), ids=first_of)
def test_what_a_parameter_holds_is_not_read(texts):
    """Read while all parameters are zero, a program gives the numbers of what they become."""
    cell, (x, h) = StepCell(together(texts)), posed()
    before = {name: tensor.clone() for name, tensor in cell.state_dict().items()}
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
    recording = read_step(cell, x, h, None)
    cell.load_state_dict(before)
    got, _ = run_program(recording.program, recording, cell, x, h)
    for text, one, want in zip(texts, got, cell(x, h)[0], strict=True):
        torch.testing.assert_close(one, want, rtol=1e-10, atol=1e-11, msg=lambda m, t=text: f"{t}: {m}")


class Recurrent(StepCell):
    """What functions make of input and state goes on into the next state."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Any, Tensor]:
        outputs: Any = self.function(x, h, self)
        return outputs, torch.tanh(0.3 * h + sum(torch.tanh(y) for y in outputs) / len(outputs))


def on_both(cell: Any, x: Tensor, h: Tensor) -> list[list[Tensor]]:
    """Return values and gradients of a run [B, T, H], of the engine and of the reference."""
    found = []
    for backend in ("native", "reference"):
        sources = [x.clone().requires_grad_(), h.clone().requires_grad_(), *cell.parameters()]
        results = leaves_of(dynamic_rnn(cell, sources[0], [x.shape[1]] * len(x), sources[1], backend=backend))
        weights = [torch.linspace(-1.0, 2.0, r.numel(), dtype=r.dtype).view(r.shape) for r in results]
        total = torch.stack([(r * w).sum() for r, w in zip(results, weights, strict=True)]).sum()
        grads = torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True)
        found.append([*(r.detach() for r in results), *grads])
    return found


@pytest.mark.parametrize("texts", GROUPS, ids=first_of)
def test_the_engine_gives_the_numbers_of_the_reference(texts):
    cell = Recurrent(together(texts))
    x = torch.randn(3, 2, H, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    names = [*texts, "state", "gradient of x", "gradient of h", *(name for name, _ in cell.named_parameters())]
    for name, got, want in zip(names, *on_both(cell, x, posed()[1]), strict=True):
        atol = 1e-10 * max(1.0, float(want.abs().max()))
        torch.testing.assert_close(got, want, rtol=1e-10, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("texts", grouped(spellings(KINKS)), ids=first_of)
def test_gradients_at_kinks_and_ties_are_those_of_pytorch(texts):
    h = torch.tensor([[0.0, 1.0, -1.0, 1.0, 0.0, 2.0], [0.0] * 6, [1.0, 1.0, 1.0, -3.0, 3.0, 1.0]]).double()
    x = torch.tensor([[0.0, 2.0, -1.0, 0.5, 0.0, 2.0], [0.0] * 6, [1.0, 1.0, -1.0, -3.0, 3.0, 0.0]]).double()
    for got, want in zip(*on_both(StepCell(together(texts)), x.unsqueeze(1), h), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


def test_every_rule_is_met_by_a_spelling():
    """A rule without a test here is a rule that nobody has seen work."""
    reached = set().union(*(in_the_midst(number).reached for number in range(len(GROUPS))))
    with noting() as others:
        for text in (*STATEMENTS, *REFUSED):
            cell, (x, h) = StepCell(step_of(text)), posed()
            with suppress(TraceError):
                read_step(cell, x, h, None)
    reached |= others
    elsewhere = set("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())  # torch.nn's cells: see `ROWS`
    aliases = {name for name in rules.RULES if any(rules.RULES[name] is rules.RULES[r] for r in reached)}
    assert rules.RULES.keys() - aliases - elsewhere == set()
