import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool.data import (
    DataError,
    Sequences,
    counts_of,
    grouped_split,
    split_by_time,
    split_sequences,
    stratified_folds,
)


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


def some_sequences(count=40, **named):
    values = [np.zeros((1 + place % 5, 1)) for place in range(count)]
    return Sequences(values, ("a",), tuple(f"s{place}" for place in range(count)), **named)


def test_parts_have_all_classes_and_no_sequence_twice():
    whole = some_sequences(targets=np.array([0] * 30 + [1] * 10), class_names=("n", "y"))
    parts = split_sequences(whole, {"validation": 0.2, "test": 0.3}, seed=1)
    assert {name: counts_of(part) for name, part in parts.items()} == {
        "train": {"n": 15, "y": 5}, "validation": {"n": 6, "y": 2}, "test": {"n": 9, "y": 3},
    }  # fmt: skip
    assert sorted(sum((part.ids for part in parts.values()), ())) == sorted(whole.ids)
    assert whole.select(parts["test"].ids).ids == parts["test"].ids
    assert split_sequences(whole, {"validation": 0.2, "test": 0.3}, seed=1)["test"].ids == parts["test"].ids


def test_groups_stay_together():
    whole = some_sequences(groups=tuple(f"g{place % 7}" for place in range(40)))
    parts = split_sequences(whole, {"test": 0.3})
    assert len(set(parts["test"].groups or ())) == 2
    assert not set(parts["test"].groups or ()) & set(parts["train"].groups or ())
    for share in (0.01, 0.99, 1.5):
        with pytest.raises(DataError, match=f"a share of {share} for the part 'test' of 7 sequences or groups"):
            split_sequences(whole, {"test": share})


def test_no_part_knows_what_is_later():
    times = [np.arange(0.0, 10), np.arange(4.0, 10), np.arange(0.0, 5)]
    whole = Sequences([time[:, None] + 1 for time in times], ("a",), ("x", "y", "z"), times=times)
    parts = split_by_time(whole, {"validation": 2, "test": 3}, context=1)
    found = {
        name: {one: time.tolist() for one, time in zip(part.ids, part.times or (), strict=True)}
        for name, part in parts.items()
    }
    assert found == {
        "train": {"x": [0, 1, 2, 3, 4], "y": [4], "z": [0, 1, 2, 3, 4]},
        "validation": {"x": [4, 5, 6], "y": [4, 5, 6]},
        "test": {"x": [6, 7, 8, 9], "y": [6, 7, 8, 9]},
    }
    without = Sequences(whole.values, ("a",), ("x", "y", "z"))
    assert split_by_time(without, {"test": 3})["test"].lengths.tolist() == [3, 3, 3]
    with pytest.raises(DataError, match="received 10 steps to hold out of 10; expected fewer"):
        split_by_time(whole, {"test": 10})
    with pytest.raises(DataError, match="expected at least 1 and 0"):
        split_by_time(whole, {"test": 0})
