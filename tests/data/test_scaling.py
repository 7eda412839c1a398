import json

import numpy as np
import pytest

from unspool.data import DataError, Scaling, Sequences

GAP = np.nan


def make(*arrays, **named):
    options = {"categories": {"kind": ("p", "q")}, **named}
    return Sequences(
        [np.array(array) for array in arrays], ("a", "same", "kind"), tuple("xyz"[: len(arrays)]), **options
    )


TRAIN = make([[1.0, 5, 1], [3, 5, 2]], [[GAP, 5, 0], [5.0, 5, 1], [GAP, 5, 1]])


def test_features_are_standardised_by_the_training_part_alone():
    scaling = Scaling.fit(TRAIN)
    assert (scaling.constant, scaling.means, scaling.scales[1:]) == (("same",), (3, 5, 0), (1, 1))
    both = np.concatenate(scaling.apply(TRAIN).values)
    np.testing.assert_allclose(both[[0, 1, 3], 0], (np.array([1, 3, 5]) - 3) / np.std([1, 3, 5]), rtol=1e-6)
    assert both[:, 1].tolist() == [0] * 5, "a constant"
    assert both[:, 2].tolist() == [1, 2, 0, 1, 1], "codes stay as they are"
    other = scaling.apply(make([[3 + scaling.scales[0], 6.0, 1]]))
    assert other.values[0].tolist() == [[1, 1, 1]]
    assert other.values[0].dtype == np.float32


@pytest.mark.parametrize(
    ("missing", "filled"),
    [("mean", [0, 1, 0]), ("zero", [-3 / np.std([1, 3, 5]), 1, -3 / np.std([1, 3, 5])]), ("forward", [0, 1, 1])],
)
def test_gaps_are_filled(missing, filled):
    scaling = Scaling.fit(TRAIN, missing)
    step = 3 + scaling.scales[0]
    found = scaling.apply(make([[GAP, 5, 0], [step, 5.0, 1], [GAP, 5, 1]])).values[0]
    np.testing.assert_allclose(found[:, 0], filled, rtol=1e-6)


def test_gaps_have_features_of_their_own():
    scaling = Scaling.fit(TRAIN, "mask")
    found = scaling.apply(TRAIN)
    assert found.features == ("a", "same", "kind", "missing a")
    assert found.values[1][:, 3].tolist() == [1, 0, 1]
    assert found.dataset().input_size == 4


def test_targets_go_there_and_back():
    numbers = make([[1.0, 5, 1]], [[2.0, 5, 1]], targets=np.array([[1.0, 7], [3, 7]]), target_names=("u", "v"))
    scaling = Scaling.fit(numbers)
    scaled = scaling.apply(numbers)
    assert isinstance(scaled.targets, np.ndarray)
    assert scaled.targets.tolist() == [[-1, 0], [1, 0]]
    assert scaling.restore_targets(scaled.targets).tolist() == [[1, 7], [3, 7]]
    steps = make([[1.0, 5, 1], [2, 5, 1]], targets=[np.array([4.0, 6])])
    found = Scaling.fit(steps)
    targets = found.apply(steps).targets
    assert isinstance(targets, list)
    assert targets[0].tolist() == [-1, 1]
    assert found.restore_targets(np.zeros((2, 3, 1))).tolist() == np.full((2, 3, 1), 5).tolist()
    classes = make([[1.0, 5, 1]], [[2.0, 5, 1]], targets=np.array([0, 1]), class_names=("n", "y"))
    assert Scaling.fit(classes).apply(classes).targets is classes.targets
    with pytest.raises(DataError, match="the targets of the training part are no numbers"):
        Scaling.fit(classes).restore_targets(np.zeros(1))


def test_a_checkpoint_may_hold_it():
    scaling = Scaling.fit(TRAIN, "mask")
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling
    for content in ({}, {**scaling.to_dict(), "more": 1}, {**scaling.to_dict(), "means": [1.0]}, None):
        with pytest.raises(DataError, match=r"received no scaling|a damaged scaling"):
            Scaling.from_dict(content)  # type: ignore[arg-type]


def test_what_cannot_be_scaled_is_refused():
    with pytest.raises(DataError, match="received missing='drop'; expected one of zero, mean, forward, mask"):
        Scaling.fit(TRAIN, "drop")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="every feature is constant in the training part"):
        Scaling.fit(make([[1.0, 5, 1], [1, 5, 1]]))
    with pytest.raises(DataError, match="received the features 'b'; expected 'a', 'same', 'kind'"):
        Scaling.fit(TRAIN).apply(Sequences([np.zeros((1, 1))], ("b",), ("x",)))
    with pytest.raises(
        DataError, match="received 'a', 'same', 'kind' as numbers; expected 'a', 'same', as in the trai"
    ):
        Scaling.fit(TRAIN).apply(make([[1.0, 5, 1]], categories={}))
