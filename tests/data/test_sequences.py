import numpy as np
import pytest
import torch

from unspool.data import DataError, Sequences, counts_of


def make(**named):
    values = [np.array([[1.0, 0], [np.nan, 2]]), np.array([[3.0, 1]]), np.array([[4.0, 1], [5, 2], [6, 2]])]
    options = {"categories": {"kind": ("p", "q")}, "groups": ("g", "h", "g"), **named}
    return Sequences(values, ("a", "kind"), ("x", "y", "z"), **options)


def test_some_of_the_sequences_keep_all_that_belongs_to_them():
    times = [np.array([1.0, 2]), np.array([5.0]), np.array([1.0, 2, 3])]
    whole = make(times=times, targets=[time > 1.5 for time in times], class_names=("no", "yes"))
    assert (len(whole), whole.numeric, whole.per_step, whole.lengths.tolist()) == (3, [0], True, [2, 1, 3])
    assert whole.missing == {"a": 1, "kind": 1}
    some = whole.select(["z", "x"])
    assert (some.ids, some.groups) == (("z", "x"), ("g", "g"))
    cut = some.cut([1, 2], [3, 3])
    assert (cut.ids, cut.values[0].tolist()) == (("z",), [[5, 2], [6, 2]])
    assert cut.times is not None
    assert isinstance(cut.targets, list)
    assert (cut.times[0].tolist(), cut.targets[0].tolist()) == ([2, 3], [True, True])
    with pytest.raises(DataError, match="there is no sequence 'w'; the data are others than those that were split"):
        whole.select(["w"])


def test_a_category_is_a_value():
    kinds = {"kind": ("p", "q")}
    assert Sequences([np.array([[np.nan, 1]])], ("a", "kind"), ("x",), kinds).missing == {"a": 1}


def test_samples_for_a_model():
    whole = make(targets=np.array([1, 0, 1]), class_names=("no", "yes"))
    assert counts_of(whole) == {"no": 1, "yes": 2}
    dataset = whole.subset([2, 1]).dataset()
    assert (dataset[0][0].dtype, dataset.labels.tolist(), dataset.class_names) == (torch.float32, [1, 0], ("no", "yes"))
    with pytest.raises(DataError, match="numbers are missing in 'a', 'kind'; fill them"):
        whole.dataset()
    numbers = make(targets=[np.array([[0.5], [1]]), np.array([[2.0]]), np.zeros((3, 1))]).subset([1, 2]).dataset()
    assert numbers[0][1].tolist() == [[2]]
    assert make().subset([1]).dataset()[0][1] is None
    with pytest.raises(DataError, match="the targets are no classes"):
        counts_of(make())


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ([], {}, "received no sequences"),
        ([np.zeros((0, 1))], {}, "sequence 'x' has no steps; expected at least one"),
        ([np.zeros((2, 2))], {}, r"sequence 'x' has shape \(2, 2\) and type float64; expected \(steps, 1\)"),
        ([np.zeros((2, 1), int)], {}, "type int64; expected"),
        ([np.array([[0.0], [-np.inf]])], {}, "sequence 'x', step 2: 'a' is -inf; expected a finite number"),
        ([np.full((2, 1), np.nan)], {}, "sequence 'x' has no value in any feature at any step"),
        ([np.zeros((2, 1))], {"times": [np.zeros(3)]}, "sequence 'x' has 2 steps and 3 times"),
        ([np.zeros((2, 1))], {"targets": [np.zeros(3)]}, "sequence 'x' has 2 steps and 3 targets"),
        ([np.zeros((2, 1))], {"targets": np.zeros(3)}, "received 1 sequences and 3 targets"),
    ],
)
def test_what_does_not_fit_is_refused(values, named, message):
    with pytest.raises(DataError, match=message):
        Sequences(values, ("a",), tuple("xyz"[: len(values)]), **named)
