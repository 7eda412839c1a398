"""A report as a file, and on what its figures were measured."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import unspool as us
from unspool import comparison


def describe_machine() -> dict[str, Any]:
    """Return what the comparison tells of the machine, the revision of the sources, and versions."""
    return {**comparison.describe_machine(), "revision": _revision(), "versions": us.info().versions}


def _revision() -> str:
    """Return the revision of the sources, if they lie in a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def write(
    path: Path, module: str, arguments: Sequence[str] | None, machine: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    """Write results into a file, with the command that repeats them.

    Parameters
    ----------
    path : Path
    module : str
        Of `benchmarks`.
    arguments : sequence of str, optional
        Those of the command line, by default.
    machine : dict
    results : list of dict
    """
    words = [f"python -m benchmarks.{module}", shlex.join(sys.argv[1:] if arguments is None else arguments)]
    report = {"command": " ".join(words).strip(), "machine": machine, "results": results}
    path.write_text(as_text(report), encoding="utf-8")


def as_text(report: dict[str, Any]) -> str:
    """Return a report as JSON: numbers with four digits, a line for each entry and each case.

    Parameters
    ----------
    report : dict
    """

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tidy(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [tidy(item) for item in value]
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None
        return value

    def line(value: Any) -> str:
        return json.dumps(tidy(value))

    def lines(items: Iterable[Any]) -> str:
        return "[\n  " + ",\n  ".join(line(item) for item in items) + "\n ]"

    body = [
        f" {json.dumps(key)}: {lines(value) if key == 'results' and value else line(value)}"
        for key, value in report.items()
    ]
    return "{\n" + ",\n".join(body) + "\n}\n"
