import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool.data import (
    BatchLoader,
    BucketBatchSampler,
    SameLengthBatchSampler,
    SequenceDataset,
    bucket_boundaries,
)
from unspool.data._shard import divide, full_steps

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=60)
BOUNDARIES = st.lists(st.integers(1, 30), max_size=5, unique=True).map(sorted)
EPOCHS = st.integers(0, 3)


@st.composite
def arguments(draw):
    """A sampler's class and arguments, of any kind."""
    lengths = draw(LENGTHS)
    budget = {"tokens_per_batch": draw(st.integers(max(1, *lengths), 90))}
    shared = {"shuffle": draw(st.booleans()), "seed": draw(st.integers(0, 3))}
    kind = draw(st.sampled_from(["bucket", "bucket budget", "same", "same budget"]))
    if kind == "bucket":
        bounds = draw(BOUNDARIES)
        sizes = draw(st.lists(st.integers(1, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
        return BucketBatchSampler, (lengths, bounds, sizes), shared
    if kind == "bucket budget":
        return BucketBatchSampler, (lengths, draw(BOUNDARIES)), {**budget, **shared}
    if kind == "same":
        return SameLengthBatchSampler, (lengths, draw(st.integers(1, 9))), shared
    return SameLengthBatchSampler, (lengths,), {**budget, **shared}


def make(case, **more):
    kind, positional, named = case
    return kind(*positional, **named, **more)


def test_the_largest_batch_is_halved_until_all_have_one():
    halves = full_steps([np.arange(8), np.arange(8, 10)], 5)
    assert sorted(map(len, halves)) == [2, 2, 2, 2, 2]
    assert sorted(np.concatenate(halves).tolist()) == list(range(10))


@given(arguments(), EPOCHS)
def test_every_row_comes_once_an_epoch_in_batches_within_bounds_and_budget(case, epoch):
    sampler = make(case)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(sampler.size))
    assert all(batches)
    assert len(batches) == len(sampler)
    for batch in batches:
        steps = sampler.lengths[batch]
        if sampler.tokens_per_batch is not None:
            assert len(batch) * steps.max() <= sampler.tokens_per_batch
        if isinstance(sampler, SameLengthBatchSampler):
            assert len(set(steps.tolist())) == 1
        else:
            buckets = set(np.searchsorted(sampler.boundaries, steps, side="right").tolist())
            assert len(buckets) == 1
            if sampler.tokens_per_batch is None:
                assert len(batch) <= case[1][2][buckets.pop()]


@given(arguments(), EPOCHS, st.data())
def test_an_interrupted_epoch_continues_with_the_next_batch(case, epoch, data):
    whole = make(case)
    whole.set_epoch(epoch)
    batches = list(whole)
    cut = data.draw(st.integers(0, len(batches)))
    first = make(case)
    first.set_epoch(epoch)
    assert list(itertools.islice(iter(first), cut)) == batches[:cut]
    second = make(case)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict(), "saved again before it goes on"
    second.set_epoch(epoch)
    assert len(second) == len(batches)
    assert list(second) == batches[cut:]
    second.set_epoch(epoch)
    assert list(second) == batches, "a position holds for one iteration"
    second.load_state_dict(whole.state_dict(position=cut))
    assert list(second) == batches[cut:]
    second.load_state_dict(first.state_dict())
    second.set_epoch(epoch + 1)
    assert second.state_dict()["position"] == 0
    assert len(list(second)) == len(batches), "a position does not hold for another epoch"


@given(arguments(), EPOCHS, st.integers(2, 4), st.booleans())
def test_replicas_have_equally_many_batches_that_are_disjoint_and_leave_nothing(case, epoch, replicas, drop):
    try:
        samplers = [make(case, rank=rank, num_replicas=replicas, drop_uneven=drop) for rank in range(replicas)]
    except ValueError as error:
        assert "too few" in str(error)  # noqa: PT017
        return
    for sampler in samplers:
        sampler.set_epoch(epoch)
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(samplers[0])] * replicas
    rows = sorted(itertools.chain(*itertools.chain(*parts)))
    alone = make(case)
    if drop:
        assert len(rows) == len(set(rows))
        assert len(alone) - replicas < len(samplers[0]) * replicas <= len(alone)
    else:
        assert rows == list(range(alone.size))
    tokens = np.array([[int(alone.lengths[batch].sum()) for batch in part] for part in parts])
    assert np.ptp(tokens.sum(axis=1)) <= np.ptp(tokens), "totals differ by no more than two batches do"
    assert np.ptp(tokens, axis=0).sum() <= np.ptp(tokens), "nor do the steps' ranges together"


def test_replicas_resume_from_the_state_of_any_of_them():
    def replica(rank):
        return BucketBatchSampler(range(1, 40), [10, 20], 4, rank=rank, num_replicas=2)

    saved = replica(0)
    next(iter(saved))
    other = replica(1)
    other.load_state_dict(saved.state_dict())
    assert list(other) == list(replica(1))[1:]


def test_batches_that_fill_no_step_are_halved_or_left_out():
    lengths = [5] * 7
    halved = [list(SameLengthBatchSampler(lengths, 3, rank=rank, num_replicas=2)) for rank in range(2)]
    assert sorted(len(batch) for part in halved for batch in part) == [1, 1, 2, 3]
    left = [list(SameLengthBatchSampler(lengths, 3, rank=rank, num_replicas=2, drop_uneven=True)) for rank in range(2)]
    assert [len(part) for part in left] == [1, 1]
    with pytest.raises(ValueError, match=r"7 rows in 7 batches for 2 replicas: too few .* drop_uneven=True"):
        SameLengthBatchSampler(lengths, 1, num_replicas=2)
    assert len(SameLengthBatchSampler(lengths, 1, num_replicas=2, drop_uneven=True)) == 3


def test_what_is_left_out_changes_with_the_epoch():
    sampler = SameLengthBatchSampler([5] * 7, 1, num_replicas=2, drop_uneven=True)
    other = SameLengthBatchSampler([5] * 7, 1, rank=1, num_replicas=2, drop_uneven=True)
    missing = set()
    for epoch in range(20):
        rows = np.concatenate(sampler.batches(epoch) + other.batches(epoch)).tolist()
        missing |= set(range(7)) - set(rows)
    assert len(missing) > 1


def test_orders_differ_between_epochs_and_seeds_and_can_be_repeated():
    def batches(seed, epoch):
        sampler = BucketBatchSampler(range(1, 60), [20, 40], 8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 0) == batches(0, 0)
    assert len({str(batches(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert list(BucketBatchSampler([9, 1, 9, 1, 1], [5], 2, shuffle=False)) == [[1, 3], [4], [0, 2]]
    assert sorted(SameLengthBatchSampler([3, 1, 2], 1)) == [[0], [1], [2]]


def test_a_row_as_long_as_a_boundary_is_in_the_bucket_above():
    assert list(BucketBatchSampler([4, 5, 6], [5], 9, shuffle=False)) == [[0], [1, 2]]


def test_a_state_of_another_order_is_refused():
    state = BucketBatchSampler([1, 2, 3], [2], 2).state_dict()
    for other, name in [
        (BucketBatchSampler([1, 2, 3], [2], 2, seed=1), "seed=0"),
        (BucketBatchSampler([1, 2, 3], [2], 2, num_replicas=1, shuffle=False), "shuffle=True"),
        (BucketBatchSampler([1, 3, 2], [2], 2), "batching="),
        (BucketBatchSampler([1, 2, 3], [3], 2), "batching="),
    ]:
        with pytest.raises(ValueError, match=f"the state has {name}"):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="received position=4; expected 0 to 2"):
        BucketBatchSampler([1, 2, 3], [2], 2).state_dict(position=4)


@pytest.mark.parametrize(
    ("kind", "positional", "named", "message"),
    [
        (BucketBatchSampler, ([], [2], 1), {}, r"lengths of shape \(0,\)"),
        (BucketBatchSampler, ([1.5], [2], 1), {}, "type float64; expected"),
        (BucketBatchSampler, ([-1], [2], 1), {}, "a length of -1"),
        (BucketBatchSampler, ([1], [2, 2], 1), {}, r"boundaries=\[2, 2\]; expected ascending"),
        (BucketBatchSampler, ([1], [0], 1), {}, "expected ascending whole numbers from 1"),
        (BucketBatchSampler, ([1], [2], [1]), {}, "received 1 batch sizes; expected 2"),
        (BucketBatchSampler, ([1], [2], [1, 0]), {}, "a batch size of 0"),
        (BucketBatchSampler, ([1], [2]), {}, "both or none"),
        (BucketBatchSampler, ([1], [2], 1), {"tokens_per_batch": 3}, "both or none"),
        (BucketBatchSampler, ([1, 9], [2]), {"tokens_per_batch": 8}, "tokens_per_batch=8 and a row of 9 steps"),
        (SameLengthBatchSampler, ([0],), {"tokens_per_batch": 0}, "tokens_per_batch=0"),
        (SameLengthBatchSampler, ([1], 0), {}, "a batch size of 0"),
        (SameLengthBatchSampler, ([1], 1), {"rank": 2, "num_replicas": 2}, "received rank=2; expected 0 to 1"),
        (SameLengthBatchSampler, ([1], 1), {"num_replicas": 2, "drop_uneven": True}, "too few"),
    ],
)
def test_bad_arguments_are_refused(kind, positional, named, message):
    with pytest.raises(ValueError, match=message):
        kind(*positional, **named)


def test_the_batch_loader_and_torchs_with_a_worker_take_the_same_batches():
    dataset = SequenceDataset(
        [torch.full((n, 1), float(n)) for n in range(1, 12)], torch.arange(11), list("abcdefghijk")
    )
    sampler = BucketBatchSampler(dataset.lengths, [4, 8], 3, seed=2)
    here = [batch.labels.tolist() for batch in BatchLoader(dataset, sampler)]
    sampler.set_epoch(0)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(11)), batch_sampler=sampler, num_workers=1
    )
    batches = iter(loader)
    assert [next(batches)[0].tolist() for _ in range(2)] == here[:2]
    state = sampler.state_dict(position=2)
    assert sampler.state_dict()["position"] > 2, "workers fetch ahead"
    assert [batch.tolist() for (batch,) in batches] == here[2:]
    sampler.load_state_dict(state)
    assert [batch.tolist() for (batch,) in loader] == here[2:]


def test_the_largest_batch_of_a_step_goes_to_the_process_with_the_least_so_far():
    tokens = np.array([10, 7, 6, 1])
    steps = divide(tokens, 2)
    assert sorted(tokens[steps].sum(0).tolist()) == [11, 13]


def test_boundaries_by_default_hold_equally_many_sequences():
    lengths = np.random.default_rng(0).geometric(0.01, 1600)
    sampler = BucketBatchSampler(lengths, batch_sizes=10)
    assert list(sampler.boundaries) == bucket_boundaries(lengths)
    counts = np.bincount(np.searchsorted(sampler.boundaries, lengths, side="right"))
    assert len(counts) == 16
    assert counts.min() > 80
    assert bucket_boundaries([7, 7, 7]) == [7]
    assert bucket_boundaries([0, 0]) == bucket_boundaries([1, 2], 1) == []
    with pytest.raises(ValueError, match="received buckets=0"):
        bucket_boundaries([1], 0)
