"""`dynamic_rnn` and the bidirectional functions over ragged batches; for every cell see tests/conformance."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.exc import Unsupported

from tests.conformance.cases import BACKENDS
from tests.refusal import refused
from unspool import (
    GRU,
    Bidirectional,
    GRUCell,
    LSTMCell,
    RaggedBatch,
    bidirectional_dynamic_rnn,
    dynamic_rnn,
    stack_bidirectional_dynamic_rnn,
    static_rnn,
)

I, H = 3, 4  # noqa: E741


def ragged(lengths: list[int], *size: int, dtype: torch.dtype = torch.float64) -> RaggedBatch:
    values = torch.randn(sum(lengths), *(size or (I,)), dtype=dtype, requires_grad=True)
    return RaggedBatch(values, torch.tensor(lengths), None, torch.arange(len(lengths)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_row_is_the_row_alone(backend):
    cell = LSTMCell(I, H, dtype=torch.float64)
    batch = ragged([3, 0, 6, 1])
    outputs, final = dynamic_rnn(cell, batch, backend=backend)
    assert isinstance(outputs, RaggedBatch)
    for row, (own, steps) in enumerate(zip(outputs.rows(), batch.rows(), strict=True)):
        state = cell.initial_state(1, dtype=torch.float64)
        for t in range(len(steps)):
            h, state = cell(steps[t : t + 1], state)
            torch.testing.assert_close(own[t], h[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(final.c[row], state.c[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_directions_and_stacks(backend):
    cells = [GRUCell(size, H, dtype=torch.float64) for size in (I, I, 2 * H, 2 * H)]
    batch = ragged([2, 5, 0])
    inputs, lengths = batch.to_padded()
    got, states = bidirectional_dynamic_rnn(cells[0], cells[1], batch, backend=backend)
    want, wanted = bidirectional_dynamic_rnn(cells[0], cells[1], inputs, lengths, backend=backend)
    for ours, padded in zip(got, want, strict=True):
        torch.testing.assert_close(ours.to_padded()[0], padded, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(states, wanted, rtol=1e-12, atol=1e-12)
    stacked, *_ = stack_bidirectional_dynamic_rnn(cells[::2], cells[1::2], batch, backend=backend)
    deep, *_ = stack_bidirectional_dynamic_rnn(cells[::2], cells[1::2], inputs, lengths, backend=backend)
    torch.testing.assert_close(stacked.to_padded()[0], deep, rtol=1e-12, atol=1e-12)


class ImageCell(nn.Module):
    """Takes steps of shape (2, 3)."""

    def forward(self, x, state):
        new = torch.tanh(state + x.flatten(1))
        return new, new

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, 6, dtype=dtype, device=device)


class NumberCell(nn.Module):
    """Takes a number per step."""

    def forward(self, x, state):
        new = 0.5 * state + x
        return new, new

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, dtype=dtype, device=device)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("cell", "size"), [(ImageCell(), (2, 3)), (NumberCell(), ())])
def test_steps_may_have_any_shape(cell, size, backend):
    lengths = [2, 0, 4]
    values = torch.randn(6, *size)
    batch = RaggedBatch(values, torch.tensor(lengths), None, torch.arange(3))
    outputs, final = dynamic_rnn(cell, batch, backend=backend)
    padded, _ = batch.to_padded()
    want, wanted = dynamic_rnn(cell, padded, lengths, backend=backend)
    assert torch.equal(outputs.to_padded()[0], want)
    assert torch.equal(final, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_at_all(backend):
    batch = RaggedBatch(torch.zeros(0, I), torch.zeros(0, dtype=torch.long), None, torch.zeros(0, dtype=torch.long))
    outputs, final = dynamic_rnn(LSTMCell(I, H), batch, backend=backend)
    assert outputs.values.shape == (0, H)
    assert final.h.shape == (0, H)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_may_lie_anywhere(backend):
    cell, batch = GRUCell(I, H, dtype=torch.float64), ragged([2, 0, 5])
    want = dynamic_rnn(cell, batch, backend=backend)[0].values
    strided = batch.values.detach().repeat_interleave(2, 0).t().contiguous().t()[::2]
    assert not strided.is_contiguous()
    assert torch.equal(dynamic_rnn(cell, batch._replace(values=strided), backend=backend)[0].values, want)


def test_derivatives_of_derivatives():
    cell = LSTMCell(I, H, dtype=torch.float64)
    lengths = torch.tensor([2, 0, 3])

    def run(values):
        batch = RaggedBatch(values, lengths, None, torch.arange(3))
        outputs, final = dynamic_rnn(cell, batch, reverse=True)
        return outputs.values, final.c

    assert torch.autograd.gradgradcheck(run, ragged([2, 0, 3]).values)


def test_only_lists_of_steps_are_static():
    with refused(TypeError, "inputs is RaggedBatch(", "list with one input [B, I] per step", "use dynamic_rnn"):
        static_rnn(GRUCell(I, H), ragged([2, 1]))  # pyright: ignore[reportArgumentType]


def test_lengths_and_masks_beside_it_are_refused():
    cell, batch = LSTMCell(I, H, dtype=torch.float64), ragged([2, 1])
    with refused(ValueError, "beside a RaggedBatch", "to_padded"):
        dynamic_rnn(cell, batch, [2, 1])
    with refused(ValueError, "beside a RaggedBatch", "to_padded"):
        bidirectional_dynamic_rnn(cell, cell, batch, mask=torch.ones(2, 2, dtype=torch.bool))


class Model(nn.Module):
    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.before, self.recurrent = nn.Linear(I, I), recurrent

    def forward(self, batch: RaggedBatch) -> torch.Tensor:
        batch = batch._replace(values=self.before(batch.values))
        if isinstance(self.recurrent, GRUCell):
            output, _ = dynamic_rnn(self.recurrent, batch)
        else:
            output, _ = self.recurrent(batch)
        return output.values.tanh()


@pytest.mark.parametrize(
    "recurrent", [GRUCell(I, H), GRU(I, H), Bidirectional(GRU(I, H))], ids=lambda r: type(r).__name__
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_code_breaks_around_it_and_says_why_where_it_must_not(recurrent):
    torch._dynamo.reset()
    model = Model(recurrent)
    compiled = torch.compile(model, backend="eager")
    for lengths in ([2, 0, 3], [4, 1]):
        batch = ragged(lengths, dtype=torch.float32)
        results = [run(batch) for run in (compiled, model)]
        assert torch.equal(*results)
        gradients = [torch.autograd.grad(r.sum(), [batch.values, *model.parameters()]) for r in results]
        for got, want in zip(*gradients, strict=True):
            torch.testing.assert_close(got, want)
    torch._dynamo.reset()
    with pytest.raises(Unsupported, match="make padded inputs and lengths of it"):
        torch.compile(model, backend="eager", fullgraph=True)(batch)
    torch._dynamo.reset()
