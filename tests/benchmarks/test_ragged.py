import pytest
import torch

from benchmarks import ragged


@pytest.fixture(autouse=True)
def without_reviews(monkeypatch):
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


@pytest.mark.parametrize("sequences", [True, False])
def test_both_contenders_compute_the_same(sequences):
    batch = ragged.example(6)
    grads = []
    for name in ragged.CONTENDERS:
        torch.manual_seed(0)
        grads.append(ragged.runner(name, sequences, batch, train=True)())
    assert len(grads[0]) == 5
    assert all(map(torch.equal, *grads))


def test_both_are_timed():
    taken = ragged.milliseconds(ragged.example(3), sequences=True, train=False, rounds=1)
    assert list(taken) == ["ragged", "padded"]
    assert all(ms > 0 for ms in taken.values())
