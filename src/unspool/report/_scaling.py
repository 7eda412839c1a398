"""How the contenders fare as sequences grow: a figure for each measure, and all numbers in one table."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from unspool.report._blocks import Figure, Table, escape
from unspool.report._figures import ABSENT, new_figure, significant, wants_logarithm
from unspool.report._plotly import graph_objects
from unspool.report._style import OVER_LIMIT_SYMBOL, Style

# Both axes are logarithmic where it can be, so that what grows with T is a straight line.
LOGARITHMIC_FROM = 3.0

Case = dict[str, Any]


class Measure(NamedTuple):
    """One of the quantities measured: its field, the factor from it to the unit shown, and the words for it."""

    field: str
    factor: float
    unit: str
    title: str
    low: str | None = None
    high: str | None = None


STEP = Measure("step_s", 1e3, "ms", "Time of a training step", "step_low_s", "step_high_s")
FIRST = Measure("first_call_s", 1, "s", "Time of the first call")
MEASURES = (
    STEP,
    Measure("build_s", 1, "s", "Time to build"),
    FIRST,
    Measure("peak_mb", 1, "MB", "Peak memory"),
    Measure("graph_nodes", 1, "nodes", "Size of the graph"),
)
_STATUS: dict[str, Callable[[float], str]] = {
    "over_limit": lambda limit: f"more than {limit:g} s",
    "failed": lambda _limit: "failed",
    "not_tried": lambda _limit: "not tried",
}


def over_limit_in(case: Case) -> Measure | None:
    """Return the measure in whose figure a case over the limit is marked: the first that it did not get through."""
    if case["status"] != "over_limit":
        return None
    return FIRST if case["first_call_s"] is None else STEP


def scaling_figure(measure: Measure, cases: list[Case], styles: dict[str, Style], limit: float) -> Figure | None:
    """Return the figure of one measure against the number of steps, a line for every contender.

    Parameters
    ----------
    measure : Measure
        What is drawn.
    cases : list of dict
        The rows of ``scaling``.
    styles : dict
        How each contender is drawn.
    limit : float
        Seconds after which a case was ended.

    Returns
    -------
    Figure or None
        None where nothing was measured.
    """
    values = [case[measure.field] * measure.factor for case in cases if case[measure.field] is not None]
    over = [case for case in cases if over_limit_in(case) is measure]
    if not values and not over:
        return None
    shown = [*values, *([limit * measure.factor] if over else [])]
    above = [value for value in shown if value > 0]
    log = wants_logarithm(above, LOGARITHMIC_FROM)
    steps = sorted({case["steps"] for case in cases})
    figure = new_figure(
        x_title="steps (T)",
        y_title=f"{measure.unit}, logarithmic" if log else measure.unit,
        log_y=above if log else (),
        height=400,
    )
    figure.update_xaxes(type="log", tickvals=steps, ticktext=[f"{step:,}" for step in steps])
    for name, style in styles.items():
        own = [case for case in cases if case["contender"] == name]
        drawn = _line(figure, measure, name, own, style, log)
        _marks(figure, measure, name, [case for case in own if case in over], style, limit, legend=not drawn)
    if over:
        figure.add_hline(y=limit * measure.factor, line={"color": "#76808a", "width": 1, "dash": "dot"})
    if not log:
        figure.update_yaxes(rangemode="tozero")
    return Figure(figure, measure.title, _caption(measure, cases, over, log, limit))


def _line(figure: Any, measure: Measure, name: str, cases: list[Case], style: Style, log: bool) -> bool:
    points = [case for case in cases if case[measure.field] is not None and (case[measure.field] > 0 or not log)]
    if not points:
        return False
    points.sort(key=lambda case: case["steps"])
    y = [case[measure.field] * measure.factor for case in points]
    text = [f"{escape(name)}<br>T = {case['steps']:,}: {_words(measure, case)}" for case in points]
    bars = None
    if measure.low and measure.high and all(case[measure.low] is not None for case in points):
        bars = {
            "type": "data", "thickness": 1, "width": 3,
            "array": [(case[measure.high] - case[measure.field]) * measure.factor for case in points],
            "arrayminus": [(case[measure.field] - case[measure.low]) * measure.factor for case in points],
        }  # fmt: skip
    figure.add_trace(
        graph_objects().Scatter(
            x=[case["steps"] for case in points], y=y, error_y=bars, name=escape(name), legendgroup=name,
            mode="lines+markers", line={"color": style.colour, "dash": style.dash, "width": 2},
            marker={"symbol": style.symbol, "size": 9, "color": style.colour},
            customdata=text, hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    return True


def _marks(
    figure: Any, measure: Measure, name: str, cases: list[Case], style: Style, limit: float, *, legend: bool
) -> None:
    if not cases:
        return
    text = [f"{escape(name)}<br>T = {case['steps']:,}: {escape(case['reason'] or 'ended')}" for case in cases]
    figure.add_trace(
        graph_objects().Scatter(
            x=[case["steps"] for case in cases], y=[limit * measure.factor] * len(cases), mode="markers",
            name=escape(name), legendgroup=name, showlegend=legend,
            marker={"symbol": OVER_LIMIT_SYMBOL, "size": 13, "color": style.colour, "line": {"width": 3}},
            customdata=text,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip


def _words(measure: Measure, case: Case) -> str:
    text = f"{significant(case[measure.field] * measure.factor)} {measure.unit}"
    if measure.low and measure.high and case[measure.low] is not None:
        low, high = case[measure.low] * measure.factor, case[measure.high] * measure.factor
        text += f" (quartiles {significant(low)} to {significant(high)})"
    return text


def _caption(measure: Measure, cases: list[Case], over: list[Case], log: bool, limit: float) -> str:
    """Say what the marks mean, and name every case that the figure does not show."""
    everything = Counter(case["contender"] for case in cases)
    marked = f"Crosses: ended at the limit of {limit:g} s, {_named(over, everything)}." if over else ""
    hidden = [case for case in cases if case[measure.field] is None and case not in over]
    groups = [
        f"{word(limit)}, {_named(group, everything)}"
        for status, word in _STATUS.items()
        if (group := [case for case in hidden if case["status"] == status])
    ]
    unknown = [case for case in hidden if case["status"] not in _STATUS]
    if unknown:
        groups.append(f"without this figure, {_named(unknown, everything)}")
    if log and (zero := [case for case in cases if case[measure.field] is not None and case[measure.field] <= 0]):
        groups.append(f"0 or less, {_named(zero, everything)}")
    absent = f"Not shown: {'; '.join(groups)}." if groups else ""
    return " ".join(filter(None, (marked, absent)))


def _named(cases: list[Case], everything: Counter[str]) -> str:
    """Return "a (T = 10, 25), b (T = 400), c", where c is meant with all of its cases."""
    steps: dict[str, list[str]] = {}
    for case in cases:
        steps.setdefault(case["contender"], []).append(f"{case['steps']:,}")
    return ", ".join(
        name if len(own) == everything[name] else f"{name} (T = {', '.join(own)})" for name, own in steps.items()
    )


def scaling_table(cases: list[Case], limit: float) -> Table:
    """Return every number of every case.

    Parameters
    ----------
    cases : list of dict
        The rows of ``scaling``.
    limit : float
        Seconds after which a case was ended.
    """
    header = (
        "contender",
        "T",
        *(f"{measure.title.lower()}, {measure.unit}" for measure in MEASURES),
        "largest error",
        "",
    )
    rows = []
    for case in cases:
        numbers = [
            f"{case[measure.field]:,}" if isinstance(case[measure.field], int) and measure.factor == 1
            else significant(None if case[measure.field] is None else case[measure.field] * measure.factor)
            for measure in MEASURES
        ]  # fmt: skip
        error = ABSENT if case["max_error"] is None else f"{case['max_error']:.1e}"
        word = _STATUS.get(case["status"], lambda _limit: "")(limit)
        state = ": ".join(filter(None, (word, case["reason"])))
        rows.append((case["contender"], f"{case['steps']:,}", *numbers, error, state))
    return Table(rows, header, numbers=range(1, 3 + len(MEASURES)))
