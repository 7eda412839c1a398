"""What the ways of making batches of variable length cost: seconds of an epoch, and the share of real tokens."""

from typing import Any

from unspool.report._blocks import Figure, Table, escape
from unspool.report._figures import new_figure, significant
from unspool.report._plotly import graph_objects
from unspool.report._style import Style

HATCHES = {"shape": "/", "size": 7, "solidity": 0.3, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.75)"}


def batching_figures(modes: list[dict[str, Any]], styles: dict[str, Style]) -> list[Figure]:
    """Return bars for the seconds of an epoch and for the share of real tokens, by mode and contender.

    Parameters
    ----------
    modes : list of dict
        The rows of ``batching.modes``.
    styles : dict
        How each contender is drawn.
    """
    seconds = _bars(modes, styles, "epoch_s", "seconds of an epoch", significant)
    share = _bars(modes, styles, "real_share", "share of real tokens", lambda value: f"{value:.0%}")
    share.update_yaxes(range=[0, 1.08], tickformat=".0%")
    return [
        Figure(seconds, "Seconds of a training epoch", min_width=_width(modes)),
        Figure(share, "Share of the computed tokens that are real", min_width=_width(modes)),
    ]


def _width(modes: list[dict[str, Any]]) -> int:
    return 100 + 42 * len(modes)


def _bars(modes: list[dict[str, Any]], styles: dict[str, Style], field: str, y_title: str, words: Any) -> Any:
    figure = new_figure(x_title="", y_title=y_title, height=360)
    for name, style in styles.items():
        own = [mode for mode in modes if mode["contender"] == name]
        if not own:
            continue
        hover = [
            f"{escape(name)}<br>{escape(mode['mode'])}: {words(mode[field])}<br>{mode['measured_batches']:,} of "
            f"{mode['batches']:,} batches measured"
            for mode in own
        ]
        figure.add_trace(
            graph_objects().Bar(
                x=[escape(mode["mode"]) for mode in own], y=[mode[field] for mode in own], name=escape(name),
                text=[words(mode[field]) for mode in own], textposition="outside", textangle=0, cliponaxis=False,
                textfont={"size": 11}, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
                marker={"color": style.colour, "pattern": HATCHES if style.static else None},
            )
        )  # fmt: skip
    order = list(dict.fromkeys(escape(mode["mode"]) for mode in modes))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_layout(barmode="group", bargap=0.25, uniformtext={"minsize": 10, "mode": "show"}, margin={"b": 36})
    return figure


def batching_table(modes: list[dict[str, Any]]) -> Table:
    """Return every number of every mode.

    Parameters
    ----------
    modes : list of dict
        The rows of ``batching.modes``.
    """
    rows = [
        (
            mode["mode"],
            mode["contender"],
            significant(mode["epoch_s"]),
            f"{mode['batches']:,}",
            f"{mode['measured_batches']:,}",
            f"{mode['real_share']:.3f}",
        )
        for mode in modes
    ]
    header = ("batches", "contender", "seconds of an epoch", "batches in it", "measured", "share of real tokens")
    return Table(rows, header, numbers=(2, 3, 4, 5))
