import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool.data import BatchLoader, ResumableBatchSampler, SequenceDataset


@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_an_interrupted_epoch_continues_with_the_next_batch(size, batch_size, seed, epoch, data):
    whole = ResumableBatchSampler(size, batch_size, seed=seed)
    whole.set_epoch(epoch)
    batches = list(whole)
    assert sorted(itertools.chain(*batches)) == list(range(size))
    assert len(batches) == len(whole)

    cut = data.draw(st.integers(0, len(batches)))
    first = ResumableBatchSampler(size, batch_size, seed=seed)
    first.set_epoch(epoch)
    assert list(itertools.islice(iter(first), cut)) == batches[:cut]
    second = ResumableBatchSampler(size, batch_size, seed=seed)
    second.load_state_dict(first.state_dict())
    second.set_epoch(epoch)
    assert len(second) == len(batches)
    assert list(second) == batches[cut:]
    second.set_epoch(epoch)
    assert list(second) == batches, "a position holds for one iteration"


def test_orders_differ_between_epochs_and_seeds_and_can_be_repeated():
    def order(seed, epoch):
        return ResumableBatchSampler(50, 8, seed=seed).order(epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert ResumableBatchSampler(5, 2, shuffle=False).order(3).tolist() == [0, 1, 2, 3, 4]


def test_a_position_does_not_hold_for_another_epoch():
    sampler = ResumableBatchSampler(10, 2)
    sampler.load_state_dict({"epoch": 1, "position": 3, "seed": 0, "size": 10, "batch_size": 2})
    sampler.set_epoch(2)
    assert len(list(sampler)) == 5


def test_a_state_saved_between_two_batches_is_that_of_the_next():
    sampler = ResumableBatchSampler(10, 2)
    state = {"epoch": 1, "position": 3, "seed": 0, "size": 10, "batch_size": 2}
    sampler.load_state_dict(state)
    assert sampler.state_dict() == state, "saved again before it goes on"
    assert len(list(sampler)) == 2
    sampler.set_epoch(2)
    assert sampler.state_dict() == {**state, "epoch": 2, "position": 0}, "saved before the first batch of an epoch"


def test_a_state_of_another_order_is_refused():
    sampler = ResumableBatchSampler(10, 2)
    with pytest.raises(ValueError, match="the state has size=11, this sampler 10"):
        sampler.load_state_dict({**sampler.state_dict(), "size": 11})


def test_replicas_share_every_batch():
    whole = list(ResumableBatchSampler(22, 6))
    parts = [list(ResumableBatchSampler(22, 6, rank=rank, num_replicas=3)) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(itertools.chain(*shares)) == sorted(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0, "batch_size": 2}, "received size=0"),
        ({"size": 4, "batch_size": 0}, "batch_size=0"),
        ({"size": 4, "batch_size": 2, "rank": 2, "num_replicas": 2}, "received rank=2; expected 0 to 1"),
        ({"size": 5, "batch_size": 4, "num_replicas": 2}, "has 1 rows, too few for 2 replicas"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResumableBatchSampler(**arguments)


def test_loader_makes_batches_and_keeps_the_samplers_state():
    dataset = SequenceDataset([torch.full((n, 1), float(n)) for n in range(1, 6)], torch.arange(5), list("abcde"))
    loader = BatchLoader(dataset, ResumableBatchSampler(5, 2, shuffle=False))
    assert len(loader) == 3
    iterator = iter(loader)
    assert next(iterator).lengths.tolist() == [1, 2]
    rest = BatchLoader(dataset, ResumableBatchSampler(5, 2, shuffle=False))
    rest.load_state_dict(loader.state_dict())
    assert [batch.labels.tolist() for batch in rest] == [[2, 3], [4]]


def test_the_sampler_serves_a_data_loader_of_torch():
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(6)), batch_sampler=ResumableBatchSampler(6, 4, seed=1)
    )
    assert sorted(torch.cat([batch for (batch,) in loader]).tolist()) == [0, 1, 2, 3, 4, 5]
