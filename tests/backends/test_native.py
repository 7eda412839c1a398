"""Cells that must run natively, written as a user would write them, with no registration.

The reference backend is the readable twin: every cell gives the same values and gradients on both.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import unspool as US
from tests.backends import native_cells as N
from tests.conformance import user_cells as U
from tests.conformance.cases import LENGTHS, MASKS, RESETS, CellRow, covering, random_state, tokens
from tests.conformance.oracle import (
    Problem,
    Run,
    assert_close,
    assert_identical,
    leaves_of,
    live_steps,
    measure,
    poison,
    values_of,
    with_gradient,
)
from unspool import _engine
from unspool._reason import Reason
from unspool.backends import dispatch, native
from unspool.backends._inference import Inference
from unspool.backends._probe import probe


def _stack2(i: int, h: int) -> Any:
    return US.StackedRNNCells([US.LSTMCell(i, h), N.LayerNormGRUCell(h, h + 3)])


def _stack3(i: int, h: int) -> Any:
    return US.StackedRNNCells([US.GRUCell(i, h), nn.LSTMCell(h, 2 * h + 1), N.ScalarLSTMCell(2 * h + 1, h)])


def _clipped(i: int, h: int) -> Any:
    return US.LSTMCell(i, h, proj_size=(h + 1) // 2, cell_clip=0.25, proj_clip=0.1)


def _zoneout_lstm(i: int, h: int) -> Any:
    return US.ZoneoutCell(US.LSTMCell(i, h), US.LSTMState(0.3, 0.6), variational=True)  # type: ignore[arg-type]


def _dropped(i: int, h: int) -> Any:
    return US.DropoutCell(US.LSTMCell(i, h), input=0.4, output=0.4, state=0.4)


ROWS = [
    CellRow("LSTM", US.LSTMCell),
    CellRow("LSTM, one bias", lambda i, h: US.LSTMCell(i, h, recurrent_bias=False, forget_bias=1.0)),
    CellRow("GRU", US.GRUCell),
    CellRow("GRU reset before", lambda i, h: US.GRUCell(i, h, reset_after=False)),
    CellRow("SimpleRNN", US.SimpleRNNCell),
    CellRow("SimpleRNN relu", lambda i, h: US.SimpleRNNCell(i, h, nonlinearity="relu")),
    CellRow("LSTM peephole", lambda i, h: US.LSTMCell(i, h, peephole=True)),
    CellRow("LSTM projection and clips", _clipped),
    CellRow("LSTM coupled", lambda i, h: US.LSTMCell(i, h, coupled=True)),
    CellRow("LSTM by hand", N.ManualLSTMCell),
    CellRow("LSTM layer norm", U.LayerNormLSTMCell),
    CellRow("GRU layer norm", N.LayerNormGRUCell),
    CellRow("minimal gated unit", U.MinimalGatedCell),
    CellRow("IndRNN", U.IndependentCell),
    CellRow("SRU", N.HighwayRecurrentCell),
    CellRow("residual RNN", N.ResidualRNNCell),
    CellRow("ResidualCell", lambda i, h: US.ResidualCell(US.GRUCell(h, h)), square=True),
    CellRow("HighwayCell", lambda i, h: US.HighwayCell(US.LSTMCell(h, h)), square=True),
    CellRow("LSTM zoneout", _zoneout_lstm),
    CellRow("LSTM zoneout in training", _zoneout_lstm, training=True),
    CellRow("GRU zoneout", lambda i, h: US.ZoneoutCell(US.GRUCell(i, h), 0.4)),
    CellRow(
        "GRU zoneout in training", lambda i, h: US.ZoneoutCell(US.GRUCell(i, h), 0.4, variational=True), training=True
    ),
    CellRow("LSTM dropout", lambda i, h: US.LSTMCell(i, h, dropout=0.4, recurrent_dropout=0.4), training=True),
    CellRow(
        "GRU dropout",
        lambda i, h: US.GRUCell(i, h, dropout=0.4, recurrent_dropout=0.4, reset_after=False),
        training=True,
    ),
    CellRow(
        "GRU shared dropout",
        lambda i, h: US.GRUCell(i, h, recurrent_dropout=0.4, shared_over_batch=True),
        training=True,
    ),
    CellRow("DropoutCell", _dropped, training=True),
    CellRow("sLSTM", N.ScalarLSTMCell),
    CellRow("NAS", N.NASCell),
    CellRow("two layers", _stack2),
    CellRow("three layers", _stack3),
    CellRow("torch.nn.LSTMCell", nn.LSTMCell),
    CellRow("torch.nn.LSTMCell, no bias", lambda i, h: nn.LSTMCell(i, h, bias=False)),
    CellRow("torch.nn.GRUCell", nn.GRUCell),
    CellRow("torch.nn.RNNCell", nn.RNNCell),
    CellRow("torch.nn.RNNCell relu", lambda i, h: nn.RNNCell(i, h, nonlinearity="relu")),
    CellRow("dict state", U.DictStateCell),
    CellRow("softmax", U.SoftmaxCell),
    CellRow("softmax and norm", N.AttendingCell),
    CellRow("multiplicative", U.MultiplicativeCell),
    CellRow("learned start", U.LearnedStartCell),
    CellRow("token ids", U.TokenCell, draw=tokens),
    CellRow("row inputs", U.ContextCell),
    CellRow("state only", U.StateOnlyCell),
    CellRow("no parameters", U.SumCell, nested_output=True),
    CellRow("clockwork", N.ClockworkCell),
    CellRow("in place on its own", N.InPlaceCell),
    CellRow("two outputs", N.TwoOutputsCell, nested_output=True),
    CellRow("delay line", N.ShiftCell),
    CellRow("one tensor for two states", N.RepeatedStateCell),
]

WAYS = covering(
    {
        "lengths": ["no lengths", "mixed", "all one", "some zero"],
        "mask": ["no mask", "gaps"],
        "resets": ["no resets", "resets"],
        "reverse": [False, True],
        "all_states": [False, True],
        "dtype": [torch.float64, torch.float32],
        # B, T, I, H: around the widths of vectors and blocks
        "sizes": [(5, 7, 3, 16), (1, 7, 1, 1), (17, 3, 7, 3), (5, 7, 16, 17), (3, 3, 17, 64), (5, 3, 3, 129)],
        "given_state": [True, False],
    }
)
PER_CELL = 2
"""Ways that each cell is run; the cells take turns, so that all ways are run many times."""


def ways_of(row: CellRow) -> list[dict[str, Any]]:
    """Return the ways that a cell is run."""
    first = PER_CELL * ROWS.index(row)
    return [WAYS[(first + n) % len(WAYS)] for n in range(PER_CELL)]


@cache
def cell_of(row: CellRow, hidden_size: int, dtype: torch.dtype, input_size: int) -> Any:
    """Return one cell for all runs, which is read once: for tests that do not change it."""
    return row.cell(hidden_size if row.square else input_size, hidden_size, dtype)


def run(row: CellRow, way: dict[str, Any], backend: str) -> dict[str, torch.Tensor]:
    """Run a cell on a backend; its padding is NaN."""
    batch, steps, input_size, hidden_size = way["sizes"]
    if "norm" in row.name:  # over one unit it gives zero but for rounding, which it multiplies by 1 / sqrt(eps)
        hidden_size = max(hidden_size, 2)
    dtype, sizes = way["dtype"], (batch, steps)
    cell = cell_of(row, hidden_size, dtype, input_size)
    generator = torch.Generator().manual_seed(3)
    inputs = row.draw(batch, steps, hidden_size if row.square else input_size, generator)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    lengths = LENGTHS[way["lengths"]](5, steps)
    lengths = None if lengths is None else [lengths[b % 5] for b in range(batch)]
    mask, resets = (
        None if rule is None else [[rule(b, t) for t in range(steps)] for b in range(batch)]
        for rule in (MASKS[way["mask"]], RESETS[way["resets"]])
    )
    inputs = with_gradient(poison(inputs, live_steps(*sizes, lengths, mask)))
    state = random_state(cell, batch, dtype, generator) if way["given_state"] else None
    problem = Problem(cell, inputs, state)

    def library() -> Run:
        torch.default_generator.manual_seed(5)
        return Run(
            *US.dynamic_rnn(
                cell, inputs, lengths, state, mask=mask, resets=resets, reverse=way["reverse"],
                return_all_states=way["all_states"], backend=backend,
            )
        )  # fmt: skip

    found = measure(library, problem)
    if backend == "native":  # without gradients another plan is run
        with torch.no_grad():
            values = values_of(library())
        assert_close(values, {name: found[name] for name in values}, dtype)
    return found


def check(row: CellRow, way: dict[str, Any]) -> None:
    """Compare values and gradients of a cell on the engine with those of the reference backend."""
    # A norm of a softmax multiplies what rounding leaves: with some instruction sets each of the two is as far from the
    # numbers of float64 as others are from each other.
    times = 2 if row.name == "softmax and norm" else 1
    try:
        assert_close(run(row, way, "native"), run(row, way, "reference"), way["dtype"], times)
    except Exception as error:
        error.add_note(f"{row}, {way}, {_engine.active_isa()}")
        raise


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_native_is_chosen_and_says_so(row):
    way = ways_of(row)[0]
    (_, _, input_size, hidden_size), dtype = way["sizes"], way["dtype"]
    cell = cell_of(row, hidden_size, dtype, input_size)
    x = row.draw(2, 5, hidden_size if row.square else input_size, torch.Generator().manual_seed(0))
    x = x.to(dtype) if x.is_floating_point() else x
    answer = US.explain(cell, x, lengths=[5, 2])
    assert [decision.chosen for decision in answer.decisions] == ["native"], str(answer)
    assert "runs on native" in str(answer)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_values_and_gradients_equal_the_reference(row):
    for way in ways_of(row):
        check(row, way)


@pytest.mark.parametrize("row", [row for row in ROWS if row.training], ids=str)
def test_the_masks_are_those_of_the_reference(row):
    """With one seed; and another seed gives others, so the masks are no constants of the program."""
    cell = row.cell(6, 6, torch.float64)
    x = torch.ones(3, 4, 6, dtype=torch.float64)

    def outputs(seed: int, backend: str) -> torch.Tensor:
        torch.default_generator.manual_seed(seed)
        return US.dynamic_rnn(cell, x, backend=backend)[0].detach()

    for seed in (1, 2):
        torch.testing.assert_close(outputs(seed, "native"), outputs(seed, "reference"), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(outputs(1, "native"), outputs(2, "native"))


def test_masks_leave_the_same_random_state_behind():
    cell = US.LSTMCell(3, 4, dropout=0.5, recurrent_dropout=0.5).train()
    after = []
    for backend in ("native", "reference"):
        torch.default_generator.manual_seed(0)
        US.dynamic_rnn(cell, torch.ones(2, 3, 3), backend=backend)
        after.append(torch.rand(1))
    assert torch.equal(*after)


class Masked(US.Cell):
    """A cell with a buffer of booleans and one of integers."""

    mask: torch.Tensor
    times: torch.Tensor

    def __init__(self) -> None:
        super().__init__(state_size=4)
        self.linear = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tensor([True, False, True, False]))
        self.register_buffer("times", torch.tensor([1, 2, 3, 4]))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.where(self.mask, torch.tanh(self.linear(h) + x * self.times), h * self.mask + x)
        return h, h


def test_buffers_that_are_no_floating_point_numbers_are_read():
    cell, x = Masked(), torch.randn(3, 5, 4)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            for _ in range(2):
                found, want = (US.dynamic_rnn(cell, x, backend=backend) for backend in ("native", "reference"))
                for mine, right in zip(found, want, strict=True):
                    torch.testing.assert_close(mine, right, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("row", [ROWS[0], ROWS[10], ROWS[24], ROWS[27]], ids=str)
def test_nothing_to_compute(row, sizes):
    cell = row.cell(3, 4, torch.float64)
    results = []
    for backend in ("native", "reference"):
        x = torch.zeros(*sizes, 3, dtype=torch.float64, requires_grad=True)
        problem = Problem(cell, x, None)

        def library(x=x, backend=backend) -> Run:
            return Run(*US.dynamic_rnn(cell, x, return_all_states=True, backend=backend))

        results.append(measure(library, problem))
    assert_identical(*results)


@pytest.mark.parametrize("row", [ROWS[0], ROWS[2], ROWS[10], ROWS[33]], ids=str)
def test_a_long_ragged_batch_in_evaluation(row):
    """Without gradients the plan saves nothing: the values must be the same."""
    cell = row.cell(5, 17, torch.float32)
    x = torch.randn(33, 40, 5)
    lengths = [(7 * b) % 41 for b in range(33)]
    with torch.no_grad():
        y, s = US.dynamic_rnn(cell, x, lengths, backend="native")
        want_y, want_s = US.dynamic_rnn(cell, x, lengths, backend="reference")
    torch.testing.assert_close(y, want_y, rtol=0, atol=2e-5)
    torch.testing.assert_close(s, want_s, rtol=0, atol=2e-5)
    trained, _ = US.dynamic_rnn(cell, x, lengths, backend="native")
    torch.testing.assert_close(trained.detach(), y, rtol=0, atol=2e-6)


@pytest.mark.parametrize("row", [ROWS[0], ROWS[3], ROWS[26]], ids=str)
def test_only_what_asks_for_a_gradient_gets_one(row):
    """Every choice of inputs, states and parameters that ask is a backward plan of its own."""
    cell = row.cell(3, 5, torch.float64)
    names = [name for name, _ in cell.named_parameters()]
    frozen = ([], names, names[:1], names[1:])
    for without in frozen:
        for ask_x, ask_s in ((True, False), (False, True), (False, False)):
            cell.requires_grad_(True)
            for name, p in cell.named_parameters():
                p.requires_grad_(name not in without)
            generator = torch.Generator().manual_seed(1)
            x = torch.randn(4, 3, 3, dtype=torch.float64, generator=generator).requires_grad_(ask_x)
            state = random_state(cell, 4, torch.float64, generator)
            for leaf in leaves_of(state):
                leaf.requires_grad_(ask_s)
            problem, found = Problem(cell, x, state), []
            for backend in ("native", "reference"):

                def library(x=x, state=state, backend=backend) -> Run:
                    return Run(*US.dynamic_rnn(cell, x, [3, 1, 0, 2], state, backend=backend))

                found.append(measure(library, problem))
            assert_close(found[0], found[1], torch.float64)


def test_one_part_of_the_results_is_used():
    """The gradients of what nobody used do not exist."""
    cell = US.LSTMCell(3, 5).double()
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    for pick in (lambda y, s: y[:, 2], lambda y, s: s.c, lambda y, s: s.h, lambda y, s: y[1] + s.c[1]):
        found = []
        for backend in ("native", "reference"):
            y, s = US.dynamic_rnn(cell, x, [6, 2, 0, 3], backend=backend)
            found.append(torch.autograd.grad(pick(y, s).square().sum(), list(cell.parameters())))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_inputs_that_do_not_lie_in_one_piece():
    cell = U.LayerNormLSTMCell(4, 5).double()
    whole = torch.randn(6, 4, 9, 2, dtype=torch.float64)
    for x in (whole[:, :, ::2, 0].transpose(1, 2)[..., :4], whole[0, 0, 0, 0].expand(3, 5, 4), whole[:, :, :4, 1]):
        state = US.LSTMState(x[:, 0, :1].expand(-1, 5), torch.ones(1, dtype=torch.float64).expand(x.shape[0], 5))
        got = US.dynamic_rnn(cell, x, None, state, backend="native")
        want = US.dynamic_rnn(cell, x, None, state, backend="reference")
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("lengths", [None, [5, 0, 2]], ids=["dense", "ragged"])
def test_tensors_with_a_lazy_minus_sign(lengths):
    """The imaginary part of a conjugate is a view whose memory has the other sign."""
    generator = torch.Generator().manual_seed(4)

    def lazily(*shape: int) -> torch.Tensor:
        view = torch.randn(*shape, generator=generator, dtype=torch.complex128).conj().imag
        assert view.is_neg()
        return view

    x, state, upstream = lazily(3, 5, 3), lazily(3, 4), (lazily(3, 5, 4), lazily(3, 4))
    cell = US.GRUCell(3, 4).double()
    weight = lazily(12, 4)
    del cell.weight_hh
    cell.register_buffer("weight_hh", weight)

    def results(backend: str) -> Any:
        start = state.requires_grad_()
        got = US.dynamic_rnn(cell, x, lengths, start, backend=backend)
        return *got, *torch.autograd.grad(got, [start, *cell.parameters()], upstream)

    torch.testing.assert_close(results("native"), results("reference"), rtol=0, atol=1e-10)


def test_the_backward_pass_may_be_repeated():
    cell = US.GRUCell(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    y, _ = US.dynamic_rnn(cell, x, [5, 3], backend="native")
    first = torch.autograd.grad(y.sum(), list(cell.parameters()), retain_graph=True)
    second = torch.autograd.grad(y.sum(), list(cell.parameters()))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_changing_the_results_in_place_is_noticed_or_harmless():
    """What is saved for the backward pass may be the very output that the user gets."""
    cell = US.SimpleRNNCell(3, 4).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)

    def gradients(backend: str) -> Any:
        y, _ = US.dynamic_rnn(cell, x, backend=backend)
        loss = y.sum()
        y.mul_(2.0)
        try:
            return torch.autograd.grad(loss, list(cell.parameters()))
        except RuntimeError as error:
            noticed.append(str(error))
            return None

    noticed: list[str] = []
    got, want = gradients("native"), gradients("reference")
    if got is not None and want is not None:
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert all("modified by an inplace operation" in text for text in noticed)


def test_the_initial_state_and_the_inputs_are_not_written_to():
    cell = US.LSTMCell(3, 4)
    x, state = torch.randn(2, 5, 3), US.LSTMState(torch.randn(2, 4), torch.randn(2, 4))
    before = [t.clone() for t in (x, *state)]
    US.dynamic_rnn(cell, x, [5, 0], state, resets=[[False, True] * 2 + [False]] * 2, backend="native")
    assert all(torch.equal(a, b) for a, b in zip((x, *state), before, strict=True))


class TiedCell(US.Cell):
    """Two layers with one weight, one of them under a parametrisation."""

    def __init__(self) -> None:
        super().__init__(state_size=4)
        self.first = parametrizations.weight_norm(nn.Linear(4, 4))
        self.second = nn.Linear(4, 4)
        self.second.register_parameter("bias", self.first.get_parameter("bias"))

    def forward(self, x, h):
        h = torch.tanh(self.first(x) + self.second(h))
        return h, h


def test_hooks_on_parameters_do_not_see_the_check_of_a_new_program():
    cell, seen = TiedCell(), []
    for name, parameter in cell.named_parameters():
        parameter.register_hook(lambda grad, name=name: seen.append(name))
    y, _ = US.dynamic_rnn(cell, torch.randn(2, 5, 4), backend="native")
    assert seen == []
    y.sum().backward()
    assert sorted(seen) == sorted(name for name, _ in cell.named_parameters())


class AliasCell(US.Cell):
    """Holds its parameters and a method under other names too, and is made with an argument that `__new__` takes."""

    def __new__(cls, tag):
        return super().__new__(cls)

    def __init__(self, tag: str) -> None:
        super().__init__(state_size=4)
        self.first, self.second = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 4))
        self.weights = [self.first, self.second]
        self.function = self.inner

    def inner(self, x, h):
        return torch.tanh(x @ self.weights[0] + h @ self.weights[1])

    def forward(self, x, h):
        h = self.function(x, h)
        return h, h


def who_runs(cell: Any, x: torch.Tensor) -> set[str]:
    return {decision.chosen for decision in US.explain(cell, x).decisions}


def test_parameters_and_methods_under_other_names():
    assert who_runs(AliasCell("a"), torch.randn(2, 5, 3)) == {"native"}


@pytest.mark.parametrize("built_inside", [True, False])
def test_a_first_call_in_inference_mode_decides_nothing_for_later(built_inside):
    with torch.inference_mode(built_inside):
        cell = US.GRUCell(3, 4)
    x = torch.randn(2, 5, 3)
    with torch.inference_mode():
        assert who_runs(cell, x) == {"native"}
    with torch.no_grad():  # PyTorch lets nobody differentiate what was made in inference mode
        assert who_runs(cell, x) == {"native"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_default_device_is_no_reason(device):
    cell, x = US.GRUCell(3, 4), torch.randn(2, 5, 3, requires_grad=True)
    expected, _ = US.dynamic_rnn(cell, x, [5, 2], backend="reference")
    with torch.device(device):
        assert who_runs(cell, x) == {"native"}
        found, _ = US.dynamic_rnn(cell, x, [5, 2])
        (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


def test_no_thread_sees_a_program_that_has_not_been_checked(monkeypatch):
    cell, backend, seen = US.GRUCell(3, 4), native.NativeBackend(), []

    def watched(own: Any, *arguments: Any) -> str:
        seen.append(own.kept.latest(cell))
        return probe(own, *arguments)

    monkeypatch.setattr(native, "probe", watched)
    monkeypatch.setattr(dispatch, "BACKENDS", (backend,))
    assert who_runs(cell, torch.randn(2, 5, 3)) == {"native"}
    assert seen == [None]
    assert backend.kept.latest(cell) is not None


class Both(US.Cell):
    """Its parameter is the weight of a product, and a vector."""

    def __init__(self) -> None:
        super().__init__(state_size=9)
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x, h):
        matrix = torch.tanh(h.view(-1, 3, 3) * self.weight + nn.functional.linear(x, self.weight).unsqueeze(1))
        return matrix.sum(-1), matrix.flatten(1)


def test_a_parameter_may_be_a_weight_and_a_vector():
    cell, x = Both(), torch.randn(4, 6, 3)
    found = []
    for backend in ("native", "reference"):
        y, h = US.dynamic_rnn(cell, x, [6, 2, 0, 5], backend=backend)
        found.append((y, h, torch.autograd.grad(y.square().sum() + h.sum(), cell.weight)[0]))
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


class Remembering(US.Cell):
    """Keeps its last input, which no step reads."""

    def __init__(self) -> None:
        super().__init__(state_size=(3, 3))

    def forward(self, x, state):
        h = torch.tanh(x + state[0])
        return h, (h, 2 * x)


def test_a_state_that_no_step_reads_has_the_gradient_of_the_last_step():
    found = []
    for backend in ("native", "reference"):
        x, start = torch.ones(4, 6, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
        _, (h, last) = US.dynamic_rnn(Remembering(), x, [6, 2, 0, 5], (start, start), backend=backend)
        found.append(torch.autograd.grad(h.sum() + last.square().sum(), [x, start]))
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted)


def _named() -> Any:
    class Out(NamedTuple):
        value: torch.Tensor

    class Naming(US.Cell):
        def forward(self, x, h):
            h = torch.tanh(x + h)
            return Out(h), h

    return Naming(state_size=3), Out


def test_cells_that_call_the_same_keep_their_own_outputs():
    """Two classes may have one name."""
    for _ in range(2):
        cell, out = _named()
        y, _ = US.dynamic_rnn(cell, torch.randn(2, 4, 3), backend="native")
        assert type(y) is out


def test_a_cell_that_calls_what_another_has_called_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[object] = []

    def counting(*args: Any) -> str:
        probed.append(args)
        return probe(*args)

    (backend,) = (b for b in dispatch.BACKENDS if isinstance(b, native.NativeBackend))
    monkeypatch.setattr(native, "probe", counting)
    monkeypatch.setattr(backend, "_checked", OrderedDict())
    x = torch.randn(3, 7, 2)
    for cell, checks in ((US.GRUCell(2, 5), 1), (US.GRUCell(2, 5), 1), (US.GRUCell(2, 5, reset_after=False), 2)):
        got, _ = US.dynamic_rnn(cell, x, [7, 2, 0], backend="native")
        want, _ = US.dynamic_rnn(cell, x, [7, 2, 0], backend="reference")
        torch.testing.assert_close(got, want)
        assert len(probed) == checks


class Weighing(US.Cell):
    """A cell that weighs its features; what is added to all of them before the softmax has no gradient."""

    def __init__(self) -> None:
        super().__init__(8)
        self.look, self.score, self.new = nn.Linear(3 + 8, 8), nn.Linear(1, 1), nn.Linear(3 + 8, 8)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.cat([x, h], 1)
        weights = self.score(torch.tanh(self.look(both)).unsqueeze(2)).softmax(1).squeeze(2)
        h = torch.tanh(self.new(both)) * weights
        return h, h


@pytest.mark.parametrize("seed", range(12))
def test_a_gradient_that_is_rounding_alone_is_no_difference(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    assert who_runs(Weighing(), torch.randn(4, 5, 3)) == {"native"}


class Asking(US.Cell):
    """A cell that asks how its input lies in memory, or how many rows there are."""

    def __init__(self, question: Callable[[torch.Tensor], bool]) -> None:
        super().__init__(4)
        self.linear, self.question = nn.Linear(3 + 4, 4), question

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.tanh(self.linear(torch.cat([x, h], 1)))
        h = 2 * h if self.question(x) else h
        return h, h


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (lambda x: len(x) == 1, "in a batch of 1 than in a batch of 64"),
        (lambda x: x.shape[0] > 2, "in a batch of 1 than in a batch of 64"),
        (lambda x: x.size(0) == 3, "in a batch of 3 than in a batch of 64"),
        (lambda x: not x.is_contiguous(), "where rows lie apart in memory"),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_what_a_step_makes_of_a_row_must_not_depend_on_the_batch(question, reason, known):
    x = torch.randn(4, 5, 3)
    if known:  # a cell that calls the same in a batch of many rows side by side has been checked before
        assert who_runs(Asking(lambda x: question(torch.zeros(64, 3))), x) == {"native"}
    (decision,) = US.explain(Asking(question), x).decisions
    assert decision.chosen == "reference"
    assert decision.reasons["native"][0].endswith(reason)


@pytest.mark.parametrize("first", [90, 128])
@pytest.mark.parametrize("question", [lambda x: len(x) > 100, lambda x: len(x) == 128])
def test_every_size_of_batch_is_tried_before_its_first_run(question, first):
    cells = [Asking(question), Asking(question)]
    cells[1].load_state_dict(cells[0].state_dict())
    for cell in cells:  # the second takes the program of the first one, but not what was found of it
        for batch in (first, 90, 128, 91):
            (decision,) = US.explain(cell, torch.randn(batch, 2, 3)).decisions
            assert decision.chosen == ("reference" if batch == 128 else "native")
            assert batch != 128 or "in a batch of 128" in decision.reasons["native"][0]


class Detaching(Asking):
    """A cell with no gradient where its input is of some kind."""

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.tanh(self.linear(torch.cat([x, h], 1)))
        return (h.detach(), h) if self.question(x) else (h, h)


@pytest.mark.parametrize("first", [2, 5])
def test_a_size_of_batch_where_gradients_alone_differ_is_left_to_the_loop(first):
    cell = Detaching(lambda x: len(x) == 2)
    for batch in (first, 2, 3):
        assert who_runs(cell, torch.randn(batch, 2, 3)) == ({"reference"} if batch == 2 else {"native"})


def test_a_step_that_raises_in_large_batches_raises_there():
    def few(x: torch.Tensor) -> bool:
        if len(x) > 100:
            raise ValueError("too many rows")
        return False

    cell = Asking(few)
    assert who_runs(cell, torch.randn(90, 2, 3)) == {"native"}
    with pytest.raises(ValueError, match="too many rows"):
        US.dynamic_rnn(cell, torch.randn(128, 2, 3))


def test_trying_a_size_of_batch_leaves_no_trace():
    seen = []

    def ask(x: torch.Tensor) -> bool:
        seen.append(len(x)) if len(x) > 100 else None
        return False

    cell = Asking(ask)
    with torch.no_grad():
        US.dynamic_rnn(cell, torch.randn(90, 2, 3))
        US.dynamic_rnn(cell, torch.randn(128, 2, 3))
    assert seen == [128] * 2  # one for each step, and none for the question


def test_the_plan_without_gradients_is_checked_too(monkeypatch):
    run = Inference.run
    monkeypatch.setattr(Inference, "run", lambda *given: [1.1 * output for output in run(*given)])
    with pytest.raises(US.BackendError, match="differs from it: outputs"):
        US.dynamic_rnn(N.LayerNormGRUCell(3, 5), torch.randn(2, 4, 3), backend="native")


def test_a_program_that_differs_from_its_cell_is_not_used(monkeypatch):
    monkeypatch.setattr(native, "probe", lambda *_: Reason("it differs from the cell"))
    monkeypatch.setattr(native.NativeBackend, "_known", lambda *_: None)  # what was checked before
    (decision,) = US.explain(Asking(lambda x: False), torch.randn(4, 2, 3)).decisions
    assert decision.chosen == "reference"
    assert decision.reasons["native"] == ["it differs from the cell"]
