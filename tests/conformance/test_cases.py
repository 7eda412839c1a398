"""Every cell, on every backend, in every execution, against the oracle: outputs, states and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product
from typing import Any

import pytest
import torch

import unspool
from tests.conformance.cases import (
    BACKENDS,
    CELLS,
    EVERY_WAY,
    FACTORS,
    REFUSED,
    WAYS,
    Case,
    CellRow,
    bidirectional_cases,
    cases,
    cases_by_cell,
    dtype_for,
    memory,
    pairs_of,
    random_state,
)
from tests.conformance.oracle import (
    Problem,
    Run,
    alone,
    assert_close,
    assert_identical,
    leaves_of,
    live_steps,
    map_leaves,
    measure,
    named,
    with_gradient,
)
from tests.conformance.runs import posed, run_library, run_library_both_ways, time_first
from tests.conformance.user_cells import MemoryCell, ProbeCell


def test_the_ways_of_running_a_cell_cover_all_pairs():
    met = set().union(*map(pairs_of, WAYS))
    for (f, vs), (g, ws) in combinations(FACTORS.items(), 2):
        assert all((f, v, g, w) in met for v, w in product(vs, ws))
    assert len({row.name for row in CELLS}) == len(CELLS)
    assert "reference" in BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_cell_meets_every_circumstance(backend):
    met = {(c.row.name, f, getattr(c, f)) for c in cases() if c.backend == backend for f in FACTORS}
    rows = [row for row in CELLS if backend in row.backends]
    assert met >= {(row.name, f, value) for row in rows for f, values in FACTORS.items() for value in values}


@pytest.mark.parametrize("name", EVERY_WAY)
def test_some_cells_meet_all_pairs_of_circumstances(name):
    own = [{f: getattr(c, f) for f in FACTORS} for c in cases() if (c.row.name, c.backend) == (name, "native")]
    assert set().union(*map(pairs_of, own)) >= set().union(*map(pairs_of, WAYS))


@cache
def cell_like(row: CellRow, dtype: torch.dtype, sizes: tuple[int, int, int, int]) -> Any:
    """Return a cell that is read once, for tests that do not change it."""
    return Case(row, "auto", "dynamic_rnn", dtype=dtype, sizes=sizes).own_cell()


def cell_of(case: Case) -> Any:
    """Return the one cell of all cases of its row, I, H and dtype."""
    return cell_like(case.row, case.dtype, (1, 1, *case.sizes[2:]))


def usual(row: CellRow, execution: str = "dynamic_rnn", **options: Any) -> Problem:
    """Return a problem of a cell that other tests read too."""
    case = Case(row, "auto", execution, **options)
    case = replace(case, dtype=dtype_for(row, case.sizes))
    return case.problem(cell_of(case))


@pytest.mark.parametrize("row", CELLS, ids=str)
def test_a_backend_refuses_what_it_is_known_to_refuse_and_nothing_else(row):
    cell, inputs, _, constants = usual(row)
    (decision,) = unspool.explain(cell, inputs, constants=constants).decisions
    for backend in BACKENDS:
        known = [REFUSED[backend, row.name]] if (backend, row.name) in REFUSED else []
        assert len(decision.reasons[backend]) == len(known)
        assert all(part in reason for part, reason in zip(known, decision.reasons[backend], strict=True))


def run_oracle(case: Case, problem: Problem, live: list[list[bool]]) -> Run:
    """Run a case through the oracle."""
    torch.default_generator.manual_seed(case.seed)
    draw = getattr(problem.cell, "row_inputs", None)
    run = alone(
        problem.cell,
        problem.inputs,
        live,
        initial_state=problem.initial_state,
        resets=case.resets_list(),
        reverse=case.reverse,
        pad_output=case.pad_output,
        rows=None if draw is None else draw(len(live), dtype=case.dtype),
        constants=problem.constants,
    )
    return run if case.execution.endswith("all states") else run._replace(all_states=None)


def compare(case: Case, actual: Callable[[], Run], expected: Callable[[], Run], problem: Problem, *cells: Any) -> None:
    """Compare what the library and the oracle make of one problem."""
    assert_close(measure(actual, problem, cells), measure(expected, problem, cells), case.dtype)


@pytest.mark.parametrize("ways", [pytest.param(ways, id=name) for name, ways in cases_by_cell().items()])
def test_rows_in_a_batch_equal_rows_alone(ways):
    """One cell is run in all its ways, so that it is read once, and the oracle runs once for all backends."""
    cell = cell_of(ways[0])
    expected: dict[Case, dict[str, torch.Tensor]] = {}
    for case in ways:
        problem, live = posed(case, cell)
        alike = replace(case, backend="")
        try:
            if alike not in expected:
                expected[alike] = measure(partial(run_oracle, case, problem, live), problem)
            assert_close(measure(partial(run_library, case, problem), problem), expected[alike], case.dtype)
        except Exception as error:
            error.add_note(f"{case}")
            raise


def features(forward: Any, backward: Any) -> Any:
    return map_leaves(lambda a, b: torch.cat([a, b], -1), forward, backward)


def second_layer(case: Case, problem: Problem, live: list[list[bool]]) -> list[Any]:
    """Return forward and backward cells over the joined outputs of the first ones."""
    size = 2 * run_oracle(case, problem, live).outputs.shape[-1]
    return [case.row.cell(size, size if case.row.square else case.sizes[3], case.dtype, seed) for seed in (2, 3)]


def run_oracle_both_ways(case: Case, cells: list[Any], problem: Problem, live: list[list[bool]]) -> Run:
    torch.default_generator.manual_seed(case.seed)
    stacked = case.execution.startswith("stack")
    inputs: Any = problem.inputs
    finals: tuple[list[Any], list[Any]] = [], []
    pair: list[Any] = []
    for layer in range(len(cells) // 2):
        pair = []
        for direction in range(2):
            cell = cells[2 * layer + direction]
            draw = getattr(cell, "row_inputs", None)
            state = None if problem.initial_state is None else problem.initial_state[direction]
            run = alone(
                cell,
                inputs,
                live,
                initial_state=state[layer] if stacked and state is not None else state,
                resets=case.resets_list(),
                reverse=bool(direction),
                pad_output=case.pad_output,
                rows=None if draw is None else draw(len(live), dtype=case.dtype),
                constants=problem.constants,
            )
            pair.append(run.outputs)
            finals[direction].append(run.final_state)
        if stacked:
            inputs = features(*pair)
    if stacked:
        return Run(inputs, (tuple(finals[0]), tuple(finals[1])))
    outputs = tuple(pair) if case.execution.startswith("bidirectional_dynamic_rnn") else features(*pair)
    return Run(outputs, (finals[0][0], finals[1][0]))


@pytest.mark.parametrize("case", bidirectional_cases(), ids=str)
def test_both_directions_equal_two_runs_of_rows_alone(case):
    problem, live = posed(case, cell_of(case))
    width = case.sizes[3] if case.row.square else case.sizes[2]
    cells = [problem.cell, case.row.cell(width, case.sizes[3], case.dtype, seed=1)]
    stacked = case.execution.startswith("stack")
    if stacked:
        cells += second_layer(case, problem, live)
    if case.given_state:
        generator = torch.Generator().manual_seed(5)
        states = [random_state(cell, len(live), case.dtype, generator) for cell in cells]
        given = (tuple(states[::2]), tuple(states[1::2])) if stacked else tuple(states)
        problem = problem._replace(initial_state=given)
    compare(
        case,
        lambda: run_library_both_ways(case, cells, problem),
        lambda: run_oracle_both_ways(case, cells, problem, live),
        problem,
        *cells[1:],
    )


RAGGED: dict[str, Any] = {"lengths": "some zero", "mask": "gaps", "resets": "resets", "pad_output": "repeat"}
IDENTICAL = [
    {"dtype": torch.float32, "sizes": (5, 7, 5, 17)},
    {"dtype": torch.float32, "sizes": (5, 7, 5, 17), "reverse": True, "given_state": True, **RAGGED},
]


@pytest.mark.parametrize("row", CELLS, ids=str)
def test_static_layer_and_layouts_equal_dynamic_bit_for_bit(row):
    circumstances = IDENTICAL[CELLS.index(row) % 2]

    def run(execution: str) -> dict[str, torch.Tensor]:
        case = Case(row, "reference", execution, **circumstances)
        problem, _ = posed(case, cell_of(case))
        return measure(lambda: run_library(case, problem), problem)

    expected = run("dynamic_rnn")
    for execution in ("static_rnn", "dynamic_rnn time-major", "RNN", "RNN batch-first", "RNN unrolled"):
        assert_identical(run(execution), expected)


NOT_CONTIGUOUS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "every second feature": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "features first": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "one step for all": lambda x: x[:, :1].expand_as(x),
    "inside of a larger tensor": lambda x: torch.nn.functional.pad(x, (1, 2, 1, 1), value=float("nan"))[:, 1:-1, 1:-2],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", NOT_CONTIGUOUS)
@pytest.mark.parametrize("lengths", [None, [3, 7, 0, 6, 2]], ids=["dense", "ragged"])
def test_layout_in_memory_does_not_matter(layout, lengths, backend):
    cell = unspool.LSTMCell(3, 4, dtype=torch.float64)
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    strided = NOT_CONTIGUOUS[layout](x)
    assert not strided.is_contiguous()

    def run(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        problem = Problem(cell, inputs.detach().requires_grad_(), None)
        forward = lambda: Run(*unspool.dynamic_rnn(cell, problem.inputs, lengths, backend=backend))  # noqa: E731
        return measure(forward, problem)

    assert_close(run(strided), run(strided.clone(memory_format=torch.contiguous_format)), torch.float64)


SPARSE_MASK = [[t % 3 != b % 3 and t < 7 for t in range(9)] for b in range(4)]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("lengths", "mask"),
    [(None, None), ([3, 0, 5, 2], None), (None, SPARSE_MASK), ([9, 1, 4, 0], SPARSE_MASK)],
    ids=["dense", "lengths", "mask", "both"],
)
@pytest.mark.parametrize("execution", ["dynamic_rnn", "static_rnn", "RNN", "RNN unrolled"])
def test_only_live_rows_are_computed_and_no_step_beyond_the_longest(execution, lengths, mask, reverse):
    rows, ones = torch.arange(4.0).view(4, 1, 1).expand(4, 9, 1), torch.ones(4, 9, 1)
    inputs = torch.cat([rows, ones], 2)
    live = live_steps(4, 9, lengths, mask)
    cell = ProbeCell()
    options: dict[str, Any] = {"mask": mask, "backend": "reference"}
    if execution == "dynamic_rnn":
        _, total = unspool.dynamic_rnn(cell, inputs, lengths, reverse=reverse, **options)
    elif execution == "static_rnn":
        _, total = unspool.static_rnn(cell, list(inputs.unbind(1)), lengths, reverse=reverse, **time_first(options))
    else:
        unroll = execution.endswith("unrolled")
        layer = unspool.RNN(cell, batch_first=True, reverse=reverse, unroll=unroll, backend="reference")
        _, total = layer(inputs, lengths=lengths, mask=mask)
    expected = [[b for b in range(4) if live[b][t]] for t in (reversed(range(9)) if reverse else range(9))]
    assert cell.calls == [step for step in expected if step]
    assert total.squeeze(1).tolist() == [sum(row) for row in live]


@pytest.mark.parametrize("row", CELLS, ids=str)
def test_no_steps_and_no_rows_give_empty_outputs(row):
    problem = usual(row, "dynamic_rnn all states", given_state=True)
    cell, inputs, state, constants = problem
    full, _ = unspool.dynamic_rnn(cell, inputs, initial_state=state, constants=constants, backend="reference")
    first = CELLS.index(row)
    for k, (batch, steps) in enumerate(((0, 7), (5, 0), (0, 0))):
        inputs = with_gradient(map_leaves(lambda leaf, b=batch, t=steps: leaf[:b, :t], problem.inputs))
        state, constants = (
            None if tree is None else map_leaves(lambda leaf, b=batch: leaf[:b], tree)
            for tree in (problem.initial_state, problem.constants)
        )
        fixed: dict[str, Any] = {"initial_state": state, "constants": constants, "return_all_states": True}
        ways: list[dict[str, Any]] = [
            {"reverse": bool(steps)},
            {"mask": torch.ones(batch, steps, dtype=torch.bool), "pad_output": "repeat", "reverse": not steps},
            {"sequence_length": [0] * batch, "resets": torch.ones(batch, steps).bool(), "reverse": bool(batch)},
        ]
        expected = map_leaves(lambda leaf, b=batch, t=steps: (b, t, *leaf.shape[2:]), full)
        for n, backend in enumerate(row.backends):  # the ways take turns, two for each cell
            options = {**fixed, **ways[(first + (k + n) % 2) % 3], "backend": backend}
            outputs, final, states = unspool.dynamic_rnn(cell, inputs, **options)
            assert_identical(named("final", final), named("final", state))
            assert map_leaves(lambda leaf: tuple(leaf.shape), outputs) == expected
            for after, before in zip(leaves_of(states), leaves_of(state), strict=True):
                assert after.shape == (batch, steps, *before.shape[1:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [0, 7])
def test_gradients_of_an_empty_run_exist_and_are_zero(steps, backend):
    cell = unspool.LSTMCell(3, 4)
    x = torch.randn(2, steps, 3, requires_grad=True)
    outputs, _ = unspool.dynamic_rnn(cell, x, [0, 0], backend=backend)
    outputs.sum().backward()
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in (x, *cell.parameters()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [0, 7])
def test_constants_of_an_empty_run_have_gradients_of_zero(steps, backend):
    cell, constants = MemoryCell(3, 4), memory(2, 4, torch.Generator())
    slots = constants["memory"].float().requires_grad_()
    outputs, _ = unspool.dynamic_rnn(
        cell, torch.randn(2, steps, 3), [0, 0], constants={**constants, "memory": slots}, backend=backend
    )
    outputs.sum().backward()
    assert slots.grad is not None
    assert not slots.grad.any()
