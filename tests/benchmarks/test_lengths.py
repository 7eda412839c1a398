import os

import pytest
import torch
from benchmarks.configurations import Shape, cases
from benchmarks.lengths import review_lengths, reviews, reviews_missing, spread_lengths

from benchmarks import lengths as module


@pytest.fixture
def known(monkeypatch, tmp_path):
    """A hundred reviews of 1 to 100 words."""
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "imdb.npz").touch()
    monkeypatch.setattr(module, "review_lengths", lambda: torch.arange(1, 101))


@pytest.mark.usefixtures("known")
def test_a_sample_is_always_the_same_and_cut():
    first, again = reviews(40, 8, 3), reviews(40, 8, 3)
    assert torch.equal(first, again)
    assert first.shape == (3, 8)
    assert int(first.max()) <= 40
    assert int(first.min()) >= 1


def test_without_the_data_such_shapes_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    assert "is not there" in reviews_missing()
    monkeypatch.delenv("UNSPOOL_DATA_DIR")
    assert "UNSPOOL_DATA_DIR" in reviews_missing()
    assert not list(cases(("imdb-400", "imdb-1000")))


@pytest.mark.usefixtures("known")
def test_with_the_data_they_are_there():
    found = list(cases(("imdb-400",)))
    assert {case.lengths for case in found} == {"real"}
    assert {case.kind.name for case in found} == {"LSTM", "GRU", "SimpleRNN"}
    assert found[0].tokens == int(found[0].shape.lengths("real").sum())
    assert 0 < found[0].share < 1
    assert found[0].shortened(40).lengths == "ragged"


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_real_file():
    found = review_lengths()
    assert len(found) == 25_000
    assert round(float(found.float().mean())) == 238
    assert reviews(1000, 32, 2).sum() == 13_835


def test_spread():
    lengths = spread_lengths(100, 18)
    assert sorted(lengths.tolist()) == list(range(15, 101, 5))
    assert Shape("s", 18, 100, 1, 1).lengths("ragged").tolist() == [lengths.tolist()]
    assert Shape("s", 2, 7, 1, 1).lengths("full").tolist() == [[7, 7]]
