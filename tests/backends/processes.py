"""Python in a process of its own.

It is forked from one that has imported PyTorch and nothing of this library: to import PyTorch takes seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch"])


def run_python(code: str, *arguments: str, fails: bool = False, **variables: str) -> str:
    """Run Python code on one thread in a process of its own, and return what it printed.

    Parameters
    ----------
    code : str
    *arguments : str
        `sys.argv[1:]`.
    fails : bool, optional
        Whether it is to end by an exception.
    **variables : str
        Of the environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "printed")
        printed.touch()
        process = PROCESSES.Process(target=_run, args=(code, arguments, variables, printed))
        process.start()
        process.join(300)
        process.kill()
        process.join()
        text = printed.read_text()
    assert process.exitcode == int(fails), f"{process.exitcode}: {text[-6000:]}"
    return text


def _run(code: str, arguments: tuple[str, ...], variables: dict[str, str], printed: Path) -> None:
    import torch

    file = os.open(printed, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    os.environ.update(variables)
    sys.argv = ["", *arguments]
    exec(compile(code, "code", "exec"), {"__name__": "__main__"})
