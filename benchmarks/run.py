"""Run the benchmarks: `python -m benchmarks.run [--quick] [--only CONFIG] [--cells CELL]`."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import unspool as us
from benchmarks.configurations import KINDS, QUICK, SHAPES, cases
from benchmarks.measure import QUICK as QUICK_EFFORT
from benchmarks.measure import Effort, first_calls, judge, measure_case, measure_peak
from benchmarks.table import COLUMNS, LEFT_ALIGNED, row_of
from unspool import _engine

RESULTS = Path(__file__).parent / "results"


def main(
    quick: Annotated[bool, typer.Option(help=f"Only {' and '.join(QUICK)}, fewer cases and repetitions.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help=f"A configuration, may be repeated: {', '.join(s.name for s in SHAPES)}.")
    ] = None,
    cells: Annotated[
        list[str] | None, typer.Option(help=f"A cell, may be repeated: {', '.join(k.name for k in KINDS)}.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Results file. By default benchmarks/results/DATE.json.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of PyTorch and of the engine.")] = None,
) -> None:
    """Check every case against the reference backend, then time it against its rivals."""
    if threads is not None:
        torch.set_num_threads(threads)
    effort = QUICK_EFFORT if quick else Effort()
    chosen = tuple(only or (QUICK if quick else ()))
    try:
        wanted = list(cases(chosen, tuple(cells or ()), quick))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    log = Console(stderr=True)
    started, machine = datetime.now(UTC), _machine()
    if machine["load"] and machine["load"][0] > machine["cores"] / 2:
        log.print(f"the machine is busy (load {machine['load'][0]}): ratios will show nothing", style="bold red")
    peaks, measured = [measure_peak()], []
    for number, case in enumerate(wanted, 1):
        if number > 1 and case.shape != wanted[number - 2].shape:
            peaks.append(measure_peak())
        log.print(f"[{number}/{len(wanted)}] {case.name}", highlight=False, markup=False)
        measured.append(measure_case(case, effort))
    peaks.append(measure_peak())
    peak = statistics.median(peaks)
    results = [judge(case, result, peak) for case, result in zip(wanted, measured, strict=True)]
    report = {
        "date": started.isoformat(timespec="seconds"),
        "command": _command(quick, only, cells, threads),
        "seconds": (datetime.now(UTC) - started).total_seconds(),
        "machine": machine,
        "peak_gflops": {"median": peak, "least": min(peaks), "most": max(peaks), "measured": peaks},
        "effort": vars(effort),
        "results": results,
        "first_calls": first_calls(),
    }
    path = output or RESULTS / f"{started:%Y-%m-%d-%H%M%S}{'-quick' if quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)
    typer.echo(f"wrote {path}")
    wrong = [result for result in results if result["wrong"]]
    if wrong:
        typer.echo(f"{len(wrong)} of {len(results)} cases compute wrong numbers", err=True)
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    """Print a report as tables."""
    console = Console(width=None if os.isatty(1) else 240)
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in LEFT_ALIGNED else "right", no_wrap=name != "met")
    for result in report["results"]:
        missed = result.get("noisy") or any(not target["met"] for target in result["targets"])
        style = "bold red" if result["wrong"] else "yellow" if missed else None
        table.add_row(*row_of(result), style=style)
    console.print(table)
    peak, targets = report["peak_gflops"], [t for result in report["results"] for t in result["targets"]]
    noisy = sum(result.get("noisy", False) for result in report["results"])
    console.print(f"measured peak {peak['median']:.0f} GFLOP/s ({peak['least']:.0f} to {peak['most']:.0f})")
    console.print(f"targets met: {sum(t['met'] for t in targets)} of {len(targets)}; noisy cases: {noisy}")
    for entry in report["first_calls"]:
        console.print(
            f"first call of a new cell at T = {entry['steps']}: {entry['first']['median']:.0f} ms, "
            f"second {entry['second']['median']:.1f} ms, difference {entry['extra']['median']:.0f} ms"
        )


def _command(quick: bool, only: Sequence[str] | None, cells: Sequence[str] | None, threads: int | None) -> str:
    """Return the command that repeats this run."""
    words = ["python -m benchmarks.run", *(["--quick"] if quick else [])]
    words += [f"--only {name}" for name in only or ()]
    words += [f'--cells "{name}"' if " " in name else f"--cells {name}" for name in cells or ()]
    words += [f"--threads {threads}"] if threads is not None else []
    return " ".join(words)


def _machine() -> dict[str, Any]:
    """Tell on what the figures were measured."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": _engine.active_isa(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "revision": _revision(),
        "versions": us.info().versions,
    }


def _cpu() -> str:
    """Return the processor's name, with family and model, which tell apart what has one name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    entries = dict(line.split("\t: ") for line in first.replace("\t\t:", "\t:").splitlines() if "\t: " in line)
    name = entries.get("model name", platform.machine())
    return f"{name} (family {entries.get('cpu family', '?')}, model {entries.get('model', '?')})"


def _revision() -> str:
    """Return the revision of the sources, if they lie in a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(main)
