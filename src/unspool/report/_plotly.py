"""Plotly: its figures, and its script for the page. It is imported where a report is made, and nowhere else."""

from types import ModuleType

from unspool.training.errors import RunError


def graph_objects() -> ModuleType:
    """Return ``plotly.graph_objects``.

    Raises
    ------
    RunError
        If Plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ModuleNotFoundError as error:
        raise RunError(
            f"a report needs {error.name}, which is not installed.\nInstall it with: pip install 'unspool[train]'"
        ) from error
    return plotly.graph_objects


def plotly_script() -> str:
    """Return the whole of plotly.js, as Plotly's Python package ships it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()
