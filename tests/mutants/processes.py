"""Running tests in a copy of the tree, each time in a new process that has PyTorch already."""

from __future__ import annotations

import os
import shlex
import sys
from multiprocessing import get_context
from pathlib import Path

SECONDS = 1800
"""Tests that have not ended by then have found a mistake."""

PROCESSES = get_context("forkserver")

OWN_PATHS = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]
"""
"""Makes Python look for the library in its paths: an editable installation finds it before them."""


def run_pytest(tree: Path, arguments: list[str], printed: Path) -> None:
    """Run tests in a copy of the tree, in a process of their own."""
    import pytest

    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "unspool")]:
        del sys.modules[name]
    paths = [str(tree), str(tree / "src")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:0] = paths
    exec(OWN_PATHS)
    os.chdir(tree)
    with printed.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        import unspool._engine

        assert Path(unspool._engine.__file__).is_relative_to(tree), "the tests would not import the copy of the library"
        status = int(pytest.main(["-x", "-p", "no:cacheprovider", "--tb=short", *arguments]))
        sys.stdout.flush()
        os._exit(status)


def run_tests(tree: Path, tests: str) -> tuple[int, str]:
    """Return pytest's exit status, and what it printed."""
    printed = tree / "printed.txt"
    # Imported once, for all mutants: what tests import first and no mutant is in.
    PROCESSES.set_forkserver_preload(["pytest", "torch", "torch.distributed.tensor"])
    process = PROCESSES.Process(target=run_pytest, args=(tree, shlex.split(tests), printed))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        return 1, f"FAILED after {SECONDS} s"
    return process.exitcode or 0, printed.read_text(encoding="utf-8", errors="replace")
