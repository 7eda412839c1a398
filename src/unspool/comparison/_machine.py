"""On what figures were measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from unspool.backends.native import engine

THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
"""What the names of environment variables that change threads begin with."""


def describe_machine() -> dict[str, Any]:
    """Return processor, threads, load, and what the environment says about threads."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "threading": {name: value for name, value in sorted(os.environ.items()) if name.startswith(THREADING)},
        "instruction_set": "no engine" if engine is None else engine.active_isa(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def busy(machine: dict[str, Any]) -> str:
    """Return a warning if others were at work on the machine; empty if not.

    Parameters
    ----------
    machine : dict
        As `describe_machine` gives it.
    """
    load = machine["load"][0] if machine["load"] else 0.0
    return f"The machine was busy (load {load}): these ratios show nothing." if load > machine["cores"] / 2 else ""


def _cpu() -> str:
    """Return the processor's name, with family and model, which tell apart what has one name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    entries = dict(line.split("\t: ") for line in first.replace("\t\t:", "\t:").splitlines() if "\t: " in line)
    name = entries.get("model name", platform.machine())
    return f"{name} (family {entries.get('cpu family', '?')}, model {entries.get('model', '?')})"
