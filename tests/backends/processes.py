"""Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import unspool

ROOT = Path(__file__).parents[2]


def run_python(*arguments: str, **variables: str) -> str:
    """Run Python in a process of its own, and return what it printed."""
    path = os.pathsep.join([str(Path(unspool.__file__).parents[1]), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables},
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
