"""The peers that take part in a run: other libraries, each in a process of its own that lives as long as the run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool.comparison._contenders import find_python, missing, select
from unspool.comparison._process import PeerError, PeerProcess

PEERS = {"keras": "Keras unroll=False", "tf1": "TensorFlow dynamic_rnn", "jax": "JAX scan"}
"""Roles, and the names that they have in `unspool compare`."""

PATIENCE = 300.0
"""Seconds after which a peer that does not answer is ended."""

SETTLE = 0.01
"""Seconds of rest before and after a peer's turn: threads that wait actively for more work have given up by then."""


class Peer:
    """A peer in a process of its own, which lives until `close`.

    Parameters
    ----------
    role : str
    command : list of str
        What runs it.
    variant : str
        Which form of it.

    Attributes
    ----------
    versions : dict of str to str

    Raises
    ------
    PeerError
        If it does not start.
    """

    def __init__(self, role: str, command: list[str], variant: str) -> None:
        self.role, self.variant = role, variant
        self.process = PeerProcess(command, PATIENCE, torch.get_num_threads())
        self.versions = self.process.versions

    def first(self, task: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
        with tempfile.TemporaryDirectory(prefix=f"unspool-{self.role}-") as name:
            case, answer = Path(name) / "case.npz", Path(name) / "answer.npz"
            np.savez(case, allow_pickle=False, **{name: array.numpy() for name, array in arrays.items()})
            self.process.ask("to build", "prepare", arrays=case, variant=self.variant, **task)
            self.process.ask("for the first call", "run")
            self.process.ask("to write its numbers", "answer", file=answer)
            with np.load(answer, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}

    def seconds(self) -> float:
        """Let the peer run the case once more, and return how long it took by its own clock."""
        time.sleep(SETTLE)
        (taken,) = self.process.ask("for a repetition", "run")["seconds"]
        time.sleep(SETTLE)
        return taken


class Peers:
    """Starts the peers that have an environment.

    Parameters
    ----------
    wanted : bool
        Whether there are to be any.
    pythons : dict of str to Path or None
        By environment, as given on the command line.
    say : callable (str) -> None
        Is told of what goes wrong.

    Attributes
    ----------
    running : list of Peer
        Those that answer.
    versions : dict of str to dict
        Of all that have started.
    missing, failed : dict of str to str
        Why a peer takes no part: it has no environment; it ended or gave an error.

    Raises
    ------
    ComparisonError
        If a Python is named that is not there.
    """

    def __init__(self, wanted: bool, pythons: Mapping[str, Path | None], say: Callable[[str], None]) -> None:
        self.running: list[Peer] = []
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.say = say
        contenders = {role: contender for role, name in PEERS.items() for contender in select((name,)) if wanted}
        found = {role: find_python(c.environment, pythons.get(c.environment)) for role, c in contenders.items()}
        for role, contender in contenders.items():
            if not found[role]:
                self.missing[role] = missing(contender.environment)
                continue
            try:
                self.running.append(Peer(role, contender.command(found[role]), contender.variant))
            except PeerError as error:
                self._fail(role, error)
        self.versions = {peer.role: peer.versions for peer in self.running}

    def drop(self, error: PeerError) -> None:
        """End a peer that has failed.

        Parameters
        ----------
        error : PeerError
            Raised by one of `running`.
        """
        (peer,) = (peer for peer in self.running if peer.process is error.process)
        self._fail(peer.role, error)
        self.running.remove(peer)
        peer.process.close()

    def close(self) -> None:
        """End all processes."""
        for peer in self.running:
            peer.process.close()

    def _fail(self, role: str, error: PeerError) -> None:
        self.failed[role] = str(error)
        self.say(f"{role}: failed, {error}")
