"""raw_rnn: the loop under the control of a function.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.cases import CELLS, Case, vectors
from tests.conformance.oracle import Problem, Run, assert_close, map_leaves, measure, with_gradient
from tests.conformance.user_cells import LogCell, ProbeCell, SumCell
from tests.refusal import refused
from unspool import GRUCell, LSTMCell, dynamic_rnn, raw_rnn

B, T, I, H = 3, 5, 2, 4  # noqa: E741
LENGTHS = torch.tensor([5, 0, 2])


def bools(*values: bool) -> Tensor:
    return torch.tensor(values)


def like_dynamic_rnn(cell: Any, inputs: Tensor, lengths: Tensor, state: Any, constants: Any = None) -> Run:
    """Run `raw_rnn` with the loop function of TensorFlow's documentation, which makes it `dynamic_rnn`."""

    def loop(time: int, output: Any, cell_state: Any, loop_state: Any) -> Any:
        next_state = state if output is None else cell_state
        following = inputs[:, time] if time < inputs.shape[1] else None
        return time >= lengths, following, next_state, output, None

    emitted, final, loop_state = raw_rnn(cell, loop, constants=constants)
    assert loop_state is None
    return Run(map_leaves(lambda leaf: leaf.transpose(0, 1), emitted), final)


@pytest.mark.parametrize("row", [row for row in CELLS if row.draw is vectors], ids=str)
def test_raw_rnn_can_be_dynamic_rnn(row):
    case = Case(row, "reference", "raw_rnn", given_state=True)
    cell, inputs, state, constants = case.problem()
    lengths = torch.tensor([7, 0, 2, 5, 1])
    poisoned = inputs.clone()
    poisoned[torch.arange(7) >= lengths.unsqueeze(1)] = float("nan")
    problem = Problem(cell, with_gradient(poisoned), state, constants)

    def looped() -> Run:
        torch.manual_seed(0)
        return Run(*dynamic_rnn(cell, problem.inputs, lengths, state, constants=constants, backend="reference"))

    def raw() -> Run:
        torch.manual_seed(0)
        return like_dynamic_rnn(cell, problem.inputs, lengths, state, constants)

    assert_close(measure(raw, problem), measure(looped, problem), torch.float64)


def test_finished_rows_reach_no_gradient_even_if_the_step_is_not_finite_at_zero():
    cell = LogCell(I, H).double()
    x = torch.rand(B, T, I, dtype=torch.float64) + 0.5
    run = like_dynamic_rnn(cell, x, LENGTHS, cell.initial_state(B))
    run.outputs.sum().backward()
    assert run.outputs.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


def test_emit_is_zeroed_and_the_state_copied_with_the_old_finished():
    """A row that finishes at time t still emits, and updates its state, at t."""
    cell, ones = ProbeCell(), torch.ones(2, 2)

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        finished = bools(time >= 1, time >= 3)
        return finished, ones, torch.zeros(2, 1) if time == 0 else state, output, None

    emitted, final, _ = raw_rnn(cell, loop)
    assert emitted.squeeze(2).tolist() == [[1, 1], [0, 2], [0, 3]]
    assert final.squeeze(1).tolist() == [1, 3]
    assert [len(rows) for rows in cell.calls] == [2, 1, 1]  # finished rows are not computed


def test_what_loop_fn_returns_for_finished_rows_is_not_used():
    cell, nan = ProbeCell(), float("nan")
    seen = []

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        if time == 0:
            return bools(True, False), torch.tensor([[nan, nan], [0.0, 1.0]]), torch.tensor([[7.0], [0.0]]), None, None
        seen.append((output[0].item(), state[0].item()))
        spoilt = state.clone()
        spoilt[0] = nan
        emit = output.clone()
        emit[0] = nan
        return bools(True, time >= 2), torch.tensor([[nan, nan], [0.0, 1.0]]), spoilt, emit, None

    emitted, final, _ = raw_rnn(cell, loop)
    assert emitted.squeeze(2).tolist() == [[0, 1], [0, 2]]
    assert final.squeeze(1).tolist() == [7, 2]
    assert seen == [(0, 7), (0, 7)]  # zeros as their output, and the state that they keep


def test_finished_never_turns_back():
    cell, ones = ProbeCell(), torch.ones(2, 2)

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        finished = bools(time == 1, time >= 3)  # the first row says that it has finished once only
        return finished, ones, torch.zeros(2, 1) if time == 0 else state, output, None

    emitted, final, _ = raw_rnn(cell, loop)
    assert emitted.squeeze(2).tolist() == [[1, 1], [0, 2], [0, 3]]
    assert final.squeeze(1).tolist() == [1, 3]


def test_loop_fn_is_called_with_nothing_first_and_keeps_its_loop_state():
    calls = []

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        calls.append((time, output is None, state is None, loop_state))
        following = {0: "start", 1: None, 2: "two", 3: None}[time]
        return bools(time >= 3), torch.ones(1, 2), torch.zeros(1, 1) if time == 0 else state, output, following

    emitted, _, loop_state = raw_rnn(ProbeCell(), loop)
    assert emitted.shape == (3, 1, 1)
    assert loop_state == "two"
    assert calls == [
        (0, True, True, None),
        (1, False, False, "start"),
        (2, False, False, "start"),
        (3, False, False, "two"),
    ]


def test_loop_state_may_hold_tensors_with_gradients():
    cell = GRUCell(I, H)

    def loop(time: int, output: Any, state: Any, total: Any) -> Any:
        if time == 0:
            return bools(False, False), torch.ones(2, I), torch.zeros(2, H), None, torch.zeros(2)
        return bools(time >= 3, time >= 2), torch.ones(2, I), state, output, total + output.sum(1)

    emitted, _, total = raw_rnn(cell, loop)
    torch.testing.assert_close(total, emitted.sum((0, 2)))
    total.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in cell.parameters())


def test_outputs_may_be_fed_back():
    cell = GRUCell(H, H)
    x, h = torch.randn(2, H), torch.zeros(2, H)

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        return torch.full((2,), time >= 4), x if time == 0 else output, h if time == 0 else state, output, None

    emitted, final, _ = raw_rnn(cell, loop)
    expected, state, fed = [], h, x
    for _ in range(4):
        fed, state = cell(fed, state)
        expected.append(fed)
    torch.testing.assert_close(emitted, torch.stack(expected))
    torch.testing.assert_close(final, state)


def test_the_state_may_be_replaced_between_steps():
    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        next_state = torch.zeros(1, 1) if time == 0 else 100 + state
        return bools(time >= 2), torch.ones(1, 2), next_state, output, None

    emitted, final, _ = raw_rnn(ProbeCell(), loop)
    assert emitted.flatten().tolist() == [1, 102]
    assert final.item() == 202


def test_emit_may_be_of_another_structure_than_the_output():
    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        if time == 0:
            example = {"double": torch.zeros(1), "step": torch.tensor(0)}
            return bools(False, False), torch.ones(2, 2), torch.zeros(2, 1), example, None
        emit = {"step": torch.full((2,), time), "double": 2 * output}
        return bools(time >= 1, time >= 2), torch.ones(2, 2), state, emit, None

    emitted, _, _ = raw_rnn(ProbeCell(), loop)
    assert emitted["double"].squeeze(2).tolist() == [[2, 2], [0, 4]]
    assert emitted["step"].tolist() == [[1, 1], [0, 2]]
    assert emitted["step"].dtype == torch.int64


@pytest.mark.parametrize("example", [None, torch.zeros(7, 2)], ids=["cell's output", "example"])
def test_no_step_at_all(example):
    cell = SumCell(2, 0) if example is None else ProbeCell()

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        assert time == 0
        return bools(True, True), torch.ones(2, 2), cell.initial_state(2) + 3, example, "kept"

    emitted, final, loop_state = raw_rnn(cell, loop)
    if example is None:
        assert [leaf.shape for leaf in emitted] == [(0, 2, 2), (0, 2, 1)]
    else:
        assert emitted.shape == (0, 2, 7, 2)
        assert not cell.calls  # type: ignore[union-attr]
    assert (final == 3).all()
    assert loop_state == "kept"


def test_random_masks_are_held_over_the_run():
    cell = LSTMCell(I, H, dropout=0.5, recurrent_dropout=0.5)
    x = torch.randn(B, T, I)
    torch.manual_seed(2)
    run = like_dynamic_rnn(cell, x, LENGTHS, cell.initial_state(B))
    torch.manual_seed(2)
    expected, _ = dynamic_rnn(cell, x, LENGTHS)
    torch.testing.assert_close(run.outputs, expected)


def answer(**changed: Any) -> Any:
    """Return a loop function of two steps whose answers at time 1 (or 0, by `at`) are changed."""
    at = changed.pop("at", 1)

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        values: dict[str, Any] = {
            "finished": bools(time >= 2, time >= 2),
            "next_input": torch.zeros(2, I),
            "next_state": torch.zeros(2, H) if time == 0 else state,
            "emit": output,
            "loop_state": None,
        }
        return tuple((values | changed if time == at else values).values())

    return loop


WRONG: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    (
        {"finished": [True, False]},
        TypeError,
        ("finished = [bool True, bool False] at time 1", "a boolean tensor of shape [B]"),
    ),
    ({"finished": True, "at": 0}, TypeError, ("finished = bool True at time 0", "take no further step")),
    ({"finished": torch.zeros(2)}, TypeError, ("finished = [2] at time 1", "expected a boolean tensor")),
    ({"finished": bools(True)}, ValueError, ("finished of shape [1] at time 1", "expected [2]", "as at time 0")),
    ({"next_input": torch.zeros(3, I), "at": 0}, ValueError, ("next_input = [3, 2] at time 0", "expected [2, ...]")),
    ({"next_input": torch.zeros(3, I)}, ValueError, ("next_input = [3, 2] at time 1", "one row for each entry")),
    ({"next_input": None}, TypeError, ("next_input of loop_fn at time 1 is NoneType None", "expected a tensor")),
    ({"next_state": torch.zeros(3, H), "at": 0}, ValueError, ("next_state = [3, 4] at time 0", "expected [2, ...]")),
    ({"next_state": torch.zeros(2, H + 1)}, ValueError, ("next_state at time 1", "[2, 5]", "expected [2, 4]")),
    ({"next_state": (torch.zeros(2, H),)}, ValueError, ("next_state at time 1", "([2, 4],)", "expected [2, 4]")),
    ({"next_state": torch.zeros(2, H).double()}, TypeError, ("next_state at time 1", "float64")),
    (
        {"next_state": None, "at": 0},
        TypeError,
        ("next_state of loop_fn at time 0 is NoneType None", "expected a tensor"),
    ),
    ({"emit": 0.5, "at": 0}, TypeError, ("emit at time 0 is float 0.5", "no batch axis", "or None")),
    ({"emit": torch.zeros(H + 1), "at": 0}, ValueError, ("emit at time 1", "[2, 4]", "expected [2, 5]")),
]


@pytest.mark.parametrize(("changed", "error", "parts"), WRONG)
def test_wrong_answers_of_loop_fn_are_refused(changed, error, parts):
    with refused(error, *parts):
        raw_rnn(GRUCell(I, H), answer(**changed))


def test_the_answer_must_be_five_things():
    with refused(TypeError, "loop_fn returned (bool True, NoneType None) at time 0", "a tuple of five", "loop_state"):
        raw_rnn(GRUCell(I, H), lambda *_: (True, None))  # type: ignore[arg-type]
    with refused(TypeError, "cell is function", "expected a cell"):
        raw_rnn(lambda x, s: (x, s), answer())
    with refused(TypeError, "loop_fn is NoneType None", "expected a function", "loop_fn(time, cell_output,"):
        raw_rnn(GRUCell(I, H), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("emit", "error", "parts"),
    [
        (torch.tensor(1.0), ValueError, ("emit = [] at time 1", "expected [2, ...]", "one row for each entry")),
        (torch.zeros(3, H), ValueError, ("emit = [3, 4] at time 1", "expected [2, ...]")),
        (0.5, TypeError, ("emit of loop_fn at time 1 is float 0.5", "expected a tensor")),
    ],
)
def test_the_first_emit_must_have_the_rows_of_the_batch(emit, error, parts):
    answers = answer(emit=emit)

    def loop(time: int, *seen: Any) -> Any:
        return answers(time, *seen) if time else answer(emit=None, at=0)(time, *seen)

    with refused(error, *parts):
        raw_rnn(GRUCell(I, H), loop)


def test_an_emit_that_changes_its_shape_is_refused():
    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        emit = None if time == 0 else torch.zeros(2, time)
        return bools(False, False), torch.zeros(2, I), torch.zeros(2, H), emit, None

    with refused(ValueError, "emit at time 2", "[2, 2]", "expected [2, 1]"):
        raw_rnn(GRUCell(I, H), loop)


def test_nothing_is_asked_of_the_last_next_input():
    emitted, _, _ = raw_rnn(GRUCell(I, H), answer(next_input="anything", at=2))
    assert emitted.shape == (2, 2, H)
