"""A measurement in a process of its own: starting it, reading its stages, ending it when it takes too long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from unspool._printable import printable

STAGES = ("ready", "build", "first", "steps", "answer", "longer")
WORDS = {
    "ready": "to start",
    "build": "to build",
    "first": "for the first call",
    "steps": "for the repetitions",
    "answer": "to write its numbers",
    "longer": "for the longer sequence",
}
"""What a process was doing before it told of a stage."""


@dataclass(frozen=True)
class Report:
    """What a process told.

    Attributes
    ----------
    stages : dict of str to dict
        By name, those that it came to the end of.
    status : {"finished", "over_limit", "failed"}
    reason : str
        Why it is not finished.
    """

    stages: dict[str, dict[str, Any]]
    status: Literal["finished", "over_limit", "failed"]
    reason: str = ""


def run_child(command: Sequence[str], wanted: Sequence[str], limit_s: float, threads: int) -> Report:
    """Run a measurement and read its stages.

    Parameters
    ----------
    command : sequence of str
    wanted : sequence of str
        The stages that it is to tell of, in order.
    limit_s : float
        Seconds for each of them.
    threads : int
        How many cores and threads it may use.
    """
    # TensorFlow and JAX count the cores that they are given, the others read the variable; all compute on the CPU.
    # With what a former run has compiled, the first call would be another one.
    with _cache() as cache, tempfile.TemporaryFile() as log:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TORCHINDUCTOR_CACHE_DIR": cache,
        }
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,  # a group of its own, which can be ended with all that it has started
        ) as process:
            try:
                with _signals_as_exit():
                    _keep_to_cores(process.pid, threads)
                    return _read(process, wanted, limit_s, log)
            finally:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started: compilers, workers."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Have this process end by an exception where it is told to end, so that it ends what it has started.

    Nobody else would: signals of the terminal do not reach another session.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {name: signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for name, handler in former.items():
            signal.signal(getattr(signal, name), handler)


def _cache() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for compiled code; a compiler whose caller was ended may still write into it when it is removed."""
    return tempfile.TemporaryDirectory(prefix="unspool-cache-", ignore_cleanup_errors=True)


def _read(process: subprocess.Popen[str], wanted: Sequence[str], limit_s: float, log: IO[bytes]) -> Report:
    stages: dict[str, dict[str, Any]] = {}
    for stage in wanted:
        line, in_time = _line(process, limit_s)
        if not in_time:
            return Report(stages, "over_limit", f"more than {limit_s:g} s {WORDS[stage]}")
        if not line:
            code = process.wait()
            return Report(stages, "failed", f"ended with code {code} {WORDS[stage]}: {_last_words(log)}")
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.pop("stage", None) != stage:
            return Report(stages, "failed", f"said {line.strip()[:80]!r}; expected what it took {WORDS[stage]}")
        stages[stage] = told
    return Report(stages, "finished")


def _line(process: subprocess.Popen[str], limit_s: float) -> tuple[str, bool]:
    """Read a line; end the process if none comes in time."""
    assert process.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(limit_s, end)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    return line, not late.is_set()


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return printable(lines[-1].strip()[:300]) if lines else "no message"


def _keep_to_cores(process: int, threads: int) -> None:
    """Give a process that has just started no more cores than it may have threads."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(ProcessLookupError):  # it has ended already; why is said when it is read
            os.sched_setaffinity(process, sorted(os.sched_getaffinity(process))[:threads])


def write_task(path: Path, **values: Any) -> Path:
    """Write what a measurement reads: see `peers/measure.py`.

    Parameters
    ----------
    path : Path
    **values
        Of the task; paths become text.
    """
    path.write_text(json.dumps(values, default=str), encoding="utf-8")
    return path
