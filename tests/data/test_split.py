import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool.data import DataError, grouped_split, stratified_folds


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), min_size=30), st.integers(0, 3))
def test_equal_keys_stay_together(rows, seed):
    keys, labels = [key for key, _ in rows], [label for _, label in rows]
    count = len(set(keys))
    if not 0 < round(0.3 * count) < count:
        return
    kept, held = grouped_split(keys, labels, 0.3, seed=seed)
    assert sorted(kept + held) == list(range(len(rows)))
    assert kept == sorted(kept)
    assert held == sorted(held)
    assert not {keys[row] for row in kept} & {keys[row] for row in held}
    assert len({keys[row] for row in held}) == round(0.3 * count)
    assert (kept, held) == grouped_split(keys, labels, 0.3, seed=seed)


def test_every_class_holds_out_its_share_of_keys():
    keys = [f"{label}{key}" for label in range(3) for key in range(10 * (label + 1)) for _ in range(key % 4 + 1)]
    labels = [int(key[0]) for key in keys]
    _, held = grouped_split(keys, labels, 0.2)
    assert Counter(key[0] for key in {keys[row] for row in held}) == {"0": 2, "1": 4, "2": 6}
    assert held != grouped_split(keys, labels, 0.2, seed=1)[1]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(DataError, match=f"received a share of {share}"):
        grouped_split(["a", "b"], [0, 1], share)


def test_a_share_of_no_key_is_refused():
    with pytest.raises(DataError, match="received held_out=0; expected 1 to 1"):
        grouped_split(["a", "b", "a"], [0, 1, 0], 0.1)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.data())
def test_folds_are_even_in_size_and_classes(labels, data):
    folds = data.draw(st.integers(2, len(labels)))
    result = stratified_folds(torch.tensor(labels), folds, seed=data.draw(st.integers(0, 3))).tolist()
    sizes = [result.count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == len(labels)
    for label, fold in itertools.product(set(labels), range(folds)):
        share = labels.count(label) / folds
        here = sum(a == label and b == fold for a, b in zip(labels, result, strict=True))
        assert abs(here - share) < 1


def test_folds_depend_on_the_seed_alone():
    labels = torch.arange(50) % 2
    assert torch.equal(stratified_folds(labels, 5, seed=3), stratified_folds(labels, 5, seed=3))
    assert not torch.equal(stratified_folds(labels, 5, seed=3), stratified_folds(labels, 5, seed=4))


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_out_of_range_are_refused(folds):
    with pytest.raises(DataError, match=f"received folds={folds}; expected 2 to 4"):
        stratified_folds(torch.tensor([0, 1, 0, 1]), folds)
