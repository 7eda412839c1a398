"""A comparison as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unspool.comparison._batching import MODES
from unspool.comparison._machine import busy
from unspool.comparison._results import BatchingResult, Comparison, ScalingResult, skipped


def seconds(value: float) -> str:
    """Return a time in words.

    Parameters
    ----------
    value : float
        In seconds.
    """
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"


Figure = Callable[[ScalingResult], str]


def _time(name: str) -> Figure:
    return lambda result: seconds(getattr(result, name))


LEFT = ("contender", "kind", "outcome", "message")

MEASURES: dict[str, tuple[str, Figure]] = {
    "step_s": ("training step, median", _time("step_s")),
    "build_s": ("time to build", _time("build_s")),
    "first_call_s": ("first training step", _time("first_call_s")),
    "peak_mb": ("peak memory, MB", lambda result: "" if result.peak_mb is None else f"{result.peak_mb:,.0f}"),
    "graph_nodes": (
        "nodes of the graph",
        lambda result: "" if result.graph_nodes is None else f"{result.graph_nodes:,}",
    ),
}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print all figures, and the reasons where there are none.

    Parameters
    ----------
    console : Console
    comparison : Comparison
    """
    shape = comparison.settings
    size = f"B={shape['batch']}, I={shape['input_size']}, H={shape['hidden_size']}"
    console.print(f"LSTM, {size}, lengths from 15 % to 100 % of T, forward and backward", highlight=False)
    for table in comparison_tables(comparison).values():
        console.print(table)
    if comparison.batching is not None:
        console.print(f"Rows: {comparison.batching.source}.", highlight=False)
    _print_reasons(console, comparison)


def comparison_tables(comparison: Comparison, line_break: str = "\n") -> dict[str, Table]:
    """Return the tables of a comparison.

    Parameters
    ----------
    comparison : Comparison
    line_break : str
        What stands between two figures of one cell.

    Returns
    -------
    dict of rich.table.Table
        By the names of what is measured: fields of `ScalingResult`, "longer" and "batching"; without those that have
        no rows.
    """
    shape = comparison.settings
    steps = sorted({result.steps for result in comparison.scaling})
    tables = {}
    for name, (title, figure) in MEASURES.items():
        tables[name] = _table(title, ["contender", *(f"T={t}" for t in steps)])
        for contender in comparison.contenders:
            found = [result for result in comparison.scaling if result.contender == contender.name]
            if found:
                tables[name].add_row(contender.name, *(_cell(result, figure, shape["limit_s"]) for result in found))
    if comparison.longer:
        tables["longer"] = _longer(comparison)
    if comparison.batching is not None:
        tables["batching"] = _batching(comparison.batching, line_break)
    return {name: table for name, table in tables.items() if table.row_count}


def _table(title: str, names: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(
            name, justify="left" if name in LEFT else "right", no_wrap=name not in ("contender", "message")
        )
    return table


def _cell(result: ScalingResult, figure: Figure, limit_s: float) -> str:
    words = {"over_limit": f"> {limit_s:g} s", "failed": "failed", "not_tried": "-"}
    return words.get(result.status) or figure(result)


def _longer(comparison: Comparison) -> Table:
    first = comparison.longer[0]
    table = _table(
        f"built for {first.built_for} steps, given {first.given}", ["contender", "kind", "outcome", "after", "message"]
    )
    kinds = {entry.name: entry.kind for entry in comparison.contenders}
    for result in comparison.longer:
        taken = "" if result.seconds is None else seconds(result.seconds)
        table.add_row(result.contender, kinds[result.contender], result.outcome, taken, escape(result.message or ""))
    return table


def _batching(batching: BatchingResult, line_break: str) -> Table:
    """Return a row for each contender and a column for each mode."""
    found = {(result.contender, result.mode): result for result in batching.modes}
    modes = [mode for mode in MODES if any(result.mode == mode for result in batching.modes)]
    table = _table("time per epoch, and how many of the computed tokens are real", ["contender", *modes])
    for name in dict.fromkeys(contender for contender, _ in found):
        results = [found.get((name, mode)) for mode in modes]
        table.add_row(
            name, *("" if r is None else f"{seconds(r.epoch_s)}{line_break}{r.real_share:.0%} real" for r in results)
        )
    counts = {result.mode: f"{result.measured_batches:,}{line_break}of {result.batches:,}" for result in batching.modes}
    table.add_row("batches measured", *(counts[mode] for mode in modes))
    return table


def _print_reasons(console: Console, comparison: Comparison) -> None:
    lines = skipped(comparison.contenders)
    for name in dict.fromkeys(result.contender for result in comparison.scaling if result.reason):
        some = [result for result in comparison.scaling if result.contender == name and result.reason]
        lines.append(f"{name}, T={', '.join(str(result.steps) for result in some)}: {some[0].reason}")
    lines += comparison.batching.left_out if comparison.batching is not None else []
    lines += [busy(comparison.machine)] if busy(comparison.machine) else []
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
