"""Figures of several folds become those of one run."""

import pytest
from scripts.experiments import _together


def fold(accuracy, *losses):
    return {"test_accuracy": accuracy, "epoch": 2, "epochs": [{"epoch": 9, "val_loss": loss} for loss in losses]}


def test_a_single_run_stays_as_it_is():
    assert _together([(fold(0.5, 2.0), 7)]) == fold(0.5, 2.0)


def test_folds_count_by_their_rows():
    together = _together([(fold(1.0, 1.0, 2.0), 1), (fold(0.0, 4.0, 5.0), 2)])
    assert together["test_accuracy"] == pytest.approx(1 / 3)
    assert together["epoch"] == 2
    assert together["epochs"] == [
        {"epoch": 1, "val_loss": pytest.approx(3.0)},
        {"epoch": 2, "val_loss": pytest.approx(4.0)},
    ]
