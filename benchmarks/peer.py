"""Peers in environments of their own: finding them, starting them, and asking them to run a case.

Each is a script under `benchmarks/peers/` that answers lines of JSON with lines of JSON (see `peers/serve.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

PEERS = {"keras": "tensorflow", "tf1": "tensorflow", "jax": "jax"}
"""Names of the peers, and of the environments that `make peers` makes for them."""

SCRIPTS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(__file__).parent.parent / ".peers"
PATIENCE = 300.0
"""Seconds after which a peer that does not answer is ended."""

SETTLE = 0.01
"""Seconds of rest before and after a peer's turn: threads that wait actively for more work have given up by then."""


class PeerError(RuntimeError):
    """A peer that does not answer, or answers with an error.

    Parameters
    ----------
    peer : str
        Its name.
    why : str
    """

    def __init__(self, peer: str, why: str) -> None:
        super().__init__(why)
        self.peer = peer


def find_python(name: str, given: Mapping[str, str]) -> str:
    """Return the Python that a peer runs in; empty if there is none.

    Parameters
    ----------
    name : str
        Of the peer.
    given : dict of str to str
        Named on the command line; then UNSPOOL_PEER_<NAME> is looked at, then what `make peers` has made.

    Raises
    ------
    ValueError
        If one is named and does not exist.
    """
    named = given.get(name) or os.environ.get(f"UNSPOOL_PEER_{name.upper()}")
    if named and not Path(named).exists():
        raise ValueError(f"the Python of {name} is {named!r}, which does not exist; expected a path.")
    made = ENVIRONMENTS / PEERS[name] / "bin" / "python"
    return named or (str(made) if made.exists() else "")


def parse_pythons(given: Sequence[str]) -> dict[str, str]:
    """Read `NAME=PATH`.

    Parameters
    ----------
    given : sequence of str

    Raises
    ------
    ValueError
        If one has another form or another name.
    """
    found = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or name not in PEERS:
            raise ValueError(f"received {text!r}; expected NAME=PATH with a NAME among {', '.join(PEERS)}.")
        found[name] = path
    return found


class Peer:
    """A peer in a process of its own, which lives until `close`.

    Parameters
    ----------
    name : str
    python : str
        The Python that has the peer's libraries.
    script : Path, optional
        `peers/run_<name>.py` by default.

    Attributes
    ----------
    versions : dict of str to str

    Raises
    ------
    PeerError
        If it does not start.
    """

    def __init__(self, name: str, python: str, script: Path | None = None) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix=f"unspool-{name}-")
        self._log: IO[bytes] = (Path(self._folder.name) / "log").open("w+b")
        command = [python, str(script or SCRIPTS / f"run_{name}.py")]
        # The paths of this Python are not for that one.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        _keep_to_cores(self._process.pid, torch.get_num_threads())
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except PeerError:
            self.close()
            raise

    def prepare(self, task: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Let the peer make a case ready and run it once.

        Parameters
        ----------
        task : dict
            Cell, ragged and training.
        arrays : dict of str to Tensor
            Inputs, lengths, gradient and weights.

        Returns
        -------
        dict of str to Tensor
            What it computed; names begin with the number of the batch.
        """
        request, answer = (Path(self._folder.name) / f"{name}.npz" for name in ("request", "answer"))
        np.savez(request, allow_pickle=False, **{name: array.numpy() for name, array in arrays.items()})
        self._ask({"do": "prepare", **task, "arrays": str(request), "answer": str(answer)})
        with np.load(answer, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}

    def seconds(self) -> float:
        """Let the peer run the case once more, and return how long it took by its own clock."""
        time.sleep(SETTLE)
        taken = self._ask({"do": "run"})["seconds"]
        time.sleep(SETTLE)
        return taken

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise PeerError(self.name, self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            raise PeerError(self.name, self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(self.name, answer["error"])
        return answer

    def _last_words(self) -> str:
        """Return why the process has ended, and end what is left of it."""
        try:
            self._process.wait(timeout=5.0)  # its output ends before it has said why
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"it ended ({lines[-1] if lines else 'without a word'}), or took more than {PATIENCE:.0f} s"


def _keep_to_cores(process: int, threads: int) -> None:
    """Give a process that has just started no more cores than PyTorch has threads: the libraries count them."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(process))
        os.sched_setaffinity(process, cores[:threads])
