"""Dropout between the layers of accelerated modules: that of PyTorch's, by seed and by distribution.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import unspool as us
from tests.conformance.cases import covering
from tests.conformance.oracle import leaves_of
from tests.layers.torch_pairs import F64, B, I, T, assert_same, pair, run, state_for, three


@pytest.mark.parametrize(
    "options",
    covering({"name": ["RNN", "LSTM", "GRU"], "batch_first": [False, True], "bidirectional": [False, True]}),
    ids=str,
)
def test_the_seed_gives_the_dropout_that_it_gives_torch(options):
    ours, theirs = pair(layers=3, dropout=0.4, **options)
    x, found = torch.randn(T, T, I, dtype=F64), []
    for module in (ours, ours, theirs):
        torch.manual_seed(5)
        found.append(run(module, x))
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))
    assert_same(found[0], found[2])
    assert not torch.equal(ours(x)[0], ours(x)[0])
    ours.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 3, 1], [2, 5, 3]], ids=str)
@three
def test_the_seed_gives_packed_sequences_the_dropout_that_it_gives_torch(name, lengths):
    ours, theirs = pair(name, 3, bidirectional=True, dropout=0.4)
    packed = pack_padded_sequence(
        torch.randn(T, B, I, dtype=F64), torch.tensor(lengths), enforce_sorted=lengths[0] == T
    )
    hx = state_for(ours)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(5)
        found.append(run(module, packed, hx, list(module.parameters())))
    assert_same(*found)


@three
def test_dropout_has_the_distribution_that_it_has_in_torch(name):
    """Means over 4000 rows that are alike, within 5 standard errors of PyTorch's; layer 0 knows no dropout."""
    ours, theirs = pair(name, dropout=0.3)
    x = torch.randn(T, 1, I, dtype=F64).expand(T, 4000, I)
    with torch.no_grad():
        found = [module(x) for module in (ours, theirs)]
        still = theirs.eval()(x[:, :1])
    (a, first), (b, second) = [(output, leaves_of(state)[0]) for output, state in found]
    errors = ((a.var(1) + b.var(1)) / a.shape[1]).sqrt()
    assert errors.min() > 0
    assert ((a.mean(1) - b.mean(1)).abs() <= 5 * errors).all()
    # A variance has a relative standard error of about sqrt(2 / rows): these are not normal, so a wide bound.
    assert ((a.var(1) / b.var(1)).log().abs() < 0.3).all()
    for state in (first, second):
        torch.testing.assert_close(state[0], leaves_of(still[1])[0][0].expand_as(state[0]))


def test_what_dropout_keeps_is_counted():
    """Ones through weights of ones: the output counts the units that were kept."""
    p, units = 0.276, 1000
    module = nn.RNN(1, units, 2, bias=False, dropout=p, nonlinearity="relu", dtype=F64)
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    us.accelerate(module, backend="native")
    output, state = module(torch.ones(1, 200, 1, dtype=F64))
    torch.testing.assert_close(output.amin(-1), output.amax(-1))
    assert (state[0] == 1).all()
    kept = output[0, :, 0] * (1 - p)
    torch.testing.assert_close(kept, kept.round())
    deviation = (units * p * (1 - p)) ** 0.5
    assert abs(kept.mean() - units * (1 - p)) < 5 * deviation / 200**0.5
    assert 0.7 < kept.std() / deviation < 1.3


@three
def test_dropout_may_change_after_construction(name):
    ours, _ = pair(name)
    x = torch.randn(T, B, I, dtype=F64)
    before = ours(x)[0]
    for p in (0, 0.5, 0, 0.7, 1, 0.2, 0):
        ours.dropout = p
        a, b = ours(x)[0], ours(x)[0]
        assert torch.equal(a, b) == (p in (0, 1))
        assert torch.equal(a, before) == (p == 0)
