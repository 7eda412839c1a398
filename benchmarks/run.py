"""Run the benchmarks: `python -m benchmarks.run [--quick] [--peers] [--only CONFIG] [--cells CELL]`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.configurations import KINDS, QUICK, SHAPES, Case, cases
from benchmarks.lengths import reviews_missing
from benchmarks.measure import QUICK as QUICK_EFFORT
from benchmarks.measure import Effort, first_calls, measure_case, measure_peak
from benchmarks.memory import unmeasurable
from benchmarks.peers import PEERS, Peers
from benchmarks.report import as_text, describe_machine
from benchmarks.rows import tables
from benchmarks.targets import all_targets, judge, summary
from unspool.comparison import ComparisonError, busy
from unspool.comparison._process import signals_as_exit

RESULTS = Path(__file__).parent / "results"


def main(
    quick: Annotated[bool, typer.Option(help=f"Only {' and '.join(QUICK)}, fewer cases and repetitions.")] = False,
    with_peers: Annotated[
        bool, typer.Option("--peers", help=f"Measure {', '.join(PEERS)} too: see `make peers`.")
    ] = False,
    tensorflow: Annotated[Path | None, typer.Option(help="The Python that has TensorFlow and Keras.")] = None,
    jax: Annotated[Path | None, typer.Option(help="The Python that has JAX.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"A configuration, may be repeated: {', '.join(s.name for s in SHAPES)}.")
    ] = None,
    cells: Annotated[
        list[str] | None, typer.Option(help=f"A cell, may be repeated: {', '.join(k.name for k in KINDS)}.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Results file. By default benchmarks/results/DATE.json.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of PyTorch and of the engine.")] = None,
) -> None:
    """Check every case against the reference backend and all contenders, then time it, then judge it by the targets."""
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = tuple(only or (QUICK if quick else ()))
    say = partial(Console(stderr=True, highlight=False).print, markup=False)
    started, machine = datetime.now(UTC), describe_machine()
    try:
        wanted = list(cases(chosen, tuple(cells or ()), quick))
        peers = Peers(with_peers, {"tensorflow": tensorflow, "jax": jax}, say)
    except (ValueError, ComparisonError) as error:
        raise typer.BadParameter(str(error)) from None
    skipped = dict(peers.missing)
    if reviews_missing():
        skipped |= {s.name: reviews_missing() for s in SHAPES if s.reviews and (not chosen or s.name in chosen)}
    if unmeasurable():
        skipped["memory"] = unmeasurable()
    for name, why in skipped.items():
        say(f"{name}: skipped, {why}")
    if busy(machine):
        say(busy(machine))
    with signals_as_exit(), closing(peers):
        results, peaks = _measure(wanted, QUICK_EFFORT if quick else Effort(), peers, say)
    peak = statistics.median(peaks)
    report = {
        "date": started.isoformat(timespec="seconds"),
        "command": _command(quick, with_peers, only, cells, threads),
        "machine": machine,
        "peers": peers.versions,
        "skipped": skipped,
        "failed": peers.failed,
        "peak_gflops": [peak, min(peaks), max(peaks)],
        "results": [judge(case, result, peak) for case, result in zip(wanted, results, strict=True)],
        "first_calls": first_calls(),
    }
    report["seconds"] = (datetime.now(UTC) - started).total_seconds()
    path = output or RESULTS / f"{started:%Y-%m-%d-%H%M%S}{'-quick' if quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text(report), encoding="utf-8")
    _print(report)
    typer.echo(f"wrote {path}")
    wrong = [result for result in results if result["wrong"]]
    if wrong or peers.failed:
        typer.echo(f"{len(wrong)} of {len(results)} cases compute wrong numbers", err=True)
        for name, why in peers.failed.items():
            typer.echo(f"{name} failed: {why}", err=True)
        raise typer.Exit(1)


def _measure(
    wanted: Sequence[Case], effort: Effort, peers: Peers, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[float]]:
    """Measure the cases, and the machine's peak between configurations."""
    peaks, results, start = [measure_peak()], [], time.monotonic()
    for number, case in enumerate(wanted, 1):
        if number > 1 and case.shape != wanted[number - 2].shape:
            peaks.append(measure_peak())
        say(f"[{number}/{len(wanted)}, {(time.monotonic() - start) / 60:.1f} min] {case.name}")
        results.append(measure_case(case, effort, peers, memory=not unmeasurable()))
        if results[-1]["wrong"]:
            say(f"WRONG: {results[-1]['wrong']}")
    return results, [*peaks, measure_peak()]


def _print(report: dict[str, Any]) -> None:
    """Print a report as tables."""
    console = Console(width=None if os.isatty(1) else 240, highlight=False)
    for found in tables(report):
        table = Table(title=found.title, title_justify="left")
        for name, left in zip(found.headers, found.left, strict=True):
            table.add_column(name, justify="left" if left else "right", no_wrap=name != "met?")
        for row in found.rows:
            table.add_row(*row, style="bold red" if "WRONG" in row[-1] else "yellow" if "no" in row[-1] else None)
        console.print(table)
    peak, least, most = report["peak_gflops"]
    console.print(f"measured peak {peak:.0f} GFLOP/s ({least:.0f} to {most:.0f}); {report['seconds'] / 60:.1f} minutes")
    console.print(summary(all_targets(report)))


def _command(
    quick: bool, peers: bool, only: Sequence[str] | None, cells: Sequence[str] | None, threads: int | None
) -> str:
    """Return the command that repeats this run."""
    words = ["python -m benchmarks.run", *(["--quick"] if quick else []), *(["--peers"] if peers else [])]
    words += [f"--only {name}" for name in only or ()]
    words += [f'--cells "{name}"' if " " in name else f"--cells {name}" for name in cells or ()]
    words += [f"--threads {threads}"] if threads is not None else []
    return " ".join(words)


if __name__ == "__main__":
    typer.run(main)
