"""Ways of batching, on a few rows whose figures can be worked out by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from unspool.comparison import _batching as module
from unspool.comparison._batching import Trainer, compare_batching, evenly
from unspool.comparison._classifiers import ByLengths, Way, _looped, ways
from unspool.comparison._reviews import load_reviews, random_reviews
from unspool.data import DataError

LENGTHS = [1, 1, 2, 2, 2, 60]


@pytest.fixture(scope="module")
def reviews():
    return random_reviews(LENGTHS, seed=0)


@pytest.fixture(scope="module")
def whole(reviews):
    """What a comparison finds in all modes, and what it says."""
    said = []
    return compare(reviews, said), said


def compare(reviews, said=None, sampled=2, only=()):
    report = (lambda _: None) if said is None else said.append
    return compare_batching(reviews, "toys", report, batch=2, size=4, sampled=sampled, seed=0, only=only)


def test_all_modes(whole):
    found, said = whole
    assert said == [f"batching: {mode}" for mode in module.MODES]
    assert (found.source, found.rows, found.maxlen, found.left_out) == ("toys", 6, 60, [])
    by = {(r.mode, r.contender): r for r in found.modes}
    assert len(by) == len(found.modes) == 3 + 4 + 4 + 4 + 3
    # Buckets: five rows of up to 50 steps and one longer; lengths: two rows of 1, three of 2, one of 60.
    counts = {"padded": 3, "bucketed": 4, "same-length": 4, "single": 6, "ragged": 3}
    assert {mode: r.batches for (mode, _), r in by.items()} == counts
    assert all(r.measured_batches == min(r.batches, 8 if r.mode == "single" else 2) for r in found.modes)
    assert all(r.epoch_s > 0 for r in found.modes)


@pytest.mark.parametrize(
    ("only", "taking_part"),
    [
        (("unspool dynamic", "JAX scan"), {"unspool dynamic"}),
        (("torch nn.LSTM, padded",), {"torch nn.LSTM, padded", "torch nn.LSTM, packed"}),
    ],
)
def test_only_those_that_are_named_take_part(reviews, only, taking_part):
    assert {result.contender for result in compare(reviews, only=only).modes} == taking_part


def test_share_of_real_tokens(whole):
    by = {(r.mode, r.contender): r.real_share for r in whole[0].modes}
    tokens = sum(LENGTHS)
    assert {by["padded", name] for name in ("unspool dynamic", "unspool static", "torch nn.LSTM, padded")} == {
        round(tokens / (6 * 60), 4)
    }
    for mode in ("same-length", "single"):
        assert {share for (m, _), share in by.items() if m == mode} == {1.0}
    assert {share for (m, name), share in by.items() if "unspool" in name and m != "padded"} == {1.0}
    assert tokens / (tokens + 2) <= by["bucketed", "torch nn.LSTM, padded"] <= 1.0
    assert by["ragged", "torch nn.LSTM, packed"] == 1.0
    assert ("ragged", "torch nn.LSTM, padded") not in by


def test_static_batches_are_padded_to_a_bound_and_others_to_their_longest_row(reviews):
    def steps(mode, name, rows):
        way = next(way for way in ways(mode) if way.contender == name)
        return Trainer(way, mode, 60, 4).batch(reviews, np.array(rows)).inputs.shape[1]

    assert steps("padded", "unspool dynamic", [0, 2]) == 60
    assert steps("bucketed", "unspool static", [0, 2]) == 50
    assert steps("bucketed", "unspool static", [5]) == 60
    assert steps("bucketed", "unspool dynamic", [0, 2]) == 2
    assert steps("single", "unspool static", [0]) == 60
    assert steps("ragged", "unspool dynamic", [0, 5]) == 60


def test_wrong_numbers_are_left_out(reviews, monkeypatch):
    class Wrong(ByLengths):
        def last(self, x, lengths):
            return super().last(x, lengths) * 1.01

    right = module.ways

    def ways_with_one_wrong(mode, only):
        wrong = Way("wrong", _looped(Wrong), False, False)
        return [wrong, *right(mode, only)] if mode == "ragged" else right(mode, only)

    monkeypatch.setattr(module, "ways", ways_with_one_wrong)
    monkeypatch.setattr(module, "MODES", ("padded", "ragged"))
    found = compare(reviews)
    assert "wrong" not in {result.contender for result in found.modes}
    assert {r.contender for r in found.modes if r.mode == "ragged"} == {way.contender for way in right("ragged")}
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("ragged, wrong: wrong numbers, off by")


def test_all_start_from_the_same_weights(reviews):
    trainers = [Trainer(way, "bucketed", 60, 4) for way in ways("bucketed")]
    for trainer in trainers:
        trainer.model.load_state_dict(trainers[-1].model.state_dict())
    rows = np.array([0, 2, 5])
    losses = torch.stack([trainer.backward(trainer.batch(reviews, rows)) for trainer in trainers])
    assert torch.allclose(losses, losses[0].expand(4), rtol=1e-5)


def test_samples_are_drawn_evenly():
    lengths = np.arange(10)
    batches = [np.array([row]) for row in (3, 1, 9, 0, 2, 4, 8, 6, 7, 5)]
    assert [int(rows[0]) for rows in evenly(batches, lengths, 2)] == [2, 7]
    assert [int(rows[0]) for rows in evenly(batches, lengths, 5)] == [1, 3, 5, 7, 9]
    assert len(evenly(batches, lengths, 100)) == 10


def test_lengths_in_the_package():
    reviews, source = load_reviews(None, 0)
    assert len(reviews) == 25_000
    assert "random words" in source
    assert reviews.lengths.min() == 11
    assert reviews.lengths.max() == 400
    # "cut at 400 tokens, 53 % of a padded batch is real"
    assert round(float(reviews.lengths.sum()) / (25_000 * 400), 2) == 0.53


def test_a_directory_without_imdb(tmp_path):
    with pytest.raises(DataError, match="no IMDB in"):
        load_reviews(tmp_path, 0)


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_lengths_are_those_of_the_real_reviews(decoded, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(decoded))
    real, source = load_reviews(Path(os.environ["UNSPOOL_DATA_DIR"]), 0)
    assert source == "IMDB, 25,000 training reviews cut at 400 steps"
    assert torch.equal(real.lengths.sort().values, load_reviews(None, 0)[0].lengths)
