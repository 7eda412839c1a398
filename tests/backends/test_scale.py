"""A ragged batch costs what its tokens cost, however uneven its rows are.

What is counted are the elements of all tensors that PyTorch makes: none of them may be a table of rows times steps, and
no step may touch rows that are done.

Letters: B batch, T steps, N tokens.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import unspool as us
from unspool import _engine
from unspool.backends import Schedule
from unspool.backends._layout import layout_of

B, T, H = 1000, 117, 4
UNEVEN = torch.full((B,), 2).index_fill(0, torch.tensor([B // 2]), T)
N = int(UNEVEN.sum())
EVEN = torch.full((N // 47,), 47)
assert int(EVEN.sum()) == N


class Counting(TorchDispatchMode):
    """Counts the elements of what is made, and keeps the largest table of integers or booleans."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.table = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        taken = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        for leaf in tree_leaves(results):
            if isinstance(leaf, Tensor) and id(leaf) not in taken and not leaf._is_view():
                self.elements += leaf.numel()
                if not leaf.is_floating_point():
                    self.table = max(self.table, leaf.numel())
        return results


def count(call: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Counting:
    with Counting() as counting:
        torch.autograd.grad(call().square().sum(), parameters)
    return counting


def ragged(lengths: Tensor) -> us.RaggedBatch:
    return us.RaggedBatch(torch.randn(int(lengths.sum()), 3), lengths, None, torch.arange(len(lengths)))


WAYS: dict[str, dict[str, Any]] = {
    "forward": {},
    "reverse": {"reverse": True},
    "resets": {"resets": torch.arange(N) % 5 == 0},
    "all states": {"return_all_states": True},
}


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("way", WAYS)
def test_a_ragged_batch_costs_its_tokens(way, backend):
    cell = us.GRUCell(3, H, recurrent_dropout=0.1)
    parameters = list(cell.parameters())

    def cost(batch: us.RaggedBatch) -> Counting:
        return count(lambda: us.dynamic_rnn(cell, batch, backend=backend, **WAYS[way])[0].values, parameters)

    uneven, even = cost(ragged(UNEVEN)), cost(ragged(EVEN))
    assert uneven.table <= 2 * N
    # The rows' own values are more, for there are more rows.
    assert uneven.elements < 2.5 * even.elements


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_packed_sequence_costs_its_tokens(backend, direction):
    layer = us.LSTM(3, H, backend=backend, bidirectional=direction == "bidirectional")
    parameters = list(layer.parameters())

    def cost(batch: us.RaggedBatch) -> Counting:
        packed = batch.to_packed()
        return count(lambda: layer(packed)[0].data, parameters)

    uneven, even = cost(ragged(UNEVEN)), cost(ragged(EVEN))
    assert uneven.table <= 2 * N
    assert uneven.elements < 2.5 * even.elements


@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_padded_batches_with_lengths_need_no_table_of_their_places(backend, reverse, pad):
    cell, x = us.GRUCell(3, H), torch.randn(B, T, 3)
    options = {"reverse": reverse, "pad_output": pad, "return_all_states": True, "backend": backend}
    with torch.no_grad(), Counting() as counting:
        us.dynamic_rnn(cell, x, UNEVEN, **options)
    assert counting.table <= 2 * N


@pytest.mark.parametrize("ragged_arrays", [False, True])
def test_a_layout_costs_its_tokens(ragged_arrays):
    def peak(lengths: Tensor) -> int:
        schedule = Schedule(
            int(lengths.max()), len(lengths), None, None,
            lengths=lengths, reverse=True, device=torch.device("cpu"), ragged=ragged_arrays,
        )  # fmt: skip
        tracemalloc.start()
        layout = layout_of(schedule, _engine, 2)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert layout is layout_of(schedule, _engine, 2)
        return found

    assert peak(UNEVEN) < 200 * (N + B + T)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("gaps", [False, True])
def test_more_rows_than_the_engine_takes_at_once(gaps, threads):
    cell, x = us.LSTMCell(3, H).double(), torch.randn(700, 5, 3).double()
    mask = torch.rand(700, 5) < 0.7 if gaps else torch.arange(5) < torch.randint(0, 6, (700, 1))
    options = {"mask": mask, "resets": torch.rand(700, 5) < 0.2, "reverse": True, "return_all_states": True}
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for backend in ("native", "reference"):
            y, end, states = us.dynamic_rnn(cell, x, backend=backend, **options)
            loss = (y * states.c).sum() + end.h.square().sum()
            found.append([y, *end, *states, *torch.autograd.grad(loss, list(cell.parameters()))])
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
