import pytest
import torch
from benchmarks.configurations import KINDS, Case, Shape
from benchmarks.memory import MIB, NUMBER, kept_bytes, kept_features, one_batch, peak_over, results_bytes, unmeasurable

SHAPE = Shape("small", batch=4, steps=10, inputs=3, hidden=5)
KIND = {kind.name: kind for kind in KINDS}


@pytest.mark.parametrize(("name", "widths"), [("LSTM", 6), ("GRU", 5), ("SimpleRNN", 1)])
def test_what_plans_keep(name, widths):
    """h, c and four gates; h, three gates and the recurrent product of one; h. Plans may keep less one day."""
    assert 0 < kept_features(KIND[name], 3, 5) <= widths * 5


def test_formulas():
    full, ragged = (Case(SHAPE, KIND["SimpleRNN"], lengths, "train") for lengths in ("full", "ragged"))
    parameters = 5 * 3 + 5 * 5 + 5 + 5
    assert kept_bytes(full) == NUMBER * 40 * kept_features(KIND["SimpleRNN"], 3, 5)
    assert kept_bytes(ragged) / kept_bytes(full) == ragged.tokens / 40
    assert results_bytes(full) == NUMBER * (40 * 3 + parameters)
    assert results_bytes(ragged) == NUMBER * (40 * (3 + 5) + parameters)


def test_every_kind_has_a_plan():
    assert all(kept_features(kind, 3, 5) > 0 for kind in KINDS)


def test_one_batch():
    many = Case(Shape("reviews", 4, 10, 3, 5, reviews=2), KIND["LSTM"], "real", "train")
    assert one_batch(many).shape.reviews == 1
    assert one_batch(Case(SHAPE, KIND["LSTM"], "full", "train")).shape == SHAPE


@pytest.mark.skipif(unmeasurable() != "", reason=unmeasurable())
def test_the_peak_counts_what_is_let_go_before_the_end():
    def run():
        first = torch.ones(40 * MIB // NUMBER)
        del first
        return torch.ones(10 * MIB // NUMBER)

    run()
    for _ in range(2):
        assert 39 <= peak_over(run) / MIB <= 60
