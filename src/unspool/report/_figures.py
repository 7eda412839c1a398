"""What all figures have in common: axes, and numbers as text."""

import math
from collections.abc import Iterable
from typing import Any

from ._plotly import graph_objects

# A logarithmic axis shows a factor of thirty and more, where on a linear one the smaller values lie on the axis.
LOGARITHMIC_FROM = 30.0


def new_figure(*, x_title: str, y_title: str, log_x: bool = False, log_y: bool = False, height: int = 380) -> Any:
    """Return a figure with axes and nothing in it.

    Parameters
    ----------
    x_title, y_title : str
        The names of the axes.
    log_x, log_y : bool
        Which of them are logarithmic.
    height : int
        Pixels, without the legend, which the page adds.

    Raises
    ------
    RunError
        If Plotly is not installed.
    """
    figure = graph_objects().Figure()
    figure.update_layout(template="none", height=height, hovermode="closest")
    for update, title, log in ((figure.update_xaxes, x_title, log_x), (figure.update_yaxes, y_title, log_y)):
        update(title_text=title, title_standoff=8, type="log" if log else "linear", tickformat=",~g")
    return figure


def wants_logarithm(values: Iterable[float]) -> bool:
    """Say whether `values` are better seen on a logarithmic axis: all above 0, and far apart."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= LOGARITHMIC_FROM


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number as text with so many significant digits, and no exponent; a dash for None."""
    if value is None:
        return "–"
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, decimals)}f}"
