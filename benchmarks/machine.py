"""On what the figures were measured."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import unspool as us
from unspool import comparison
from unspool.comparison import busy as busy


def describe_machine() -> dict[str, Any]:
    """Return processor, threads, load, what the environment says about threads, revision and versions."""
    return {**comparison.describe_machine(), "revision": _revision(), "versions": us.info().versions}


def _revision() -> str:
    """Return the revision of the sources, if they lie in a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
