"""What the model made of the test rows: which classes it confuses, and how its accuracy goes with length."""

import math
from typing import Any

import numpy as np

from unspool.report._blocks import Block, Figure, Table, Text, escape
from unspool.report._figures import ABSENT, new_figure
from unspool.report._plotly import graph_objects
from unspool.report._run_files import Predictions
from unspool.report._style import BLUE

BINS = 8
NORMAL_95 = 1.96


def confusion_counts(predictions: Predictions, classes: int) -> np.ndarray:
    """Return how often each true class (rows) was taken for each class (columns), of shape (C, C)."""
    assert predictions.labels is not None
    assert predictions.predicted is not None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (predictions.labels, predictions.predicted), 1)
    return counts


def confusion_blocks(predictions: Predictions, class_names: list[str]) -> list[Block]:
    """Return the confusion matrix as a figure, and a table with recall and precision of every class.

    Parameters
    ----------
    predictions : Predictions
        With labels; none beyond the names.
    class_names : list of str
        The names of the classes.
    """
    counts = confusion_counts(predictions, len(class_names))
    caption = "A row for every true class, a column for every predicted one; the colour is the share of the row."
    return [_confusion_figure(counts, class_names, caption), _class_table(counts, class_names)]


def _confusion_figure(counts: np.ndarray, class_names: list[str], caption: str) -> Figure:
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [escape(name) for name in class_names]
    order = list(range(len(names)))  # axes are numbered, since two classes may have one name
    hover = [
        [f"true: {names[t]}<br>predicted: {names[p]}<br>{counts[t, p]:,} of {totals[t, 0]:,} ({shares[t, p]:.1%})"
         for p in order]
        for t in order
    ]  # fmt: skip
    cell = 64 if len(names) <= 4 else 36
    labels = [_short(name) for name in class_names]
    beside = 7 * max(map(len, labels))  # pixels
    rotated = beside > cell
    below = 60 + (beside if rotated else 0)
    figure = new_figure(x_title="predicted", y_title="true", height=cell * len(names) + below + 40)
    figure.add_trace(
        graph_objects().Heatmap(
            x=order, y=order, z=shares.tolist(), zmin=0, zmax=1, xgap=1, ygap=1, showscale=False,
            colorscale=[[0, "rgba(0,132,208,0.04)"], [0.02, "rgba(0,132,208,0.2)"], [1, "rgba(0,132,208,0.8)"]],
            text=[[f"{count:,}" if count else "" for count in row] for row in counts.tolist()],
            texttemplate="%{text}", customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    axis: dict[str, Any] = {
        "tickvals": order,
        "ticktext": [escape(label) for label in labels],
        "showgrid": False,
        "zeroline": False,
    }
    figure.update_xaxes(**axis, tickangle=-45 if rotated else 0)
    figure.update_yaxes(**axis, autorange="reversed")
    figure.update_layout(margin={"b": below})
    width = beside + 80 + cell * len(names)
    return Figure(figure, "Confusion", caption, min_width=width, max_width=2 * width)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _class_table(counts: np.ndarray, class_names: list[str]) -> Table:
    def share(part: int, whole: int) -> str:
        return f"{part / whole:.3f}" if whole else ABSENT

    rows = []
    for index, name in enumerate(class_names):
        right, total, taken = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
        wrong = counts[index].copy()
        wrong[index] = 0
        worst = f"{class_names[int(wrong.argmax())]} ({int(wrong.max()):,})" if wrong.any() else ABSENT
        rows.append((name, f"{total:,}", share(right, total), share(right, taken), worst))
    return Table(rows, ("class", "test rows", "recall", "precision", "most often taken for"), numbers=(1, 2, 3))


def length_block(predictions: Predictions) -> Block:
    """Return how the share of right answers goes with the length of a row; a sentence where all are equally long.

    Parameters
    ----------
    predictions : Predictions
        With at least one row.
    """
    lengths, correct = predictions.lengths, predictions.correct
    if lengths.min() == lengths.max():
        return Text(f"All {len(lengths):,} test rows have {int(lengths[0]):,} steps.")
    scored = predictions.numbers
    names, means, above, below, hover = [], [], [], [], []
    for low, high in length_bins(lengths):
        inside = correct[(lengths >= low) & (lengths <= high)].astype(np.float64)
        mean = float(inside.mean())
        least, most = (mean, mean) if scored else wilson_interval(mean, len(inside))
        name = f"{low:,}" if low == high else f"{low:,}-{high:,}"
        names.append(name)
        means.append(mean)
        above.append(most - mean)
        below.append(mean - least)
        sure = "" if scored else f", 95 %: {least:.3f} to {most:.3f}"
        hover.append(f"{name} steps: {mean:.4f}{'' if scored else ' right'}<br>{len(inside):,} rows{sure}")
    title = "1 - squared error (of standardised targets), at least 0" if scored else "share of right answers"
    figure = new_figure(x_title="steps", y_title=title, height=320)
    figure.add_trace(
        graph_objects().Scatter(
            x=names, y=means, customdata=hover, hovertemplate="%{customdata}<extra></extra>", mode="markers",
            marker={"color": BLUE[0], "size": 10}, name="right answers",
            error_y={"type": "data", "array": above, "arrayminus": below, "color": BLUE[0], "width": 6},
        )
    )  # fmt: skip
    figure.update_xaxes(type="category")
    caption = "Groups of about as many test rows each"
    caption += "." if scored else "; the lines are Wilson's 95 % intervals."
    return Figure(figure, "Length and score" if scored else "Length and accuracy", caption)


def length_bins(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Return up to eight ranges of lengths (first, last) that hold about as many rows each, and every row once.

    Parameters
    ----------
    lengths : array of shape (R,)
        At least one length.
    """
    values, counts = np.unique(lengths, return_counts=True)
    # The bin of a length: which eighth of the rows its middle row falls into.
    middle = np.cumsum(counts) - counts / 2
    bins = np.minimum((middle * BINS / len(lengths)).astype(np.int64), BINS - 1)
    return [(int(values[bins == number][0]), int(values[bins == number][-1])) for number in np.unique(bins)]


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share observed on `count` rows."""
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
