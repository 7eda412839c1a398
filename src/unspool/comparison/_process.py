"""A peer in a process of its own: starting it, asking it, ending it when it takes too long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from unspool._printable import printable


class PeerError(RuntimeError):
    """A peer that ends, takes too long, or answers with an error.

    Parameters
    ----------
    process : PeerProcess
        Its process.
    reason : str
    told : str
        The error that it has answered with; empty if it gave no answer.
    over_limit : bool
        Whether it took too long.
    """

    def __init__(self, process: PeerProcess, reason: str, *, told: str = "", over_limit: bool = False) -> None:
        super().__init__(reason)
        self.process, self.told, self.over_limit = process, told, over_limit


class PeerProcess:
    """A process that answers requests (see `peers/protocol.py`) until it is closed.

    Parameters
    ----------
    command : sequence of str
    limit_s : float
        Seconds for each answer.
    threads : int
        How many cores and threads it may use.

    Attributes
    ----------
    versions : dict of str to str

    Raises
    ------
    PeerError
        If it does not start.
    """

    def __init__(self, command: Sequence[str], limit_s: float, threads: int) -> None:
        self.limit_s = limit_s
        self._files = ExitStack()
        # A compiler whose caller was ended may still write into the folder when it is removed.
        folder = tempfile.TemporaryDirectory(prefix="unspool-cache-", ignore_cleanup_errors=True)
        cache = self._files.enter_context(folder)
        self._log = self._files.enter_context((Path(cache) / "log").open("w+b"))
        # TensorFlow and JAX count the cores that they are given, the others read the variable; all compute on the CPU.
        # With what a former run has compiled, the first call would be another one.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TORCHINDUCTOR_CACHE_DIR": cache,
        }
        if command[0] != sys.executable:
            environment.pop("PYTHONPATH", None)  # the paths of this Python are not for that one
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,  # a group of its own, which can be ended with all that it has started
        )
        try:
            _keep_to_cores(self._process.pid, threads)
            self.versions: dict[str, str] = self._answer("to start")["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, do: str, **values: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Parameters
        ----------
        what : str
            What it is for, in words that follow those of a time: "to build", "for the first call".
        do : {"prepare", "run", "answer"}
        **values
            Of the request; paths become text.

        Raises
        ------
        PeerError
            If there is no answer in time, or it is an error.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; why is said when its answer is read
            self._process.stdin.write(json.dumps({"do": do, **values}, default=str) + "\n")
            self._process.stdin.flush()
        return self._answer(what)

    def close(self) -> None:
        """End the process and all that it has started: compilers, workers."""
        self._end()
        self._process.communicate()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self) -> None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _answer(self, what: str) -> dict[str, Any]:
        """Read a line; end the process if none comes in time."""
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._end()

        timer = threading.Timer(self.limit_s, end)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise PeerError(self, f"more than {self.limit_s:g} s {what}", over_limit=True)
        if not line:
            raise PeerError(self, f"ended with code {self._process.wait()} {what}: {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PeerError(self, f"said {printable(line.strip()[:80])!r}; expected what it took {what}")
        if "error" in answer:
            told = printable(answer["error"][:300])
            raise PeerError(self, f"failed {what}: {told}", told=told)
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return printable(lines[-1].strip()[:300]) if lines else "no message"


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """Have this process end by an exception where it is told to end, so that it closes its peers.

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


def _keep_to_cores(process: int, threads: int) -> None:
    """Give a process that has just started no more cores than it may have threads."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(ProcessLookupError):  # it has ended already; why is said when it is read
            os.sched_setaffinity(process, sorted(os.sched_getaffinity(process))[:threads])
