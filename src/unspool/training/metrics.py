"""Figures of a test beside its accuracy and its loss, from the test rows."""

import numpy as np
from torch import Tensor

from unspool.training.module import SequenceModule, TestRows
from unspool.training.recipes._recipe import NUMBERS
from unspool.training.sequence_parts import SequenceEncoder


def confusion_of(module: SequenceModule, rows: TestRows) -> list[list[int]] | None:
    """Return how often each class (a row) was taken for each (a column), or None where there are no classes.

    Parameters
    ----------
    module : SequenceModule
        What was tested.
    rows : TestRows
        Its `test_rows`.
    """
    pairs = _classes(module, rows)
    if pairs is None:
        return None
    counts = np.zeros((module.recipe.num_classes,) * 2, np.int64)
    np.add.at(counts, pairs, 1)
    return counts.tolist()


def metrics_of(module: SequenceModule, rows: TestRows) -> dict[str, float]:
    """Return further figures by name.

    Of classes: macro F1, and balanced accuracy, the mean of the recalls; over the classes that are among the true or
    the predicted ones, and the true ones. Of numbers, in the units of the source: root mean squared error and its
    square, mean absolute error, and R2, the coefficient of determination against the mean of the tested; of several
    targets the means over these.

    Parameters
    ----------
    module : SequenceModule
        What was tested.
    rows : TestRows
        Its `test_rows`.
    """
    confusion = confusion_of(module, rows)
    if confusion is not None:
        counts = np.array(confusion)
        right, true, taken = np.diag(counts), counts.sum(1), counts.sum(0)
        scores = 2 * right[true + taken > 0] / (true + taken)[true + taken > 0]
        recalls = right[true > 0] / true[true > 0]
        return {"macro F1": float(scores.mean()), "balanced accuracy": float(recalls.mean())}
    if module.recipe.objective not in NUMBERS or not len(rows.expected):
        return {}
    expected, found = numbers_of(module, rows.expected), numbers_of(module, rows.found)
    squares = np.square(found - expected).mean(0)
    spread = np.square(expected - expected.mean(0)).mean(0)
    figures = {"MSE": squares, "RMSE": np.sqrt(squares), "MAE": np.abs(found - expected).mean(0)}
    if (spread > 0).all():
        figures["R2"] = 1 - squares / spread
    return {name: float(values.mean()) for name, values in figures.items()}


def numbers_of(module: SequenceModule, scaled: Tensor) -> np.ndarray:
    """Return numbers in the units of the source.

    Parameters
    ----------
    module : SequenceModule
        Has the scaling.
    scaled : Tensor of shape (..., K)
        Numbers as the network gives them.
    """
    assert module.tokenizer is not None
    scaling = SequenceEncoder.from_json(module.tokenizer).scaling
    return scaling.restore_targets(scaled.double().cpu().numpy())


def _classes(module: SequenceModule, rows: TestRows) -> tuple[np.ndarray, np.ndarray] | None:
    if len(rows.labels):
        return rows.labels.cpu().numpy(), rows.predicted.cpu().numpy()
    if module.recipe.objective == "class-per-step" and len(rows.expected):
        return rows.expected.long().cpu().numpy(), rows.found.long().cpu().numpy()
    return None
