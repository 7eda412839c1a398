from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import unspool as us
from unspool.data import (
    BatchLoader,
    DataError,
    RaggedBatch,
    ResumableBatchSampler,
    SequenceDataset,
    collate_ragged,
    pad_sequences,
    ragged_from_padded,
)


def sequences(lengths, *width):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, *width, generator=generator) for length in lengths]


def make(lengths, *width, **named):
    return collate_ragged([(row, index) for index, row in enumerate(sequences(lengths, *width))], **named)


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    width=st.sampled_from([(), (1,), (3,), (2, 3)]),
    longest_first=st.booleans(),
    more=st.integers(0, 2),
)
def test_a_ragged_batch_holds_what_the_padded_one_does(lengths, width, longest_first, more):
    batch = make(lengths, *width, longest_first=longest_first)
    samples = sequences(lengths, *width)
    assert batch.values.shape == (sum(lengths), *width)
    assert batch.labels is not None
    assert batch.labels.tolist() == batch.order.tolist()
    assert sorted(batch.order.tolist()) == list(range(len(lengths)))
    if longest_first:
        assert batch.lengths.tolist() == sorted(lengths, reverse=True)
    expected, steps = pad_sequences([samples[index] for index in batch.order.tolist()], pad_to=max(lengths) + more)
    padded, received = batch.to_padded(pad_to=max(lengths) + more)
    assert torch.equal(padded, expected)
    assert torch.equal(received, steps)
    assert torch.equal(batch.to_padded(time_major=True)[0], batch.to_padded()[0].transpose(0, 1))
    back = ragged_from_padded(padded, received, batch.labels)
    assert torch.equal(back.values, batch.values)
    assert torch.equal(batch.restore(batch.lengths), torch.tensor(lengths))
    for row, index in zip(batch.rows(), batch.order.tolist(), strict=True):
        assert torch.equal(row, samples[index])
    longest = batch.sort()
    assert longest.lengths.tolist() == sorted(lengths, reverse=True)
    assert torch.equal(longest.restore(longest.lengths), torch.tensor(lengths))


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8), longest_first=st.booleans())
def test_packing_is_torchs(lengths, longest_first):
    batch = make(lengths, 2, longest_first=longest_first)
    packed, expected = batch.to_packed(), pack_sequence(list(batch.rows()), enforce_sorted=False)
    assert torch.equal(packed.data, expected.data)
    assert torch.equal(packed.batch_sizes, expected.batch_sizes)
    padded, steps = pad_packed_sequence(packed, batch_first=True)
    assert torch.equal(padded, batch.to_padded()[0])
    assert torch.equal(steps, batch.lengths)


def test_layers_take_it_as_it_is_or_padded():
    batch = make([3, 0, 5], 2)
    assert isinstance(batch, us.RaggedBatch)
    layer = us.LSTM(2, 4, batch_first=True)
    inputs, lengths = batch.to_padded()
    out = layer(inputs, lengths=lengths)[0]
    assert torch.equal(layer(batch)[0].to_padded()[0], out)
    for row, sequence in enumerate(batch.rows()):
        if len(sequence):
            torch.testing.assert_close(out[row, : len(sequence)], layer(sequence[None])[0][0])
    cell = us.GRUCell(2, 4)
    assert us.dynamic_rnn(cell, inputs, lengths)[0].shape == (3, 5, 4)


def test_tokens_are_embedded_without_padding():
    batch = collate_ragged([(torch.tensor([3, 1]), 0), (torch.tensor([2]), 1)])
    embedding = torch.nn.Embedding(4, 5)
    inputs = batch._replace(values=embedding(batch.values)).to_padded()[0]
    assert torch.equal(inputs[0], embedding(torch.tensor([3, 1])))
    assert inputs[1, 1].eq(0).all()


def test_gradients_come_back_to_the_values_alone():
    batch = make([2, 0, 3], 2)
    values = batch.values.requires_grad_()
    padded = batch.to_padded(padding_value=7.0)[0]
    assert padded[0, 2:].eq(7).all()
    padded.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, torch.ones(5, 2))


def test_rows_of_one_length_are_not_copied():
    batch = make([4, 4], 3)
    assert batch.to_padded()[0].data_ptr() == batch.values.data_ptr()


def test_casting_leaves_lengths_and_labels():
    batch = make([1, 2], 3).to(torch.float64)
    assert isinstance(batch, RaggedBatch)
    assert batch.labels is not None
    assert [tensor.dtype for tensor in (batch.values, batch.lengths, batch.labels, batch.order)] == [
        torch.float64, torch.int64, torch.int64, torch.int64,
    ]  # fmt: skip
    assert batch._replace(labels=None).to("cpu").labels is None
    assert batch._replace(labels=None).sort().labels is None


def test_loaders_make_them():
    dataset = SequenceDataset(sequences([3, 1, 2], 2), torch.tensor([0, 1, 0]), "ab")
    loader = BatchLoader(dataset, ResumableBatchSampler(3, 2, shuffle=False), collate_ragged)
    assert [batch.values.shape[0] for batch in loader] == [4, 2]
    torchs = torch.utils.data.DataLoader(dataset, 3, collate_fn=partial(collate_ragged, longest_first=True))  # pyright: ignore[reportArgumentType]
    (batch,) = torchs
    assert isinstance(batch, RaggedBatch)
    assert batch.lengths.tolist() == [3, 2, 1]


def test_targets_for_every_step_go_with_their_steps():
    targets = [torch.arange(3), torch.arange(10, 11), torch.arange(20, 22)]
    dataset = SequenceDataset(sequences([3, 1, 2], 2), targets=targets, class_names=map(str, range(22)))
    batch = collate_ragged([dataset[row] for row in (1, 0, 2)], longest_first=True)
    assert batch.labels is None
    assert batch.targets is not None
    assert batch.targets.tolist() == [0, 1, 2, 20, 21, 10]
    mixed = collate_ragged([dataset[row] for row in (1, 0, 2)]).sort().to(torch.float64)
    assert mixed.targets is not None
    assert (mixed.targets.tolist(), mixed.targets.dtype) == (batch.targets.tolist(), torch.int64)


def test_sequences_are_put_together():
    rows, labels = sequences([3, 0, 2], 2), torch.tensor([1.5, 2.5, 3.5])
    batch = RaggedBatch.from_sequences(rows, labels)
    assert all(torch.equal(*pair) for pair in zip(batch.rows(), rows, strict=True))
    assert batch.labels is labels
    with pytest.raises(ValueError, match="received 2 labels; expected 3, one for each sequence"):
        RaggedBatch.from_sequences(rows, labels[:2])
    with pytest.raises(ValueError, match=r"received targets of \[3, 2\] steps; expected \[3, 0, 2\]"):
        RaggedBatch.from_sequences(rows, targets=[torch.zeros(3), torch.zeros(2)])


def test_what_cannot_be_batched_is_refused():
    with pytest.raises(ValueError, match="no sequences"):
        collate_ragged([])
    with pytest.raises(
        ValueError, match=r"sequence 1 has shape \(2, 4\) and type torch\.float32; expected .'steps', 3."
    ):
        collate_ragged([(torch.zeros(2, 3), 0), (torch.zeros(2, 4), 0)])
    with pytest.raises(ValueError, match=r"torch\.int64; expected"):
        collate_ragged([(torch.zeros(2), 0), (torch.zeros(2, dtype=torch.int64), 0)])
    with pytest.raises(ValueError, match="a row of 3 steps; expected at most 2"):
        make([3, 1]).to_padded(pad_to=2)
    with pytest.raises(ValueError, match="a row of no steps"):
        make([3, 0]).to_packed()
    for lengths in ([3, 1], [-1, 2], [1]):
        with pytest.raises(DataError, match="received lengths of shape"):
            ragged_from_padded(torch.zeros(2, 2, 1), torch.tensor(lengths))
