"""Learning curves, of one run and of several with different seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from unspool.report._blocks import Figure
from unspool.report._figures import new_figure, wants_logarithm
from unspool.report._plotly import graph_objects
from unspool.report._run_files import RunFiles
from unspool.report._style import BLUE, GREEN, GREY, VERMILION
from unspool.training.errors import RunError

TRAINING, HELD_OUT, TEST = VERMILION[0], BLUE[0], GREEN[0]


def run_figures(run: RunFiles) -> list[Figure]:
    """Return the learning curves of one run: loss, accuracy, and the learning rate where it changes.

    Parameters
    ----------
    run : RunFiles
        The run, with at least one row in its log.
    """
    x_title = "epoch" if run.epochs else "step"
    position = _positions(run)
    figures = [_loss(run, position, x_title)]
    if any("train_accuracy" in row or "val_accuracy" in row for row in run.epochs):
        figures.append(_accuracy(run))
    rates = [row["learning_rate"] for row in run.log if "learning_rate" in row]
    if len(set(rates)) > 1:
        figure = new_figure(x_title=x_title, y_title="learning rate", height=260)
        _line(figure, "learning rate", position, [row.get("learning_rate") for row in run.log], GREY[0], "lines")
        figures.append(Figure(figure, "Learning rate"))
    return figures


def _positions(run: RunFiles) -> list[float]:
    """Return where each row of the log stands, in epochs; in steps, while no epoch has ended."""
    steps = [row["step"] for row in run.log]
    ends = [row["step"] for row in run.epochs]
    if not ends:
        return steps
    last = ends[-1] - (ends[-2] if len(ends) > 1 else 0)  # an epoch that has not ended is taken to be as long
    known = [0, *ends, ends[-1] + max(last, 1)]
    return np.interp(steps, known, range(len(known))).tolist()


def _loss(run: RunFiles, position: list[float], x_title: str) -> Figure:
    shown = ("loss", "train_loss", "val_loss")
    values = [row[name] for row in run.log for name in shown if name in row]
    log = wants_logarithm(values)
    finite = [value for value in values if math.isfinite(value)]
    y_title = "loss, logarithmic" if log else "loss"
    figure = new_figure(x_title=x_title, y_title=y_title, log_y=finite if log else ())
    steps = [(at, row["loss"]) for at, row in zip(position, run.log, strict=True) if "loss" in row]
    _line(figure, "training, single steps", *_columns(steps), GREY[2], "lines", width=1)
    for name, title, colour in (("train_loss", "training", TRAINING), ("val_loss", "held out", HELD_OUT)):
        _line(figure, title, *_of_epochs(run, name), colour)
    _mark(figure, run, "test_loss")
    broken = [row for row in run.log if any(not np.isfinite(row.get(name, 0.0)) for name in shown)]
    caption = f"From step {broken[0]['step']:g} on, losses are not finite; those are left out." if broken else ""
    return Figure(figure, "Loss", caption)


def _accuracy(run: RunFiles) -> Figure:
    figure = new_figure(x_title="epoch", y_title="accuracy")
    for name, title, colour in (("train_accuracy", "training", TRAINING), ("val_accuracy", "held out", HELD_OUT)):
        _line(figure, title, *_of_epochs(run, name), colour)
    _mark(figure, run, "test_accuracy")
    return Figure(figure, "Accuracy")


def _of_epochs(run: RunFiles, name: str) -> tuple[list[float], list[float]]:
    return _columns([(row["epoch"], row[name]) for row in run.epochs if name in row])


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _line(
    figure: Any, name: str, x: Sequence[float], y: Sequence[float | None], colour: str, mode: str = "lines+markers",
    *, width: float = 2, legend: bool = True, **where: int,
) -> None:  # fmt: skip
    if not len(x):
        return
    trace = graph_objects().Scatter(
        x=x, y=y, name=name, legendgroup=name, showlegend=legend, mode=mode, line={"color": colour, "width": width},
        marker={"size": 6, "color": colour}, hovertemplate="%{fullData.name}, %{x:.3~f}: %{y:.4~f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(trace, **where)


def _mark(figure: Any, run: RunFiles, name: str) -> None:
    """Mark the figure of the test at the epoch whose weights were tested."""
    if run.result is None or not isinstance(run.result.get(name), int | float):
        return
    figure.add_trace(
        graph_objects().Scatter(
            x=[run.result.get("epoch")], y=[run.result[name]], name="test", mode="markers",
            marker={"symbol": "star", "size": 14, "color": TEST},
            hovertemplate="test, weights of epoch %{x}: %{y:.4~f}<extra></extra>",
        )
    )  # fmt: skip


def recipe_figure(curves: dict[str, Any]) -> Figure:
    """Return the learning curves of a recipe, loss beside accuracy, one line for every seed.

    Parameters
    ----------
    curves : dict
        ``{"recipe": str, "runs": [{"seed": int, "epoch": int, "test_accuracy": float, "epochs": [{"epoch",
        "train_loss", "val_loss", "train_accuracy", "val_accuracy"}]}]}``; a value may be None or absent. A run's
        ``epoch`` is the one whose weights were tested, by default the last.

    Returns
    -------
    Figure
        The figure, with the recipe's name as its title.

    Raises
    ------
    RunError
        If the curves are none, or Plotly is not installed.
    """
    try:
        runs = [run["epochs"] for run in curves["runs"]]
        losses = [epoch.get(name) for epochs in runs for epoch in epochs for name in ("train_loss", "val_loss")]
        tests = [
            (run.get("epoch", run["epochs"][-1]["epoch"]), run["test_accuracy"])
            for run in curves["runs"]
            if run["epochs"] and run.get("test_accuracy") is not None
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f'no learning curves: {error!r}; expected {{"recipe", "runs": [{{"epochs"}}]}}') from error
    values = [loss for loss in losses if loss is not None]
    figure = new_figure(x_title="epoch", y_title="loss", log_y=values if wants_logarithm(values) else ())
    figure.update_layout(
        xaxis={"domain": [0, 0.45]},
        xaxis2={"domain": [0.57, 1], "title": {"text": "epoch", "standoff": 8}, "anchor": "y2", "tickformat": ",~g"},
        yaxis2={"title": {"text": "accuracy", "standoff": 8}, "anchor": "x2", "tickformat": ",~g"},
    )
    for panel in ("loss", "accuracy"):
        for part, title, colour in (("train", "training", TRAINING), ("val", "held out", HELD_OUT)):
            for number, epochs in enumerate(runs):
                rows = [epoch for epoch in epochs if epoch.get(f"{part}_{panel}") is not None]
                _line(
                    figure, title, [row["epoch"] for row in rows], [row[f"{part}_{panel}"] for row in rows], colour,
                    "lines", width=1.5, legend=panel == "loss" and number == 0,
                )  # fmt: skip
                if rows and panel == "accuracy":
                    figure.data[-1].update(xaxis="x2", yaxis="y2")
    if tests:
        figure.add_trace(
            graph_objects().Scatter(
                x=[x for x, _ in tests], y=[y for _, y in tests], xaxis="x2", yaxis="y2", name="test", mode="markers",
                marker={"symbol": "star", "size": 10, "color": TEST},
                hovertemplate="test: %{y:.4~f}<extra></extra>",
            )
        )  # fmt: skip
    return Figure(figure, str(curves.get("recipe", "")))
