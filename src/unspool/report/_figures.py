"""What all figures have in common: axes, and numbers as text."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from unspool.report._plotly import graph_objects

# A logarithmic axis shows a factor of thirty and more, where on a linear one the smaller values lie on the axis.
LOGARITHMIC_FROM = 30.0
LABELS_AT_2_AND_5_BELOW = 300.0
ABSENT = "-"
"""What a table has in place of a number that there is not."""


def new_figure(*, x_title: str, y_title: str, log_y: Sequence[float] = (), height: int = 380) -> Any:
    """Return a figure with axes and nothing in it.

    Parameters
    ----------
    x_title, y_title : str
        The names of the axes.
    log_y : sequence of float
        The values to show where the axis of y is logarithmic; none where it is linear.
    height : int
        Pixels, without the legend, which the page adds.

    Raises
    ------
    RunError
        If Plotly is not installed.
    """
    figure = graph_objects().Figure()
    figure.update_layout(template="none", height=height, hovermode="closest")
    figure.update_xaxes(title_text=x_title, title_standoff=8, tickformat=",~g")
    figure.update_yaxes(title_text=y_title, title_standoff=8, tickformat=",~g")
    if log_y:
        # Plotly by itself would write 1, 2, 3, ..., 9 at every power of ten.
        few = max(log_y) / min(log_y) < LABELS_AT_2_AND_5_BELOW
        figure.update_yaxes(type="log", dtick="D2" if few else 1, minor_dtick="D1", minor_showgrid=True)
    return figure


def wants_logarithm(values: Iterable[float], factor: float = LOGARITHMIC_FROM) -> bool:
    """Say whether `values` are better seen on a logarithmic axis: all above 0, and `factor` apart."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= factor


def significant(value: float | None) -> str:
    """Return a number as text with three significant digits, and no exponent; `ABSENT` for None."""
    if value is None:
        return ABSENT
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    exponent = int(f"{value:.2e}".partition("e")[2])  # after rounding: 9.999 becomes 10.0
    return f"{value:,.{max(0, 2 - exponent)}f}"
