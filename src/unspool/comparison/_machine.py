"""On what figures were measured."""

from __future__ import annotations

import os
from typing import Any

from unspool import _machine
from unspool.backends.native import engine

THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
"""What the names of environment variables that change threads begin with."""


def describe_machine() -> dict[str, Any]:
    """Return what `unspool._machine` knows, load, instruction set, and what the environment says about threads."""
    return {
        **_machine.describe_machine(),
        "threading": {name: value for name, value in sorted(os.environ.items()) if name.startswith(THREADING)},
        "instruction_set": "no engine" if engine is None else engine.active_isa(),
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
