"""Layers over ragged batches, against the same layers over padded inputs and lengths.

Letters: B batch, T steps, I input size, H hidden size, L layers, D directions, N tokens.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.conformance.cases import BACKENDS, covering
from tests.conformance.user_cells import LayerNormLSTMCell, SumCell
from tests.refusal import refused
from unspool import GRU, LSTM, RNN, Bidirectional, GRUCell, RaggedBatch, SimpleRNN, explain
from unspool.data import collate_ragged, ragged_from_padded

I, H = 3, 5  # noqa: E741
LENGTHS = [[4, 0, 7, 1, 7, 3], [0, 0], [1, 1, 1], [6], [5, 5, 5], [0, 9]]
LAYERS: dict[str, Any] = {
    "LSTM": lambda **options: LSTM(I, H, **options),
    "GRU": lambda **options: GRU(I, H, batch_first=True, **options),
    "SimpleRNN, reverse": lambda **options: SimpleRNN(I, H, reverse=True, **options),
    "LSTM, two layers": lambda **options: LSTM(I, H, 2, batch_first=True, proj_size=2, **options),
    "GRU, two layers both ways": lambda **options: GRU(I, H, 2, bidirectional=True, **options),
    "RNN": lambda **options: RNN(LayerNormLSTMCell(I, H), **options),
    "Bidirectional": lambda **options: Bidirectional(GRU(I, H, batch_first=True, **options)),
}


def ragged(lengths: list[int], dtype: torch.dtype = torch.float32, size: int = I) -> RaggedBatch:
    values = torch.randn(sum(lengths), size, dtype=dtype, requires_grad=True)
    return RaggedBatch(values, torch.tensor(lengths), torch.arange(len(lengths)) % 2, torch.arange(len(lengths)))


def measured(layer: nn.Module, batch: RaggedBatch, output: Tensor, states: Any, hx: Any) -> list[Tensor]:
    """Return results and the gradients of a random combination of them."""
    results = [output, *tree_leaves(states)]
    generator = torch.Generator().manual_seed(1)
    terms = [(r * torch.randn(r.shape, generator=generator, dtype=r.dtype)).sum() for r in results]
    sources = [batch.values, *([] if hx is None else tree_leaves(hx)), *layer.parameters()]
    return [*results, *torch.autograd.grad(torch.stack(terms).sum(), sources, materialize_grads=True)]


def assert_same(received: list[Tensor], expected: list[Tensor], backend: str) -> None:
    """Compare bit for bit; on the reference backend, whose products see rows that lie elsewhere, up to rounding."""
    for got, want in zip(received, expected, strict=True):
        if backend == "native":
            assert torch.equal(got, want)
        tolerance = 1e-12 if want.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def padded_call(layer: Any, batch: RaggedBatch, hx: Any = None, **options: Any) -> tuple[Any, Any]:
    """Run a layer over the padded batch; of a sequence of outputs return those of tokens."""
    one = getattr(layer, "forward_layer", layer)
    inputs, lengths = batch.to_padded(time_major=not one.batch_first)
    output, state = layer(inputs, hx, lengths=lengths, **options)
    if not one.return_sequences:
        return output, state
    output = output if one.batch_first else output.transpose(0, 1)
    return ragged_from_padded(output, lengths).values, state


WAYS = covering(
    {
        "name": list(LAYERS),
        "return_sequences": [True, False],
        "given_state": [True, False],
        "dtype": [torch.float32, torch.float64],
        "backend": BACKENDS,
    }
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(map(str, way.values())))
def test_the_numbers_are_those_of_the_padded_call(way):
    name, return_sequences, given_state, dtype, backend = way.values()
    layer = LAYERS[name](backend=backend, return_sequences=return_sequences).to(dtype)
    for lengths in LENGTHS:
        batch = ragged(lengths, dtype)
        hx = None
        if given_state:
            _, like = layer(batch)
            hx = tree_map(lambda leaf: torch.randn_like(leaf, requires_grad=True), like)
        want = measured(layer, batch, *padded_call(layer, batch, hx), hx)
        output, state = layer(batch, hx)
        if return_sequences:
            assert isinstance(output, RaggedBatch)
            assert (output.lengths, output.labels, output.order) == (batch.lengths, batch.labels, batch.order)
            output = output.values
        assert_same(measured(layer, batch, output, state, hx), want, backend)


def test_a_layer_takes_what_a_layer_gives():
    batch = ragged([2, 0, 4])
    first, second = LSTM(I, H, return_state=False), GRU(H, 2, return_state=False, return_sequences=False)
    inputs, lengths = batch.to_padded(time_major=True)
    want = second(first(inputs, lengths=lengths), lengths=lengths)
    assert torch.equal(nn.Sequential(first, second)(batch), want)


def test_ids_are_embedded_and_classified_without_padding():
    batch = collate_ragged([(torch.tensor([3, 1, 2]), 0), (torch.tensor([2]), 1)])
    embedding, layer = nn.Embedding(4, I), LSTM(I, H, return_sequences=False, return_state=False)
    vectors = batch._replace(values=embedding(batch.values))
    for row, ids in enumerate(batch.rows()):
        torch.testing.assert_close(layer(vectors)[row], layer(embedding(ids).unsqueeze(1))[0])


@pytest.mark.parametrize("merge", ["concat", "sum", None])
def test_directions_are_merged(merge):
    layer = Bidirectional(GRU(I, H, batch_first=True), merge_mode=merge)
    batch = ragged([3, 0, 5])
    inputs, lengths = batch.to_padded()
    got, _ = layer(batch)
    want, _ = layer(inputs, lengths=lengths)
    for ours, padded in zip(got, want, strict=True) if merge is None else [(got, want)]:
        assert isinstance(ours, RaggedBatch)
        assert torch.equal(ours.to_padded()[0], padded)


def test_an_output_of_several_tensors_is_a_batch_for_each():
    batch = ragged([3, 0, 2])
    layer = RNN(SumCell(I, H), batch_first=True)
    got, _ = layer(batch)
    want, _ = layer(batch.to_padded()[0], lengths=batch.lengths)
    batches = tree_leaves(got, is_leaf=lambda node: isinstance(node, RaggedBatch))
    for ours, padded in zip(batches, tree_leaves(want), strict=True):
        assert torch.equal(ours.to_padded()[0], padded)


@pytest.mark.parametrize("backend", BACKENDS)
def test_resets_are_one_for_each_step(backend):
    layer = LSTM(I, H, bidirectional=True, batch_first=True, backend=backend)
    batch = ragged([4, 0, 6, 1])
    resets = torch.rand(11) < 0.4
    table = batch._replace(values=resets).to_padded()[0]
    want = measured(layer, batch, *padded_call(layer, batch, resets=table), None)
    output, state = layer(batch, resets=resets)
    assert_same(measured(layer, batch, output.values, state, None), want, backend)
    assert torch.equal(layer(batch, resets=resets.tolist())[0].values, output.values)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unrolled_layers_take_rows_up_to_their_steps(backend):
    static = LSTM(I, H, 2, unroll=True, num_steps=7, backend=backend)
    dynamic = LSTM(I, H, 2, backend=backend)
    dynamic.load_state_dict(static.state_dict())
    for lengths in [[4, 0, 7], [3, 3], [0], [7, 7, 1, 2]]:
        batch = ragged(lengths)
        runs = [measured(layer, batch, output.values, state, None) for layer in (static, dynamic)
                for output, state in [layer(batch)]]  # fmt: skip
        assert all(map(torch.equal, *runs))
    with refused(ValueError, "unrolled for 7 steps and received 8", "num_steps=8"):
        static(ragged([1, 8]))
    first = GRU(I, H, unroll=True)
    first(ragged([5, 2]))
    with refused(ValueError, "unrolled for 5 steps and received 6"):
        first(ragged([6]))


class LargestResult(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return result


@pytest.mark.parametrize("options", [{}, {"unroll": True, "num_steps": 70}], ids=["dynamic", "static"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_nothing_of_the_size_of_the_padded_batch_is_made(reverse, options):
    steps, rows, size = 64, 24, 8
    layer = LSTM(size, size, 2, reverse=reverse, backend="native", **options)
    batch = ragged([1] * 11 + [steps] + [1] * (rows - 12), size=size)
    bytes_padded = steps * rows * size * 4
    layer(batch)  # the first call reads the cell
    with LargestResult() as seen:
        output, state = layer(batch)
        torch.stack([output.values.sum(), state.c.sum()]).sum().backward()
    assert batch.values.grad is not None
    assert 0 < seen.bytes < bytes_padded / 2
    with LargestResult() as seen:
        padded_call(layer, batch)
    assert seen.bytes >= bytes_padded


def test_it_is_explained():
    batch = ragged([2, 0, 3])
    (decision,) = explain(GRU(I, H, backend="reference"), batch).decisions
    assert decision.call == "GRUCell over [5, 1, 3] (N, 1, ...), rows: 3, dynamic, ragged"
    layer = LSTM(I, H, unroll=True)
    assert "static, ragged" in str(explain(layer, batch))
    assert layer.num_steps is None
    assert explain(GRUCell(I, H), batch).decisions[0].call.startswith("GRUCell over [5, 1, 3]")


def test_wrong_use_is_refused():
    batch = ragged([2, 0, 3])
    for layer in (GRU(I, H), RNN(GRUCell(I, H)), Bidirectional(GRU(I, H))):
        for beside in ({"lengths": [2, 0, 3]}, {"mask": torch.ones(3, 3, dtype=torch.bool)}):
            with refused(ValueError, "lengths or mask were given beside a RaggedBatch", "batch.to_padded()"):
                layer(batch, **beside)
        with refused(ValueError, "resets has shape [3, 3]", "expected booleans of shape [5]"):
            layer(batch, resets=torch.zeros(3, 3, dtype=torch.bool))
        with refused(TypeError, "resets has dtype torch.int64", ".bool()"):
            layer(batch, resets=[0, 1, 0, 0, 0])
        with refused(ValueError, "values [5, 3] and lengths [2, 2], 4 steps in all", "5 in all"):
            layer(batch._replace(lengths=torch.tensor([2, 2])))
        with refused(ValueError, "lengths [6, -1]", "at least 0"):
            layer(batch._replace(lengths=torch.tensor([6, -1])))
        with refused(TypeError, "lengths of a RaggedBatch are [2]", "torch.as_tensor"):
            layer(batch._replace(lengths=torch.tensor([2.0, 3.0])))
        with refused(TypeError, "values of a RaggedBatch are None", "[N, ...]"):
            layer(batch._replace(values=None))
        with refused(ValueError, "hx"):
            layer(batch, torch.zeros(1, 2, H) if isinstance(layer, GRU) else (torch.zeros(2, H),) * 2)
    with refused(ValueError, "ragged or packed values of shape [5, 2]", "[N, 3] (input_size=3)"):
        LSTM(I, H)(ragged([2, 0, 3], size=2))
    with refused(ValueError, "go_backwards with a RaggedBatch", "reverse=True"):
        LSTM(I, H, go_backwards=True)(batch)
