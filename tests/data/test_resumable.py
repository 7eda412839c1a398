"""What all samplers have in common; their own tests say which batches they make."""

import pytest
from torch.utils.data import DataLoader, Dataset

from unspool.data import BucketBatchSampler, ResumableBatchSampler, StreamBatchSampler

SAMPLERS = {
    "rows": lambda size=40: ResumableBatchSampler(size, 6),
    "lengths": lambda size=40: BucketBatchSampler(range(1, size + 1), [9, 20], 5),
    "streams": lambda size=40: StreamBatchSampler(size, 3, 2),
}


class Anything(Dataset):
    """Samples are the indices themselves."""

    def __getitem__(self, index):
        return index


@pytest.fixture(params=SAMPLERS)
def make(request):
    return SAMPLERS[request.param]


def epochs(sampler, count):
    """The batches of each epoch, the epochs named one by one."""
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_every_iteration_is_the_next_epoch_under_any_loader(make, workers):
    sampler, wanted = make(), epochs(make(), 3)
    if workers is None:
        assert [list(sampler) for _ in range(3)] == wanted
    else:
        loader = DataLoader(Anything(), batch_sampler=sampler, num_workers=workers, collate_fn=list)
        assert [list(loader) for _ in range(3)] == wanted
    assert isinstance(sampler, StreamBatchSampler) or wanted[0] != wanted[1] != wanted[2]


def test_an_epoch_that_was_left_is_over_and_a_resumed_one_goes_on(make):
    first, second, third = epochs(make(), 3)
    sampler, resumed = make(), make()
    list(sampler)
    for _ in zip(sampler, range(1), strict=False):
        pass
    resumed.load_state_dict(sampler.state_dict(position=1))
    assert [list(sampler), list(resumed), list(resumed)] == [third, second[1:], third]
    for epoch in (0, 0):
        sampler.set_epoch(epoch)
        assert list(sampler) == first, "the epoch that was asked for, also twice"


def test_a_position_may_be_named(make):
    batches = list(make())
    ahead, sampler = make(), make()
    for _ in zip(ahead, range(4), strict=False):
        pass
    sampler.load_state_dict(ahead.state_dict(position=2))
    assert list(sampler) == batches[2:]
    for position in (-1, len(batches) + 1):
        with pytest.raises(ValueError, match=f"received position={position}; expected 0 to {len(batches)}, the batche"):
            sampler.state_dict(position=position)


def test_two_iterations_do_not_disturb_each_other(make):
    first, second = epochs(make(), 2)
    sampler = make()
    assert list(zip(sampler, sampler, strict=True)) == list(zip(first, second, strict=True))
    assert sampler.state_dict()["position"] == len(first)


def test_a_state_of_another_order_is_refused(make):
    sampler = make()
    for state in (make(41).state_dict(), {"epoch": 0, "position": 1}):
        with pytest.raises(ValueError, match=r"the state has \w+=\w+, this sampler \w+; .* with the same arguments"):
            sampler.load_state_dict(state)
    assert sampler.state_dict()["position"] == 0, "nothing of it was taken"
