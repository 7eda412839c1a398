"""What the native backend refuses, with which words; and what must not confuse it once it has read a cell.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import inspect
import multiprocessing
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations
from torch.testing._internal.two_tensor import TwoTensor

import unspool as US
from tests.backends import native_cells as N
from tests.backends.processes import run_python
from tests.conformance.oracle import leaves_of
from tests.program.steps import StepCell
from unspool import BackendError, Cell, dynamic_rnn, explain

X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(2))
LENGTHS = [5, 2, 0, 3]


class _Base(Cell):
    def __init__(self, input_size: int = 3, hidden_size: int = 4) -> None:
        super().__init__(hidden_size)
        self.hidden_size = hidden_size
        self.product_x = nn.Linear(input_size, hidden_size)
        self.product_h = nn.Linear(hidden_size, hidden_size)

    def sum(self, x: Tensor, h: Tensor) -> Tensor:
        return self.product_x(x) + self.product_h(h)


class BranchCell(_Base):
    def forward(self, x, h):
        y = self.sum(x, h)
        if y.sum() > 0:
            y = y * 0.5
        return y.tanh(), y.tanh()


class ItemCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h) + h.mean().item())
        return y, y


class BatchNormCell(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x, h):
        y = torch.tanh(self.norm(self.sum(x, h)))
        return y, y


class TrackingBatchNormCell(BatchNormCell):
    """Also writes its running statistics into buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)


class RandomCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h))
        y = y + 0.01 * torch.randn_like(y)
        return y, y


class StepDropoutCell(_Base):
    def forward(self, x, h):
        y = F.dropout(torch.tanh(self.sum(x, h)), 0.5, self.training)
        return y, y


class BufferCell(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.seen: Tensor

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h))
        self.seen.add_(1.0)
        return y, y


class CountingBufferCell(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, x, h):
        self.calls += 1
        y = torch.tanh(self.sum(x, h))
        return y, y


class SortCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h.sort(1).values))
        return y, y


class FlippedRowsCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h))
        y = y + y.flip(0)
        return y, y


class StateWriteCell(_Base):
    """Writes into the state that it was given."""

    def forward(self, x, h):
        h.mul_(0.5)
        y = torch.tanh(self.sum(x, h))
        return y, y


class ElementWriteCell(_Base):
    """Writes into a part of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.seen: Tensor

    def forward(self, x, h):
        self.seen[0] = 1.0
        y = torch.tanh(self.sum(x, h))
        return y, y


class FillCell(_Base):
    """Writes into a tensor of its own, at places that stand in a tensor."""

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h))
        y.index_fill_(1, torch.tensor([1]), 0.5)
        return y, y


class ArgmaxCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h) + h.argmax(1, keepdim=True))
        return y, y


class ConvolutionCell(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, self.convolution(h.unsqueeze(1)).squeeze(1)))
        return y, y


class ErfinvCell(_Base):
    def forward(self, x, h):
        y = torch.erfinv(0.9 * torch.tanh(self.sum(x, h)))
        return y, y


class GatherCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h[:, torch.tensor([3, 1, 2, 0])]))
        return y, y


class RowsMixCell(_Base):
    """Rows of the batch see each other."""

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h))
        y = y - y.mean(0, keepdim=True)
        return y, y


class BatchCatCell(_Base):
    """Joins along the batch and cuts there again."""

    def forward(self, x, h):
        y = torch.cat([self.product_x(x), self.product_h(h)])
        y = torch.tanh(y[: x.shape[0]])
        return y, y


REFUSED = [
    (BranchCell, "sum", "if y.sum() > 0"),
    (ItemCell, "mean", "h.mean()"),
    (BatchNormCell, "batch_norm", "self.norm("),
    (RandomCell, "randn_like", "randn_like"),
    (StepDropoutCell, "dropout", "F.dropout"),
    (BufferCell, "add_", "self.seen.add_"),
    (ElementWriteCell, "__setitem__", "self.seen[0]"),
    (SortCell, "sort", "h.sort"),
    (FlippedRowsCell, "flip", "y.flip(0)"),
    (FillCell, "index_fill_", "y.index_fill_"),
    (ArgmaxCell, "argmax", "h.argmax"),
    (ConvolutionCell, "conv1d", "self.convolution(h"),
    (ErfinvCell, "erfinv", "torch.erfinv"),
    (GatherCell, "__getitem__", "h[:, torch"),
    (RowsMixCell, "mean", "y.mean(0"),
]
ALL_REFUSED = [entry[0] for entry in REFUSED] + [CountingBufferCell, TrackingBatchNormCell, BatchCatCell]


def line_of(cell: type, text: str) -> int:
    lines, start = inspect.getsourcelines(cell)
    return start + next(n for n, line in enumerate(lines) if text in line)


def native_reasons(cell: Any, *args: Any, **kwargs: Any) -> list[str]:
    answer = explain(cell, *args, **kwargs)
    (decision,) = answer.decisions
    assert decision.chosen == ("reference" if decision.reasons["native"] else "native")
    return decision.reasons["native"]


@pytest.mark.parametrize("cell", ALL_REFUSED)
def test_the_reason_says_where_native_by_name_raises_and_auto_runs_on_the_reference(cell):
    torch.manual_seed(0)
    made = cell()
    (reason,) = native_reasons(made, X)
    for _, operation, text in (entry for entry in REFUSED if entry[0] is cell):
        assert operation in reason
        # The line of a module inside (nn.BatchNorm1d) is that of its call.
        assert f"{Path(__file__).name}:{line_of(cell, text)}" in reason
    with pytest.raises(BackendError) as caught:
        dynamic_rnn(made, X, backend="native")
    assert f"native: {reason}" in str(caught.value)
    state = {k: v.clone() for k, v in made.state_dict().items()}
    results = []
    for backend in ("auto", "reference"):
        made.load_state_dict(state)
        torch.manual_seed(1)
        results.append(dynamic_rnn(made, X, backend=backend))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("cell", [BufferCell, ElementWriteCell, CountingBufferCell, TrackingBatchNormCell, RandomCell])
def test_asking_for_reasons_leaves_no_trace(cell):
    """Neither buffers nor the random state move when a cell is only read."""
    made = cell()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    torch.manual_seed(4)
    random = torch.get_rng_state()
    with pytest.raises(BackendError):
        dynamic_rnn(made, X, backend="native")
    assert all(torch.equal(v, before[k]) for k, v in made.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_write_into_the_state_is_an_error_that_says_so():
    with pytest.raises((BackendError, ValueError, RuntimeError), match="state"):
        dynamic_rnn(StateWriteCell(), X)


def test_gradients_of_refused_cells_flow_on_the_reference():
    made = SortCell()
    y, _ = dynamic_rnn(made, X, LENGTHS)
    y.sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in made.parameters())


def same(cell: Any, *args: Any, **kwargs: Any) -> None:
    """Assert that both backends agree, and that auto runs."""
    got, want = (dynamic_rnn(cell, *args, backend=b, **kwargs) for b in ("auto", "reference"))
    for a, b in zip(leaves_of(got), leaves_of(want), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


# ------------------------------------------------------------------------------------------- awkward, but correct


class RepeatingCell(_Base):
    """The number of rows of the trace stands among the user's own numbers."""

    def __init__(self) -> None:
        super().__init__(3 * 5, 4)

    def forward(self, x, h):
        y = torch.tanh(self.sum(x.repeat(1, 5), h))
        return y, y


class PaddingCell(_Base):
    def __init__(self) -> None:
        super().__init__(3 + 5, 4)

    def forward(self, x, h):
        y = torch.tanh(self.sum(F.pad(x, (0, 5)), h))
        return y, y


class OneHotCell(_Base):
    def __init__(self) -> None:
        super().__init__(6, 4)

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, 4, dtype=dtype if dtype and dtype.is_floating_point else None, device=device)

    def forward(self, x, h):
        y = torch.tanh(self.sum(F.one_hot(x, 6).to(h.dtype), h))
        return y, y


class OneHotFloatCell(OneHotCell):
    def forward(self, x, h):
        y = torch.tanh(self.sum(F.one_hot(x, 6).float(), h)) * (x == 2).float().unsqueeze(1)
        return y, y


class PowerCell(_Base):
    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.linspace(1.0, 2.0, 4))

    def forward(self, x, h):
        y = torch.sigmoid(self.sum(x, h)) ** self.exponent
        return y, y


class BatchSizeCell(_Base):
    """The number of rows is a number of the step."""

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h) / x.shape[0])
        return y, y


class DoubleCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h).double()).float()
        return y, y


class DetachCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h.detach()))
        return y, y


class DataCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h.data))
        return y, y


class NoGradCell(_Base):
    def forward(self, x, h):
        with torch.no_grad():
            decay = torch.sigmoid(self.product_h(h))
        y = torch.tanh(self.sum(x, decay * h))
        return y, y


class ViewWriteCell(_Base):
    """Writes into a part of what it has made."""

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h)) * 0.5
        y[:, 0] = 0.5
        y[:, 1:3] += 2.0
        return y, y


class SliceWriteCell(_Base):
    def forward(self, x, h):
        y = self.sum(x, h)
        y[:, :2].add_(1.0)
        y.narrow(1, 2, 2).mul_(0.5)
        y = torch.tanh(y)
        return y, y


class NumpyCell(_Base):
    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h) + torch.from_numpy(h.detach().numpy() * 0.5))
        return y, y


class OuterCell(_Base):
    """A state with two feature axes, and broadcasting between them."""

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, 4, 4, dtype=dtype, device=device)

    def forward(self, x, h):
        key = torch.tanh(self.product_x(x))
        h = 0.9 * h + key.unsqueeze(2) * key.unsqueeze(1)
        return h.sum(2) + h.sum(1), h


class ScalarStateCell(_Base):
    """A state of one number per row, without a feature axis, beside features."""

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, 4, dtype=dtype, device=device), torch.zeros(batch_size, dtype=dtype)

    def forward(self, x, state):
        h, n = state
        h = torch.tanh(self.sum(x, h) + n.unsqueeze(1))
        n = 0.5 * n + h.mean(1)
        return h * n[:, None], (h, n)


class WrongBroadcastCell(_Base):
    """A vector of as many entries as there are features meets rows."""

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h) * torch.arange(4.0))
        return y + y.amax(1, keepdim=True) - y.max(dim=1, keepdim=True).values, y


AWKWARD = [
    RepeatingCell, PaddingCell, PowerCell, BatchSizeCell, DoubleCell, DetachCell, DataCell, NoGradCell, ViewWriteCell,
    SliceWriteCell, NumpyCell, OuterCell, ScalarStateCell, WrongBroadcastCell, RowsMixCell, BatchCatCell,
]  # fmt: skip


@pytest.mark.parametrize("cell", AWKWARD)
def test_awkward_cells_give_the_numbers_of_the_reference(cell):
    """Natively or not, as the backend decides; but the same numbers, values and gradients."""
    torch.manual_seed(0)
    made = cell()
    found = []
    for backend in ("auto", "reference"):
        for p in made.parameters():
            p.grad = None
        x = X.clone().requires_grad_()
        y, _ = dynamic_rnn(made, x, [5, 2, 1, 3], backend=backend)
        y.square().sum().backward()
        found.append(
            [y.detach(), x.grad, *(torch.zeros_like(p) if p.grad is None else p.grad for p in made.parameters())]
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5 * max(1.0, float(b.abs().max())))


EVERYDAY = """
h[:, :1].expand_as(x); h[:, :1].expand(-1, 6); torch.cat([h[:, :1].expand(-1, 3), x[:, :3]], 1)
h[:, :1].expand(-1, 6).sum(1, keepdim=True) + h; h[:, :1].expand(-1, 6).view(-1, 2, 3).sum(2)
h[:, :1].expand(-1, 6) @ m.w
m.v + (torch.tanh(h @ m.w) + 0.1); (torch.tanh(h @ m.w) + 0.1) + torch.zeros_like(h); torch.tanh(h) + 1 - 1 + m.v + 2
1.0 + m.v + torch.tanh(h) + m.one + 2; m.v.expand(h.shape[0], -1) + h; m.v.unsqueeze(0) + h; m.v[None] * h
m.v.repeat(h.shape[0], 1) * h; m.one.expand(h.shape[0], 2).sum(1, keepdim=True) + h
torch.cat([m.v.expand(h.shape[0], -1), h], 1); torch.cat([m.v.expand(x.shape[0], -1), x], 1) @ m.w2 + h
m.v.expand(h.shape[0], -1); torch.mm(h, m.w); torch.hstack([h[:, :2], x[:, 2:]]); torch.pow(h.abs() + 1, x)
h.sum(1); h.mean(1, keepdim=True); torch.ones_like(h); torch.zeros(h.shape[0], 3, dtype=h.dtype); x; h; h[:, 0]
m.v + 0 * h
h > 0; (h > 0).to(h.dtype); x > 0; h.argmax(1); x.argmax(1); (x, h); (h, h); (x[:, :2], h.sum(1)); h.detach() + h
x.detach() * h
"""


@pytest.mark.parametrize("text", [part.strip() for line in EVERYDAY.strip().splitlines() for part in line.split(";")])
def test_everyday_expressions(text):
    """As an output: natively or not, but the same values, shapes, dtypes and gradients."""
    output = eval(f"lambda x, h, m: {text}", {"torch": torch, "F": F})

    class Everyday(StepCell):
        def forward(self, x, h):
            return self.function(x, h, self), torch.tanh(h @ self.w + x)

    cell = Everyday(output)
    found = []
    for backend in ("auto", "reference"):
        x = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        result = dynamic_rnn(cell, x, [4, 2, 1], backend=backend)
        total = torch.stack([leaf.square().sum() for leaf in leaves_of(result) if leaf.is_floating_point()]).sum()
        sources = [x, *cell.parameters()]
        found.append(
            [*leaves_of(result), *torch.autograd.grad(total, sources, materialize_grads=True, allow_unused=True)]
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("cell", [OneHotCell, OneHotFloatCell])
def test_token_ids_made_floats_inside_of_the_step(cell):
    same(cell(), torch.randint(6, (4, 5)), [5, 2, 1, 3])


@pytest.mark.parametrize("name", ["weight_norm", "orthogonal"])
def test_parametrized_weights(name):
    """The weight is computed inside of the step, from parameters alone."""
    made = _Simple()
    getattr(parametrizations, name)(made.product_h)
    same(made, X, LENGTHS)
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(1.5)
    same(made, X, LENGTHS)


class _Simple(_Base):
    gain: Any = 1.0

    def forward(self, x, h):
        y = torch.tanh(self.sum(x, h)) * self.gain
        return y, y


# ------------------------------------------------------------------------------------------- circumstances


def test_hooks_are_called_so_the_reference_runs():
    cell, seen = US.LSTMCell(3, 4), []
    assert native_reasons(cell, X) == []
    handle = cell.register_forward_hook(lambda *_: seen.append(1))
    (reason,) = native_reasons(cell, X)
    assert "the cell (LSTMCell) has a forward hook, <lambda>" in reason
    seen.clear()
    dynamic_rnn(cell, X)
    assert len(seen) == X.shape[1]
    handle.remove()
    assert native_reasons(cell, X) == []


def test_hooks_of_modules_inside_count():
    cell = _Simple()
    handle = cell.product_h.register_forward_pre_hook(lambda *_: None)
    assert "its part 'product_h' (Linear) has a forward pre-hook" in native_reasons(cell, X)[0]
    handle.remove()
    assert native_reasons(cell, X) == []


def test_a_hook_on_all_modules_counts_for_cells_that_are_known():
    cell, seen = _Simple(), []
    assert native_reasons(cell, X) == []
    handle = register_module_forward_hook(lambda *_: seen.append(1))
    try:
        assert "on all modules" in native_reasons(cell, X)[0]
        seen.clear()
        dynamic_rnn(cell, X)
    finally:
        handle.remove()
    assert len(seen) >= X.shape[1]
    assert native_reasons(cell, X) == []


class _Numbered(US.Cell):
    def row_inputs(self, batch_size, *, dtype=None, device=None):
        return torch.arange(batch_size, device=device)

    def forward(self, x, h, rows):
        h = torch.tanh(x + h * rows.unsqueeze(1))
        return h, h


def test_integers_per_sequence_are_no_floats():
    (reason,) = native_reasons(_Numbered(state_size=3), X)
    assert "hold integers, which the engine would take for floating-point numbers" in reason


def test_autocast_runs_on_the_reference():
    cell = US.GRUCell(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert native_reasons(cell, X) == ["torch.autocast is on"]
        got, want = dynamic_rnn(cell, X)[0], dynamic_rnn(cell, X, backend="reference")[0]
    assert torch.equal(got, want)


# The reference loops in Python, which a trace unrolls, with these warnings.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
def test_a_trace_records_the_reference():
    layer = US.GRU(3, 4, batch_first=True, return_state=False)
    traced: Any = torch.jit.trace(layer, X)
    torch.testing.assert_close(traced(X + 1), layer(X + 1))
    with pytest.raises(BackendError, match=r"torch\.jit\.trace is recording"):
        torch.jit.trace(US.GRU(3, 4, backend="native", return_state=False), X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_run_on_the_reference(dtype):
    cell = US.SimpleRNNCell(3, 4).to(dtype)
    (reason,) = native_reasons(cell, X.to(dtype))
    assert str(dtype) in reason
    assert "float32 and float64" in reason
    y, _ = dynamic_rnn(cell, X.to(dtype), LENGTHS)
    assert y.dtype == dtype


def test_a_function_transform_runs_on_the_reference():
    cell = US.GRUCell(3, 4).double()
    x = X.double()

    def loss(x: Tensor) -> Tensor:
        return dynamic_rnn(cell, x)[0].square().sum()

    got = torch.func.grad(loss)(x)
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    with pytest.raises(BackendError, match=r"torch\.func"):
        torch.func.grad(lambda x: dynamic_rnn(cell, x, backend="native")[0].sum())(x)


def test_complex_and_integer_states_run_on_the_reference():
    class Counter(_Base):
        def initial_state(self, batch_size, *, dtype=None, device=None):
            return torch.zeros(batch_size, 4), torch.zeros(batch_size, dtype=torch.long)

        def forward(self, x, state):
            h = torch.tanh(self.sum(x, state[0])) * (state[1] % 2).unsqueeze(1)
            return h, (h, state[1] + 1)

    assert native_reasons(Counter(), X)
    same(Counter(), X, LENGTHS)


def test_an_error_of_the_cell_is_the_users_error():
    """A cell that is wrong says so in its own words, on any backend."""

    class Wrong(_Base):
        def forward(self, x, h):
            raise KeyError("what I forgot")

    with pytest.raises(KeyError, match="what I forgot"):
        dynamic_rnn(Wrong(), X)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dynamic_rnn(_Simple(), torch.zeros(2, 3, 7))


# ------------------------------------------------------------------------------- changes after the first call


def change_gain(cell: Any) -> None:
    cell.gain = 0.25


def change_to_tensor(cell: Any) -> None:
    cell.gain = torch.tensor([0.1, 0.2, 0.3, 0.4])


def replace_parameter(cell: Any) -> None:
    cell.product_h.weight = nn.Parameter(torch.full((4, 4), 0.3))


def fill_parameter(cell: Any) -> None:
    with torch.no_grad():
        cell.product_h.weight.fill_(0.2)
        cell.product_x.bias.data = torch.ones(4)


def drop_bias(cell: Any) -> None:
    cell.product_h.bias = None


def tie(cell: Any) -> None:
    cell.product_h.bias = cell.product_x.bias


def replace_module(cell: Any) -> None:
    cell.product_h = nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def replace_forward(cell: Any) -> None:
    cell.product_h.forward = lambda h: 3.0 * h


def freeze(cell: Any) -> None:
    cell.product_h.requires_grad_(False)


CHANGES = [
    change_gain, change_to_tensor, replace_parameter, fill_parameter, drop_bias, tie, replace_module, replace_forward,
    freeze,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_changes_after_the_first_call_are_noticed(change):
    cell = _Simple()
    before, _ = dynamic_rnn(cell, X, LENGTHS, backend="native")
    change(cell)
    same(cell, X, LENGTHS)
    if change is not freeze:
        assert not torch.allclose(dynamic_rnn(cell, X, LENGTHS)[0], before)


def test_parameters_that_were_one_and_are_two_now():
    cell = _Simple()
    cell.product_h.bias = cell.product_x.bias
    dynamic_rnn(cell, X, backend="native")
    cell.product_h.bias = nn.Parameter(torch.full((4,), 0.7))
    same(cell, X)


def test_a_captured_tensor_that_is_written_to():
    cell = _Simple()
    cell.gain = torch.linspace(0.1, 1.0, 4)
    dynamic_rnn(cell, X, backend="native")
    cell.gain *= 2
    same(cell, X)


def test_a_buffer_that_is_written_to():
    cell = N.ClockworkCell(3, 4)
    dynamic_rnn(cell, X, backend="native")
    cell.rate.fill_(0.5)
    same(cell, X)


def test_a_uniform_buffer_that_is_written_to():
    """Zeros are not read as a constant where they are a buffer."""

    class Shifted(_Base):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.zeros(4))
            self.shift: Tensor

        def forward(self, x, h):
            y = torch.tanh(self.sum(x, h) + self.shift)
            return y, y

    cell = Shifted()
    dynamic_rnn(cell, X, backend="native")
    cell.shift += 0.5
    same(cell, X)


def test_a_plain_object_that_holds_settings():
    """What the step reads from an object beside the cell is part of the step too."""

    class Settings:
        gain = 1.0

    class Reading(_Base):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Settings()

        def forward(self, x, h):
            y = torch.tanh(self.sum(x, h)) * self.settings.gain
            return y, y

    cell = Reading()
    dynamic_rnn(cell, X)
    cell.settings.gain = 0.5
    same(cell, X)


def test_training_and_evaluation_are_two_programs():
    cell = US.LSTMCell(3, 4, recurrent_dropout=0.5)
    for _ in range(2):
        for training in (True, False):
            cell.train(training)
            found = []
            for backend in ("native", "reference"):
                torch.manual_seed(3)
                found.append(dynamic_rnn(cell, X, LENGTHS, backend=backend)[0])
            torch.testing.assert_close(*found, rtol=0, atol=2e-5)


def test_evaluation_makes_a_cell_native():
    cell = StepDropoutCell()
    assert "dropout" in native_reasons(cell, X)[0]
    cell.eval()
    assert native_reasons(cell, X) == []
    same(cell, X, LENGTHS)
    cell.train()
    assert "dropout" in native_reasons(cell, X)[0]


def test_dtype_may_change():
    cell = US.GRUCell(3, 4)
    dynamic_rnn(cell, X, backend="native")
    cell.double()
    got, want = (dynamic_rnn(cell, X.double(), LENGTHS, backend=b)[0] for b in ("native", "reference"))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_mixed_dtypes_are_refused_with_words():
    cell = US.GRUCell(3, 4)
    state = torch.zeros(4, 4, dtype=torch.float64)
    with pytest.raises(TypeError, match="dtype"):
        dynamic_rnn(cell, X, None, state, backend="native")
    with pytest.raises((BackendError, RuntimeError), match="dtype"):
        dynamic_rnn(cell, X.double(), backend="native")


def test_an_optimizer_moves_the_results():
    cell = US.LSTMCell(3, 4)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = dynamic_rnn(cell, X, backend="native")[0].square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


# ------------------------------------------------------------------------------------------- threads, forks, memory


def train_step(cell: Any, x: Tensor, lengths: list[int]) -> list[Tensor]:
    y, _ = dynamic_rnn(cell, x, lengths, backend="native")
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(cell.parameters()))]


def test_threads_may_call_at_the_same_time():
    """The very first call too, which reads the cell."""
    cell = N.ScalarLSTMCell(3, 17)
    results: list[Any] = [None] * 8

    def work(k: int) -> None:
        for _ in range(5):
            results[k] = train_step(cell, X, LENGTHS)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = train_step(cell, X, LENGTHS)
    for found in results:
        assert found is not None
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_worker_gives_the_same_numbers(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cell = N.NASCell(3, 5)
        with torch.no_grad():  # the parent's threads are running; no backward pass, after which autograd forbids forks
            dynamic_rnn(cell, X, LENGTHS, backend="native")
        context = multiprocessing.get_context("fork")
        queue: Any = context.Queue()
        child = context.Process(target=_forward_in_child, args=(queue, cell))
        child.start()
        found = queue.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
        with torch.no_grad():
            expected, _ = dynamic_rnn(cell, X, LENGTHS, backend="native")
        torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def _forward_in_child(queue: Any, cell: Any) -> None:
    with torch.no_grad():  # plain numbers: tensors would need shared memory
        queue.put(dynamic_rnn(cell, X, LENGTHS, backend="native")[0].tolist())


@pytest.mark.parametrize(
    ("batch", "steps", "cell"),  # enough work for several threads, by blocks, by rows of one block and by columns
    [
        *(
            (batch, steps, cell)
            for batch, steps in ((67, 13), (1, 500))
            for cell in (US.LSTMCell, N.NASCell, N.AttendingCell)
        ),
        (2, 40, US.LSTMCell),
        (2, 40, N.NASCell),
    ],
)
def test_one_and_two_threads_agree(cell, batch, steps):
    made = cell(3, 33)
    x, lengths = torch.randn(batch, steps, 3), [steps - k % 7 for k in range(batch)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            found.append(train_step(made, x, lengths))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_an_unknown_instruction_set_is_named():
    code = "import unspool as u, torch; u.dynamic_rnn(u.GRUCell(2, 3), torch.zeros(1, 2, 2))"
    said = run_python(code, fails=True, UNSPOOL_ISA="sse9")  # an exception, not a crash
    assert "UNSPOOL_ISA" in said
    assert "sse9" in said


@pytest.mark.parametrize("cell", [US.LSTMCell, US.GRUCell, N.AttendingCell, N.ScalarLSTMCell, N.ShiftCell])
def test_derivatives_of_derivatives_equal_the_reference(cell):
    made = cell(3, 4).double()
    found = []
    for backend in ("native", "reference"):
        x = X.double().requires_grad_()
        y, s = dynamic_rnn(made, x, LENGTHS, resets=[[False, False, True, False, False]] * 4, backend=backend)
        total = y.square().sum() + sum(leaf.sin().sum() for leaf in leaves_of(s))
        first = torch.autograd.grad(total, [x, *made.parameters()], create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(
            torch.stack([g.square().sum() for g in first]).sum(),
            [x, *made.parameters()],
            allow_unused=True,
            materialize_grads=True,
        )
        found.append([*(g.detach() for g in first), *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_gradcheck_and_gradgradcheck():
    cell = US.GRUCell(2, 3).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, h: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return dynamic_rnn(cell, x, [3, 2], h, backend="native")

    assert torch.autograd.gradcheck(run, (x, h, *cell.parameters()))
    assert torch.autograd.gradgradcheck(run, (x, h))


def test_many_calls_do_not_grow_memory():
    cell = US.LSTMCell(8, 64)
    x = torch.randn(16, 40, 8)

    def call(k: int) -> None:
        y, _ = dynamic_rnn(cell, x, [1 + (k + b) % 40 for b in range(16)], backend="native")
        y.sum().backward()
        cell.zero_grad()

    for k in range(60):
        call(k)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(300):
        call(k)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB more after 300 calls"  # one call keeps some 2 MiB


def test_cells_are_let_go():
    """Programs live as long as their cells."""
    import gc
    import weakref

    cell = _Simple()
    dynamic_rnn(cell, X, backend="native")
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("where", ["inputs", "state", "parameters"])
def test_tensors_without_plain_memory_are_left_to_pytorch(where):
    """Behind a wrapper there is no memory at all: reading it ends the process."""
    cell, state = US.GRUCell(3, 4), torch.zeros(4, 4)
    expected, _ = dynamic_rnn(cell, X, LENGTHS, state, backend="reference")

    def wrapped(tensor: Tensor) -> Tensor:
        return TwoTensor(tensor.detach(), tensor.detach().clone())

    if where == "parameters":
        for name, parameter in list(cell.named_parameters()):
            setattr(cell, name, nn.Parameter(wrapped(parameter)))
    x, state = wrapped(X) if where == "inputs" else X, wrapped(state) if where == "state" else state
    with pytest.raises(BackendError, match="a kind that the engine does not read: TwoTensor"):
        dynamic_rnn(cell, x, LENGTHS, state, backend="native")
    outputs, _ = dynamic_rnn(cell, x, LENGTHS, state)
    assert torch.equal(outputs.a, expected)


def test_sparse_inputs_are_left_to_pytorch():
    cell = US.GRUCell(3, 4)
    with torch.sparse.check_sparse_tensor_invariants():
        x = X.to_sparse()
        with pytest.raises(BackendError, match=r"the engine does not read: a torch\.sparse_coo tensor"):
            dynamic_rnn(cell, x, LENGTHS, backend="native")
        outputs, _ = dynamic_rnn(cell, x, LENGTHS)
    torch.testing.assert_close(outputs, dynamic_rnn(cell, X, LENGTHS)[0])
