import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool.data import DataError, StreamBatchSampler, StreamLoader


def test_by_hand():
    """Eleven tokens in two streams of five predictions, windows of two: the last window has one."""
    batches = list(StreamLoader(torch.arange(12), 2, 2))
    assert [batch.inputs.tolist() for batch in batches] == [[[0, 1], [5, 6]], [[2, 3], [7, 8]], [[4], [9]]]
    assert [batch.targets.tolist() for batch in batches] == [[[1, 2], [6, 7]], [[3, 4], [8, 9]], [[5], [10]]]
    assert [batch.first for batch in batches] == [True, False, False]
    assert batches[0].inputs.dtype == torch.int64


@given(size=st.integers(2, 120), batch_size=st.integers(1, 9), steps=st.integers(1, 12))
def test_every_token_but_the_remainder_is_predicted_once(size, batch_size, steps):
    if size <= batch_size:
        return
    loader = StreamLoader(torch.arange(size), batch_size, steps)
    batches = list(loader)
    assert len(batches) == len(loader)
    predicted = sorted(itertools.chain(*(batch.targets.flatten().tolist() for batch in batches)))
    remainder = (size - 1) % batch_size
    assert predicted == list(range(1, size - remainder))
    for batch in batches:
        assert torch.equal(batch.targets, batch.inputs + 1)
        assert batch.inputs.shape == batch.targets.shape
        assert 1 <= batch.inputs.shape[1] <= steps
    for before, after in itertools.pairwise(batches):
        assert torch.equal(before.targets[:, -1], after.inputs[:, 0]), "a row goes on where it ended"
        assert before.inputs.shape[1] == steps, "only the last window is shorter"
    assert [batch.first for batch in batches] == [True] + [False] * (len(batches) - 1)


@given(st.integers(2, 80), st.integers(1, 7), st.integers(1, 9), st.data())
def test_an_interrupted_epoch_goes_on_with_the_next_window(size, batch_size, steps, data):
    if size <= batch_size:
        return
    whole = list(StreamBatchSampler(size, batch_size, steps))
    cut = data.draw(st.integers(0, len(whole)))
    first = StreamBatchSampler(size, batch_size, steps)
    first.set_epoch(2)
    assert list(itertools.islice(iter(first), cut)) == whole[:cut]
    second = StreamBatchSampler(size, batch_size, steps)
    second.load_state_dict(first.state_dict())
    second.set_epoch(2)
    assert second.state_dict() == first.state_dict()
    assert list(second) == whole[cut:]
    assert list(second) == whole, "a position holds for one iteration"
    second.load_state_dict({**first.state_dict(), "position": cut})
    second.set_epoch(3)
    assert list(second) == whole, "and for its own epoch"


def test_a_loader_goes_on_in_the_middle():
    tokens = torch.arange(40)
    loader = StreamLoader(tokens, 3, 4)
    iterator = iter(loader)
    next(iterator)
    rest = StreamLoader(tokens, 3, 4)
    rest.load_state_dict(loader.state_dict())
    batches = list(rest)
    assert [batch.first for batch in batches] == [False] * 3
    assert torch.equal(batches[0].inputs, next(iterator).inputs)


def test_replicas_share_the_streams():
    tokens = torch.arange(50)
    whole = list(StreamLoader(tokens, 5, 3))
    parts = [list(StreamLoader(tokens, 5, 3, rank=rank, num_replicas=2)) for rank in range(2)]
    for batch, one, other in zip(whole, *parts, strict=True):
        assert torch.equal(batch.inputs[::2], one.inputs)
        assert torch.equal(batch.inputs[1::2], other.inputs)
        assert batch.first == one.first == other.first


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_arrays_will_do(tmp_path, kind):
    np.save(tmp_path / "tokens.npy", np.arange(30, dtype=kind))
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    batches = list(StreamLoader(mapped, 4, 3))
    assert batches[0].inputs.dtype == torch.int64
    assert torch.equal(batches[1].targets, list(StreamLoader(torch.arange(30), 4, 3))[1].targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0, 3), "batch_size=0"),
        ((10, 2, 0), "steps=0"),
        ((3, 3, 1), "received 3 tokens for 3 streams; expected at least 4"),
        ((10, 2, 3, 2, 2), "received rank=2 of 2 replicas"),
        ((10, 2, 3, 0, 3), "received rank=0 of 3 replicas and 2 streams"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    size, batch_size, steps, *share = arguments
    with pytest.raises(ValueError, match=message):
        StreamBatchSampler(size, batch_size, steps, **dict(zip(("rank", "num_replicas"), share, strict=False)))


@pytest.mark.parametrize("tokens", [torch.zeros(9), torch.zeros(3, 3, dtype=torch.int64), np.zeros(9, bool)], ids=str)
def test_what_is_no_row_of_tokens_is_refused(tokens):
    with pytest.raises(DataError, match=r"expected \(N,\) whole numbers"):
        StreamLoader(tokens, 2, 2)


def test_a_state_of_other_streams_is_refused():
    sampler = StreamBatchSampler(10, 2, 3)
    with pytest.raises(ValueError, match="the state has steps=4, this sampler 3"):
        sampler.load_state_dict(StreamBatchSampler(10, 2, 4).state_dict())


def test_the_sampler_serves_a_data_loader_of_torch():
    tokens = torch.arange(20)
    loader = torch.utils.data.DataLoader(tokens, batch_sampler=StreamBatchSampler(20, 3, 4))  # pyright: ignore
    expected = list(StreamLoader(tokens, 3, 4))
    for block, batch in zip(loader, expected, strict=True):
        assert torch.equal(block[:, :-1], batch.inputs)
