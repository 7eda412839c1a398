"""The peers in processes of their own that take part in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.configurations import Case
from benchmarks.measure import Effort, measure_case
from benchmarks.peer import PEERS, Peer, PeerError, find_python


class Team:
    """Starts the peers that have an environment.

    Parameters
    ----------
    wanted : bool
        Whether there are to be any.
    pythons : dict of str to str
        By name, as given on the command line.
    say : callable (str) -> None
        Is told of what goes wrong.

    Attributes
    ----------
    members : list of Peer
        Those that answer.
    versions : dict of str to dict
        Of all that have started.
    missing, failed : dict of str to str
        Why a peer takes no part: it has no environment; it ended or gave an error.
    """

    def __init__(self, wanted: bool, pythons: dict[str, str], say: Callable[[str], None]) -> None:
        self.members: list[Peer] = []
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.say = say
        found = {name: find_python(name, pythons) for name in PEERS} if wanted else {}
        for name, python in found.items():
            if not python:
                self.missing[name] = f"no --peer-python {name}=PATH, no UNSPOOL_PEER_{name.upper()}, no `make peers`"
                continue
            try:
                self.members.append(Peer(name, python))
            except PeerError as error:
                self._drop(error)
        self.versions = {peer.name: peer.versions for peer in self.members}

    def measure(self, case: Case, effort: Effort, memory: bool = True) -> dict[str, Any]:
        """Measure a case with the peers; if one fails, it takes no part any more, and the case is measured again.

        Parameters
        ----------
        case : Case
        effort : Effort
        memory : bool
            See `measure_case`.
        """
        while True:
            # Peers have the built-in cells, and rows that can be ragged are what they are compared on.
            some = self.members if case.kind.is_builtin and case.shape.batch > 1 else []
            try:
                return measure_case(case, effort, some, memory)
            except PeerError as error:
                self._drop(error)

    def close(self) -> None:
        """End all processes."""
        for peer in self.members:
            peer.close()

    def _drop(self, error: PeerError) -> None:
        self.failed[error.peer] = str(error)
        self.say(f"{error.peer}: failed, {error}")
        for peer in [peer for peer in self.members if peer.name == error.peer]:
            peer.close()
            self.members.remove(peer)
