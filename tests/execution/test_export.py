"""`torch.export`: programs for any numbers of steps and rows, which run in any process; and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.export import Dim, ExportedProgram
from torch.nn.utils.rnn import pack_padded_sequence

import unspool as us
from tests.backends.processes import run_python
from tests.execution.exported import STEPS, Dynamic, Flat, LeakyCell, Static, assert_equal, axes, batch
from tests.refusal import refused

pytestmark = [
    # Importing inductor defines scripted classes, which PyTorch itself has deprecated.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
    # PyTorch copies the structures of its own programs through a class that it has deprecated.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
]

LOOPED: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "LSTM": (2, lambda: Flat(us.LSTM(3, 4, bidirectional=True, batch_first=True))),
    "LSTM with projection": (1, lambda: Flat(us.LSTM(3, 4, proj_size=2, batch_first=True, backend="native"))),
    "GRU, the last output": (1, lambda: Flat(us.GRU(3, 4, batch_first=True, return_sequences=False, reverse=True))),
    "SimpleRNN, Keras's ways": (
        1,
        lambda: Flat(us.SimpleRNN(3, 4, batch_first=True, go_backwards=True, pad_output="repeat", return_state=False)),
    ),
    "Bidirectional": (2, lambda: Flat(us.Bidirectional(us.RNN(us.LSTMCell(3, 4, peephole=True), batch_first=True)))),
    "stack of cells": (
        1,
        lambda: Flat(us.RNN(us.StackedRNNCells([us.GRUCell(3, 4), nn.LSTMCell(4, 5)]), batch_first=True)),
    ),
    "user's cell": (1, lambda: Dynamic(LeakyCell(3, 4), pad_output="repeat")),
    "accelerated nn.LSTM": (1, lambda: Flat(us.accelerate(nn.LSTM(3, 4, batch_first=True)))),
}
"""Models, and how many runs over time are in each."""

UNROLLED: dict[str, Callable[[], nn.Module]] = {
    "unrolled layer": lambda: Flat(us.LSTM(3, 4, batch_first=True, unroll=True)),
    "static_rnn": lambda: Static(LeakyCell(3, 4)),
}


STATIC = 3
"""Steps of programs that have no loop, and so each step as often."""


def exported(model: nn.Module, static: bool = False) -> ExportedProgram:
    return torch.export.export(model, batch(steps=STATIC if static else STEPS), dynamic_shapes=axes(static))


def saved_and_loaded(program: ExportedProgram) -> ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def scans(program: ExportedProgram) -> int:
    return sum(str(node.target) == "scan" for node in program.graph.nodes)


@cache
def looped(name: str) -> tuple[nn.Module, ExportedProgram]:
    """Return a model and its program, for tests that change neither."""
    model = LOOPED[name][1]()
    return model, exported(model)


@pytest.mark.parametrize("name", LOOPED)
def test_a_program_runs_any_numbers_of_steps_and_rows(name):
    model, program = looped(name)
    assert scans(program) == LOOPED[name][0]
    assert not any("unspool" in str(node.target) for node in program.graph.nodes)
    loaded = saved_and_loaded(program).module()
    for sizes in [(4, 6), (7, 9), (1, 1)]:
        x, lengths = batch(*sizes)
        with torch.no_grad():
            assert_equal(loaded(x, lengths), model(x, lengths))


@pytest.mark.parametrize("name", UNROLLED)
def test_a_static_program_has_no_loop(name):
    model = UNROLLED[name]()
    program = exported(model, static=True)
    assert scans(program) == 0
    loaded = saved_and_loaded(program).module()
    for rows in (4, 7):
        x, lengths = batch(rows, STATIC)
        with torch.no_grad():
            assert_equal(loaded(x, lengths), model(x, lengths))


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = us.GRUCell(3, 4)

    def forward(self, x: Tensor, hx: Tensor, mask: Tensor, resets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return us.dynamic_rnn(self.cell, x, initial_state=hx, mask=mask, resets=resets, return_all_states=True)


def test_states_masks_and_resets_are_inputs_and_a_program_can_be_trained():
    def arguments(rows: int, steps: int) -> tuple[Tensor, ...]:
        flags = torch.rand(2, rows, steps) > 0.5
        return torch.randn(rows, steps, 3, requires_grad=True), torch.randn(rows, 4), flags[0], flags[1]

    rows, steps = Dim("rows"), Dim("steps")
    shapes = ({0: rows, 1: steps}, {0: rows}, {0: rows, 1: steps}, {0: rows, 1: steps})
    model = Everything()
    program = saved_and_loaded(torch.export.export(model, arguments(4, 6), dynamic_shapes=shapes)).module()
    ours, theirs = dict(model.named_parameters()), dict(program.named_parameters())
    assert theirs.keys() == ours.keys()
    given = arguments(3, 8)
    gradients, values = [], []
    for run, parameters in ((program, theirs), (model, ours)):
        results = run(*given)
        wanted = [given[0], *(parameters[name] for name in ours)]
        gradients.append(torch.autograd.grad([r.square().sum() for r in results], wanted))
        with torch.no_grad():
            values.append(run(*given))
    assert_equal(*values)
    assert_equal(*gradients)


ELSEWHERE = """
import sys, torch, unspool
program = torch.export.load(sys.argv[1])
x, lengths, output, h = torch.load(sys.argv[2])
found, state = program.module()(x, lengths=lengths)
assert isinstance(state, unspool.LSTMState) and torch.allclose(found, output) and torch.allclose(state.h[0], h[0])
"""


def test_another_process_runs_a_program_without_the_model(tmp_path):
    model = us.LSTM(3, 4, batch_first=True)
    sample, of_lengths = batch()
    of_x, rows = axes(False)
    shapes = {"input": of_x, "lengths": rows}
    program = torch.export.export(model, (sample,), {"lengths": of_lengths}, dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "model.pt2")
    x, lengths = batch(5, 8)
    with torch.no_grad():
        output, state = model(x, lengths=lengths)
    torch.save([x, lengths, output, state.h], tmp_path / "values.pt")
    run_python(ELSEWHERE, str(tmp_path / "model.pt2"), str(tmp_path / "values.pt"))


def test_random_masks_are_drawn_at_each_run_of_a_program():
    layer = us.LSTM(3, 4, recurrent_dropout=0.5, batch_first=True, return_state=False)
    program = torch.export.export(layer, (batch()[0],)).module()
    x = torch.randn(4, 6, 3)
    assert not torch.equal(program(x), program(x))


def test_lengths_outside_of_their_range_count_as_the_nearest_one_inside():
    model, program = looped("GRU, the last output")
    x = torch.randn(4, 7, 3)
    with torch.no_grad():
        received = program.module()(x, torch.tensor([12, -3, 7, 2]))
        assert_equal(received, model(x, torch.tensor([7, 0, 7, 2])))


class CountingCell(us.Cell):
    """Has integers in its state."""

    def __init__(self) -> None:
        super().__init__((3, 1))
        self.project = nn.Linear(3, 3)

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> tuple[Tensor, Tensor]:
        return torch.zeros(batch_size, 3, device=device), torch.zeros(batch_size, dtype=torch.long, device=device)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = torch.tanh(self.project(x) + state[0])
        return h, (h, state[1] + 1)


def test_integers_in_a_state():
    model = Flat(us.RNN(CountingCell(), batch_first=True))
    x, lengths = batch(5, 7)
    with torch.no_grad():
        assert_equal(exported(model).module()(x, lengths), model(x, lengths))


class Holder(us.Cell):
    """Holds a tensor that PyTorch does not know of."""

    def __init__(self) -> None:
        super().__init__(3)
        self.rate = torch.tensor(0.5)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.rate * state


class Feedback(nn.Module):
    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return us.raw_rnn(us.GRUCell(3, 4), lambda *_: (lengths > 0, x[:, 0], None, None, None))


def ragged(x: Tensor) -> us.RaggedBatch:
    return us.RaggedBatch(x.flatten(0, 1), torch.full((len(x),), x.shape[1]), None, torch.arange(len(x)))


GRU = us.GRU(3, 4, batch_first=True)

REFUSED: dict[str, tuple[type[Exception], Callable[[Tensor], Any], tuple[str, ...]]] = {
    "a packed sequence": (
        TypeError,
        lambda x: torch.export.export(GRU, (pack_padded_sequence(x, [6] * 4, batch_first=True),)),
        ("PackedSequence", "expected padded inputs and lengths"),
    ),
    "a ragged batch": (
        TypeError,
        lambda x: torch.export.export(GRU, (ragged(x),)),
        ("RaggedBatch", "expected padded inputs and lengths"),
    ),
    "raw_rnn": (
        RuntimeError,
        lambda x: torch.export.export(Feedback(), (x, torch.ones(4))),
        ("raw_rnn was reached by torch.export", "Expected dynamic_rnn"),
    ),
    "an unrolled layer with a dynamic axis of time": (
        ValueError,
        lambda x: exported(Flat(us.GRU(3, 4, batch_first=True, unroll=True))),
        ("is unrolled", "expected a static one", "unroll=False"),
    ),
    "more steps than a plan has": (
        ValueError,
        lambda x: torch.export.export(us.GRU(3, 4, batch_first=True, unroll=True, num_steps=5), (x,)),
        ("unrolled for 5 steps and received 6",),
    ),
    "no steps": (
        ValueError,
        lambda x: torch.export.export(GRU, (x[:, :0],)),
        ("no steps (T = 0)", "expected at least one"),
    ),
    "a tensor of nobody": (
        ValueError,
        lambda x: torch.export.export(us.RNN(Holder()), (x,)),
        ("Holder holds the tensor rate", "register_buffer('rate', ...)"),
    ),
    "lengths that are no integers": (
        TypeError,
        lambda x: torch.export.export(Flat(GRU), (x, torch.ones(4))),
        ("lengths has dtype torch.float32", "expected integers of shape [4]"),
    ),
    "torch.jit.trace with lengths": (
        RuntimeError,
        lambda x: torch.jit.trace(Flat(GRU), (x, torch.tensor([6, 1, 0, 4]))),
        ("met by torch.jit.trace", "expected torch.export.export", "dynamo=True"),
    ),
    "torch.onnx.export by tracing": (
        RuntimeError,
        lambda x: torch.onnx.export(Flat(GRU), (x, torch.tensor([6, 1, 0, 4])), "never_written.onnx", dynamo=False),
        ("met by torch.jit.trace", "dynamo=True"),
    ),
    "torch.jit.script": (
        RuntimeError,
        lambda x: torch.jit.script(nn.Sequential(GRU)),
        ("torch.jit.script was called on GRU", "expected torch.export.export"),
    ),
    "torch.jit.script of an accelerated module": (
        RuntimeError,
        lambda x: torch.jit.script(us.accelerate(nn.GRU(3, 4))),
        ("torch.jit.script was called on AcceleratedGRU", "expected torch.export.export"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.torch.jit.(trace|trace_method|script). is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:(You are using the legacy|The feature will be removed):DeprecationWarning")
def test_what_cannot_be_exported_is_said_in_one_error(name):
    error, export, parts = REFUSED[name]
    with refused(error, *parts):
        export(torch.randn(4, 6, 3))


def test_an_unrolled_layer_stays_as_it_was():
    layer = us.GRU(3, 4, batch_first=True, unroll=True)
    torch.export.export(layer, (torch.randn(4, 6, 3),))
    assert layer.num_steps is None


def test_strict_export_is_refused():
    with pytest.raises(Unsupported, match="expected strict=False, the default"):
        torch.export.export(GRU, (torch.randn(4, 6, 3),), strict=True)
    torch._dynamo.reset()
