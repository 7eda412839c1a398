"""Gradients against finite differences, in float64: every cell in every execution; second order for a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import unspool
from tests.conformance.cases import (
    BACKENDS,
    BIDIRECTIONAL_EXECUTIONS,
    CELLS,
    EXECUTIONS,
    KINDS,
    Case,
    CellRow,
)
from tests.conformance.oracle import Problem, assert_close, leaves_of, with_gradient
from tests.conformance.runs import run_library, run_library_both_ways

pytestmark = pytest.mark.usefixtures("memory_of_nan")
SIZES = (2, 3, 2, 2)  # B, T, I, H
TWICE = ["SimpleRNN", "LSTM peephole", "LSTM in training", "GRU", "GRU reset before", "user layer norm", "user heads"]
NATIVE = [row for row in CELLS if "native" in row.backends and (row in KINDS or row.name in TWICE)]
RAGGED: dict[str, Any] = {"lengths": "mixed", "mask": "gaps", "resets": "resets", "pad_output": "repeat"}


def differentiable(tree: Any) -> list[Tensor]:
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor) and leaf.requires_grad]


def check(
    run: Callable[[], Any],
    wanted: list[Tensor],
    checker: Callable[..., bool] = torch.autograd.gradcheck,
    **options: Any,
) -> None:
    """Check the gradients of everything that `run` returns with respect to some leaf tensors, which it uses itself."""

    def function(*_: Tensor) -> tuple[Tensor, ...]:
        return tuple(differentiable(run()))

    # gradcheck perturbs the leaves in place, so that `run` sees them.
    assert checker(function, wanted, **options)


@cache
def cell_of(row: CellRow) -> Any:
    """Return one cell for all cases, which is read once: what is perturbed in it is put back."""
    return Case(row, "auto", "dynamic_rnn", sizes=SIZES).own_cell()


def problem_of(case: Case) -> tuple[Problem, list[Tensor]]:
    problem = case.problem(cell_of(case.row))
    problem = problem._replace(inputs=with_gradient(problem.inputs))
    return problem, [*differentiable(problem[1:]), *problem.cell.parameters()]


@pytest.mark.parametrize("row", NATIVE, ids=str)
def test_gradients_of_every_cell(row):
    # The engine's own; conformance compares those of every execution and backend. Entry by entry for some.
    reverse = CELLS.index(row) % 2 == 1
    case = Case(row, "native", "dynamic_rnn all states", sizes=SIZES, given_state=True, reverse=reverse, **RAGGED)
    problem, wanted = problem_of(case)
    check(lambda: run_library(case, problem), wanted, fast_mode=row.name not in TWICE[:3])
    # Where second derivatives are wanted the first ones are computed in another way, and gradgradcheck sees only that
    # this way agrees with itself.
    values = differentiable(run_library(case, problem))
    loss = torch.stack([leaf.sin().sum() for leaf in values]).sum()
    options: dict[str, Any] = {"materialize_grads": True}
    once = torch.autograd.grad(loss, wanted, retain_graph=True, **options)
    twice = torch.autograd.grad(loss, wanted, create_graph=True, **options)
    assert_close(numbered(twice), numbered(once), torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_gradients_of_every_execution(execution, backend):
    row = next(row for row in CELLS if row.name == "stack with constants")
    case = Case(row, backend, execution, sizes=SIZES, given_state=True, **RAGGED)
    problem, wanted = problem_of(case)
    check(lambda: run_library(case, problem), wanted, fast_mode=True)


@pytest.mark.parametrize("execution", BIDIRECTIONAL_EXECUTIONS[:4])
def test_gradients_of_both_directions(execution):
    row = next(row for row in CELLS if row.name == "user row inputs")
    case = Case(row, "auto", execution, sizes=SIZES, **RAGGED)
    problem, wanted = problem_of(case)
    other = row.cell(2, 2, torch.float64, seed=1)
    cells = [problem.cell, other]
    check(lambda: run_library_both_ways(case, cells, problem), [*wanted, *other.parameters()], fast_mode=True)


LAYERS: dict[str, Callable[..., Any]] = {
    "SimpleRNN": unspool.SimpleRNN,
    "LSTM": unspool.LSTM,
    "LSTM projection": lambda *args, **options: unspool.LSTM(*args, proj_size=1, **options),
    "GRU": unspool.GRU,
    "GRU reset before": lambda *args, **options: unspool.GRU(*args, reset_after=False, **options),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name):
    layer = LAYERS[name](2, 2, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float64)
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    for layer.return_sequences in (True, False):
        check(lambda: layer(x, lengths=[3, 0, 2]), [x, *layer.parameters()], fast_mode=True)


@pytest.mark.parametrize("row", [row for row in CELLS if row.name in (*TWICE, "user constants")], ids=str)
def test_gradients_of_raw_rnn(row):
    problem, wanted = problem_of(Case(row, "auto", "raw_rnn", sizes=SIZES, given_state=True))
    lengths = torch.tensor([3, 1])

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        state = problem.initial_state if time == 0 else state
        return time >= lengths, problem.inputs[:, min(time, 2)], state, None, None

    def run() -> Any:
        torch.default_generator.manual_seed(0)
        return unspool.raw_rnn(problem.cell, loop, constants=problem.constants)[:2]

    check(run, wanted, fast_mode=True)


@pytest.mark.parametrize("row", [row for row in CELLS if row.name in TWICE], ids=str)
def test_second_derivatives(row: CellRow):
    execution = ("dynamic_rnn all states", "static_rnn", "RNN")[TWICE.index(row.name) % 3]
    case = Case(row, "auto", execution, sizes=SIZES, given_state=True, **RAGGED)
    problem, wanted = problem_of(case)
    check(lambda: run_library(case, problem), wanted, torch.autograd.gradgradcheck, fast_mode=True)


def numbered(gradients: Iterable[Tensor]) -> dict[str, Tensor]:
    return {f"gradient {k}": gradient.detach() for k, gradient in enumerate(gradients)}
