"""What all samplers have in common; their own tests say which batches they make."""

import pytest

from unspool.data import BucketBatchSampler, ResumableBatchSampler, StreamBatchSampler

SAMPLERS = {
    "rows": lambda size=40: ResumableBatchSampler(size, 6),
    "lengths": lambda size=40: BucketBatchSampler(range(1, size + 1), [9, 20], 5),
    "streams": lambda size=40: StreamBatchSampler(size, 3, 2),
}


@pytest.fixture(params=SAMPLERS)
def make(request):
    return SAMPLERS[request.param]


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
    sampler = make()
    batches = list(sampler)
    assert list(zip(sampler, sampler, strict=True)) == list(zip(batches, batches, strict=True))
    assert sampler.state_dict()["position"] == len(batches)


def test_a_state_of_another_order_is_refused(make):
    sampler = make()
    for state in (make(41).state_dict(), {"epoch": 0, "position": 1}):
        with pytest.raises(ValueError, match=r"the state has \w+=\w+, this sampler \w+; .* with the same arguments"):
            sampler.load_state_dict(state)
    assert sampler.state_dict()["position"] == 0, "nothing of it was taken"
