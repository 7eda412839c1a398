"""What counts as a cell, and what the library refuses to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.user_cells import NestedStateCell, SumCell
from tests.refusal import refused
from unspool import Cell, GRUCell, LSTMCell, LSTMState, StackedRNNCells, dynamic_rnn
from unspool.cells import initial_state_of, is_cell, match_state, require_cell, row_inputs_of, step
from unspool.execution import Steps, make_schedule

B, H = 2, 3


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class BadCell(Cell):
    """Returns what it is told to return."""

    def __init__(self, result: Any = None, start: Any = None) -> None:
        super().__init__(H)
        self.result, self.start = result, start

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        return torch.zeros(batch_size, H) if self.start is None else self.start(batch_size)

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.result(x, state)


@pytest.mark.parametrize("cell", [nn.LSTMCell(3, 4), nn.GRUCell(3, 4), nn.RNNCell(3, 4), GRUCell(3, 4), SumCell(3, 4)])
def test_cells_are_recognised(cell):
    assert is_cell(cell)
    assert is_cell(NestedStateCell(3, 4))
    require_cell(cell)


NO_CELLS: list[tuple[Any, str, str]] = [
    (nn.Linear(3, 4), "cell is Linear", "derive from unspool.Cell"),
    (nn.LSTM(3, 4), "cell is LSTM", "A layer runs over time by itself: call it"),
    (lambda x, state: (x, state), "cell is function", "derive from unspool.Cell"),
    (None, "cell is NoneType", "derive from unspool.Cell"),
    (3, "cell is int", "derive from unspool.Cell"),
    (GRUCell, "cell is the class GRUCell", "Make one of it: GRUCell(...)"),
    ([GRUCell(3, 4), GRUCell(4, 4)], "cell is list", "Make one cell of several with unspool.StackedRNNCells"),
]


@pytest.mark.parametrize(("thing", "received", "advice"), NO_CELLS, ids=[received for _, received, _ in NO_CELLS])
def test_what_is_no_cell_is_refused(thing, received, advice):
    assert not is_cell(thing)
    with refused(TypeError, received, "expected a cell", "forward(x, state) -> (output, new_state)", advice):
        require_cell(thing)


class ParameterStartCell(nn.Module):
    """Has its initial state as a parameter, where a method belongs."""

    def __init__(self) -> None:
        super().__init__()
        self.initial_state = nn.Parameter(torch.zeros(1, H))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state


def test_an_initial_state_that_is_no_method_is_refused():
    assert not is_cell(ParameterStartCell())
    with refused(TypeError, "cell is ParameterStartCell", "expected a cell", "Add the method initial_state"):
        dynamic_rnn(ParameterStartCell(), torch.zeros(B, 4, H))


class Forgetful(nn.Module):
    """A step like any, but nothing tells how it starts."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h)
        return h, h


def test_what_the_error_advises_makes_a_cell():
    with pytest.raises(TypeError) as caught:
        dynamic_rnn(Forgetful(), torch.zeros(B, 4, H))
    lines = str(caught.value).splitlines()
    names: dict[str, Any] = {"torch": torch, "H": H}
    start = next(k for k, line in enumerate(lines) if "def initial_state" in line)
    exec("\n".join(line.removeprefix("    ") for line in lines[start : start + 2]), names)
    assert "super().__init__(state_size=H)" in lines[-1]
    mended = type("Mended", (Forgetful,), {"initial_state": names["initial_state"]})
    derived = type("Derived", (Forgetful, Cell), {"__init__": lambda self: Cell.__init__(self, state_size=H)})
    made: list[Any] = [mended, derived]
    for cell in (make() for make in made):
        out, _ = dynamic_rnn(cell, torch.ones(B, 4, H))
        assert out.shape == (B, 4, H)


def learned_start(kind: Any) -> Any:
    """Return a class derived from one of PyTorch's cells, which starts from a parameter."""

    class Learned(kind):
        def __init__(self, *sizes: int) -> None:
            super().__init__(*sizes)
            self.start = nn.Parameter(torch.linspace(-1, 1, sizes[1]))

        def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
            h = self.start.expand(batch_size, -1)
            return LSTMState(h, h) if kind is nn.LSTMCell else h

    return Learned


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_torch_cell_with_an_initial_state_of_its_own_starts_there(kind):
    cell = learned_start(kind)(3, H)
    x = torch.randn(B, 4, 3)
    output, _ = dynamic_rnn(cell, x)
    state = cell.initial_state(B)
    for t in range(4):
        state = cell(x[:, t], state)
        torch.testing.assert_close(output[:, t], state[0] if kind is nn.LSTMCell else state)
    (gradient,) = torch.autograd.grad(output.sum(), cell.start)
    assert gradient.any()


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
def test_a_class_derived_from_a_torch_cell_may_keep_the_contract(kind):
    class Own(learned_start(kind)):
        def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            result = super().forward(x, state)
            return (2 * result[0], LSTMState(*result)) if kind is nn.LSTMCell else (2 * result, result)

    cell, plain = Own(3, H), learned_start(kind)(3, H)
    plain.load_state_dict(cell.state_dict())
    x = torch.randn(B, 4, 3)
    torch.testing.assert_close(dynamic_rnn(cell, x)[0], 2 * dynamic_rnn(plain, x)[0])


@dataclass
class Registered:
    """A state that PyTorch has been told of."""

    h: Tensor
    count: Tensor


class DataclassStateCell(nn.Module):
    """Its state is a dataclass."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self.project = nn.Linear(3, H)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        return self.kind(torch.zeros(batch_size, H), torch.zeros(batch_size, dtype=torch.long))

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = torch.tanh(self.project(x) + state.h)
        return h, self.kind(h, state.count + 1)


def test_a_dataclass_is_a_state_where_torch_has_been_told_of_it():
    torch.export.register_dataclass(Registered)
    output, state = dynamic_rnn(DataclassStateCell(Registered), torch.randn(B, 4, 3), [4, 1])
    assert isinstance(state, Registered)
    assert state.count.tolist() == [4, 1]
    assert torch.equal(state.h, torch.stack([output[0, 3], output[1, 0]]))

    @dataclass
    class Unknown(Registered):
        pass

    with refused(TypeError, "initial_state(2) is Unknown; expected a tensor", "register_dataclass"):
        dynamic_rnn(DataclassStateCell(Unknown), torch.randn(B, 4, 3))


def test_a_cell_that_is_no_cell_is_named():
    with refused(TypeError, "cells[1] is Linear", "expected a cell"):
        StackedRNNCells([GRUCell(3, 4), nn.Linear(4, 4)])


def test_torch_cells_start_at_zero_and_have_no_row_inputs():
    state = initial_state_of(nn.LSTMCell(3, 4, dtype=torch.float64), B)
    assert isinstance(state, LSTMState)
    assert state.c.shape == (B, 4)
    assert state.h.dtype == torch.float64
    assert not initial_state_of(nn.GRUCell(3, 4), B, torch.bfloat16).any()
    assert row_inputs_of(nn.GRUCell(3, 4), B) is None
    assert row_inputs_of(NestedStateCell(3, 4), B) is None


def test_step_runs_any_cell():
    x, h, c = torch.randn(B, 3), torch.randn(B, 4), torch.randn(B, 4)
    lstm, gru = nn.LSTMCell(3, 4), nn.GRUCell(3, 4)
    output, state = step(lstm, x, LSTMState(h, c))
    assert isinstance(state, LSTMState)
    assert output is state.h
    torch.testing.assert_close(tuple(state), lstm(x, (h, c)))
    output, state = step(gru, x, h)
    assert output is state
    torch.testing.assert_close(output, gru(x, h))


def test_match_state_takes_plain_tuples_and_dicts_in_any_order():
    h, c = torch.zeros(B, H), torch.ones(B, H)
    matched = match_state((h, c), LSTMState(h, h), "state")
    assert isinstance(matched, LSTMState)
    assert matched.c is c
    nested = match_state({"b": [(h, c)], "a": c}, {"a": h, "b": (Pair(h, h),)}, "state")
    assert list(nested) == ["a", "b"]
    assert isinstance(nested["b"][0], Pair)
    assert nested["b"][0].second is c
    own = LSTMState(h, c)
    assert match_state(own, LSTMState(c, h), "state") is own


def states(**kinds: Any) -> Any:
    return LSTMState(torch.zeros(B, H), torch.zeros(B, H))._replace(**kinds)


@pytest.mark.parametrize(
    ("state", "error", "parts"),
    [
        (torch.zeros(B, H), ValueError, ("given has the structure [2, 3]", "expected LSTMState(h=[2, 3], c=[2, 3])")),
        ((torch.zeros(B, H),), ValueError, ("([2, 3],)", "expected LSTMState", "Keep one structure from step to step")),
        ({"h": torch.zeros(B, H)}, ValueError, ("{'h': [2, 3]}", "expected LSTMState")),
        (states(c=torch.zeros(B, H + 1)), ValueError, ("c=[2, 4]", "expected LSTMState(h=[2, 3], c=[2, 3])", "batch")),
        (states(h=torch.zeros(H)), ValueError, ("h=[3]", "a scalar (a counter, say) needs a batch axis")),
        (
            states(h=torch.zeros(B, H).double()),
            TypeError,
            ("float64", "expected torch.float32", "Convert it with .to("),
        ),
        (states(h=torch.zeros(B, H, device="meta")), ValueError, ("is on meta", "expected cpu", "Move it with .to(")),
        (states(c=None), TypeError, ("c=NoneType None", "expected tensors only")),
        (states(c=0.5), TypeError, ("c=float 0.5", "expected tensors only")),
    ],
)
def test_states_that_do_not_match_are_refused(state, error, parts):
    with refused(error, "given", *parts):
        match_state(state, states(), "given")
    with refused(error, "initial_state", *parts[1:]):
        dynamic_rnn(LSTMCell(1, H), torch.zeros(B, 4, 1), initial_state=state)


BROKEN = [
    (lambda x, s: s, TypeError, ("BadCell.forward returned [2, 3]", "expected a pair (output, new_state)", "twice")),
    (lambda x, s: [s, s], TypeError, ("returned [[2, 3], [2, 3]]", "expected a pair")),
    (lambda x, s: (s, s, s), TypeError, ("returned ([2, 3], [2, 3], [2, 3])", "expected a pair")),
    (lambda x, s: (s, (s,)), ValueError, ("new state of BadCell", "([2, 3],)", "expected [2, 3]")),
    (lambda x, s: (s, s[:, :1]), ValueError, ("new state of BadCell", "[2, 1]", "expected [2, 3]")),
    (lambda x, s: (s, s.sum()), ValueError, ("new state of BadCell", "[]", "expected [2, 3]", "batch axis")),
    (lambda x, s: (s, s.double()), TypeError, ("float64", "expected torch.float32", "keep the dtype")),
    (lambda x, s: (s, None), TypeError, ("new state of BadCell", "NoneType None", "expected tensors only")),
    (lambda x, s: (s.sum(), s), ValueError, ("put out []", "2 rows", "expected the batch as the first axis")),
    (lambda x, s: ((s, s[:1]), s), ValueError, ("put out ([2, 3], [1, 3])", "one output per row")),
    (lambda x, s: (None, s), TypeError, ("output is NoneType None", "expected a tensor")),
    (lambda x, s: ({"y": s, "loss": 0.5}, s), TypeError, ("output['loss'] is float 0.5", "expected a tensor")),
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("result", "error", "parts"), BROKEN)
def test_a_cell_that_breaks_its_contract_is_told_so(result, error, parts, reverse):
    with refused(error, *parts):
        dynamic_rnn(BadCell(result), torch.zeros(B, 4, 1), reverse=reverse)


@pytest.mark.parametrize(
    ("start", "error", "parts"),
    [
        (lambda b: (torch.zeros(b, H), torch.tensor(0)), ValueError, ("state[1]", "shape []", "expected [2, ...]")),
        (lambda b: {"n": torch.zeros(1, H)}, ValueError, ("state['n']", "[1, 3]", "expected [2, ...]", "batch axis")),
        (lambda b: (torch.zeros(b, H), 0), TypeError, ("[1] is int 0", "expected a tensor")),
        (lambda b: None if b else 0, TypeError, ("NoneType None", "expected a tensor")),
    ],
)
def test_initial_states_without_a_batch_axis_are_refused(start, error, parts):
    cell = BadCell(lambda x, s: (x, s), start)
    with refused(error, "BadCell.initial_state(2)", *parts):
        dynamic_rnn(cell, torch.zeros(B, 4, 1))


def test_a_cell_is_checked_before_anything_is_computed():
    cell = BadCell(lambda x, s: pytest.fail("the cell was called"))
    with refused(ValueError, "sequence_length[0] is 9"):
        dynamic_rnn(cell, torch.zeros(B, 4, 1), [9, 1])
    with refused(ValueError, "initial_state"):
        dynamic_rnn(cell, torch.zeros(B, 4, 1), initial_state=torch.zeros(B, 1))
    schedule = make_schedule(torch.zeros(4, B, 1), Steps(), reverse=False, time_major=True)
    assert schedule.dense
