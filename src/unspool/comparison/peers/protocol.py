"""What a peer's process does: it reads requests, a line of JSON each, and answers each of them with a line of JSON.

    {"do": "prepare", "arrays": "problem.npz", "cell": "LSTM", "variant": "1", "ragged": true, "training": true}
    {"do": "run", "least": 7, "most": 51, "seconds": 3.0}
    {"do": "answer", "file": "answer.npz"}

`prepare` builds, `run` does the work at least once and tells the seconds of each time, `answer` writes what the last
run computed, for the caller to check. Before all requests a line tells the versions. An error is answered with its
first line. Whatever libraries print goes to the standard error.

It runs in the environment of the library that is measured, so it needs the standard library and NumPy only.

Letters: B rows, T steps, I input features, H hidden features, K batches, G gates.
"""

import gc
import json
import os
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MB = 1e6
CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
RESULTS = ("outputs", "inputs", *WEIGHTS)
"""The order in which peers compute: outputs, then the gradients of inputs and weights."""


@dataclass(frozen=True)
class Batch:
    """Some sequences.

    Attributes
    ----------
    inputs : float32 array of shape (T, B, I)
    lengths : int32 array of shape (B,)
    mask : bool array of shape (T, B)
        True for real steps.
    grad : float32 array of shape (T, B, H)
        The gradient of the outputs, zero for padding.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    mask: np.ndarray
    grad: np.ndarray


@dataclass(frozen=True)
class Task:
    """What is to be built.

    Attributes
    ----------
    cell : {"LSTM", "GRU", "SimpleRNN"}
    variant : str
        Which form of the peer.
    ragged, training : bool
        Whether lengths differ, and whether gradients are wanted.
    weights : dict of str to array
        weight_ih (GH, I), weight_hh (GH, H), bias_ih and bias_hh (GH,); gates as in PyTorch: i, f, g, o and r, z, n.
    steps : int
        T of the first batch.
    """

    cell: str
    variant: str
    ragged: bool
    training: bool
    weights: dict[str, np.ndarray]
    steps: int

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weights["weight_hh"].shape[1]

    @property
    def input_size(self) -> int:
        """I."""
        return self.weights["weight_ih"].shape[1]

    @property
    def bias(self) -> np.ndarray:
        """Both biases in one."""
        return self.weights["bias_ih"] + self.weights["bias_hh"]

    @property
    def biases(self) -> list[np.ndarray]:
        """Both biases where the cell needs them apart, which is the GRU; else their sum alone."""
        return [self.weights["bias_ih"], self.weights["bias_hh"]] if self.cell == "GRU" else [self.bias]


class Peer(ABC):
    """One way to run a recurrent layer. Making it costs nothing yet.

    Parameters
    ----------
    task : Task

    Attributes
    ----------
    graphs : int
        How many graphs were built so far; 0 for a library that builds none. A call that raises it has built again.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.graphs = 0

    @abstractmethod
    def place(self, batch: Batch) -> Any:
        """Return a batch as the library takes it. This is not timed."""

    @abstractmethod
    def build(self, placed: Any) -> None:
        """Construct the layer, or the graph."""

    @abstractmethod
    def run(self, placed: Any) -> Any:
        """Run forward and, in training, backward, and wait for the end."""

    @abstractmethod
    def results(self, values: Any) -> dict[str, np.ndarray]:
        """Name what `run` returned.

        Returns
        -------
        dict of str to array
            `outputs` (T, B, H), and in training the gradients of `inputs` (T, B, I), `weight_ih`, `weight_hh`,
            `bias_ih` and, where the peer has it, `bias_hh`, in the forms of `Task.weights`. Outputs of padding may be
            anything.
        """

    def nodes(self) -> int | None:
        """Return the number of nodes of the graph; None where none is kept."""
        return None

    def close(self) -> None:  # noqa: B027  many libraries keep nothing
        """Let go of what the library keeps of the peer."""


def columns(rows: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Bring a weight `[GH, I]` or a bias `[GH]` of PyTorch into `[I, GH]` or `[GH]` with the gates in another order."""
    blocks = np.split(rows, len(order))
    return np.ascontiguousarray(np.concatenate([blocks[k] for k in order]).T)


def rows(columns: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Do the opposite of `columns`."""
    blocks = np.split(columns.T, len(order))
    return np.concatenate([blocks[order.index(k)] for k in range(len(order))])


def read(path: str | Path) -> tuple[dict[str, np.ndarray], list[Batch]]:
    """Read weights and batches, each cut to its longest row.

    Parameters
    ----------
    path : str or Path
        A NumPy archive of inputs (T, B, I), lengths (K, B), gradients of the outputs `grad` (T, B, H), and weights.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    inputs, lengths, grad = (arrays.pop(name) for name in ("inputs", "lengths", "grad"))
    batches = []
    for some in lengths.astype(np.int32):
        steps = int(some.max())
        mask = np.arange(steps)[:, None] < some
        batches.append(Batch(inputs[:steps], some, mask, grad[:steps] * mask[:, :, None]))
    return arrays, batches


class Session:
    """What is prepared and computed between two requests; each method answers one kind.

    Parameters
    ----------
    kind : type of Peer
    """

    def __init__(self, kind: type[Peer]) -> None:
        self.kind = kind
        self.peer: Peer | None = None
        self.placed: list[Any] = []
        self.values: list[Any] = []
        self.resident: int | None = None

    def prepare(self, arrays: str, **task: Any) -> dict[str, Any]:
        """Build a peer, after letting go of the one before.

        Parameters
        ----------
        arrays : str
            See `read`.
        **task
            Of `Task`: cell, variant, ragged, training.
        """
        self.placed, self.values = [], []
        if self.peer is not None:
            self.peer.close()
        weights, batches = read(arrays)
        self.peer = self.kind(Task(**task, weights=weights, steps=len(batches[0].inputs)))
        self.placed = [self.peer.place(batch) for batch in batches]
        self.resident = reset_peak()
        seconds, _ = timed(self.peer.build, self.placed[0])
        return {"seconds": seconds}

    def run(self, least: int = 1, most: int = 1, seconds: float = 0.0, arrays: str | None = None) -> dict[str, Any]:
        """Run all batches: `most` times at most and `least` at least; between these, until a time is over.

        Parameters
        ----------
        least, most : int
        seconds : float
        arrays : str, optional
            Other batches for what was built: see `read`.
        """
        assert self.peer is not None, "expected do: prepare, then do: run"
        run = self.peer.run
        if arrays is not None:
            self.placed = [self.peer.place(batch) for batch in read(arrays)[1]]
        times: list[float] = []
        while len(times) < least or (sum(times) < seconds and len(times) < most):
            self.values = []
            taken, self.values = timed(lambda: [run(placed) for placed in self.placed])
            times.append(taken)
        peak = None if self.resident is None else (memory("VmHWM") - self.resident) / MB
        return {"seconds": times, "graphs": self.peer.graphs, "peak_mb": peak}

    def answer(self, file: str) -> dict[str, Any]:
        """Write what the last run computed into an archive; names begin with the number of the batch.

        Parameters
        ----------
        file : str
        """
        assert self.peer is not None, "expected do: prepare, do: run, then do: answer"
        found = {f"{k} {n}": a for k, values in enumerate(self.values) for n, a in self.peer.results(values).items()}
        np.savez(file, allow_pickle=False, **found)
        return {"nodes": self.peer.nodes()}


def answers(lines: Iterable[str], versions: Mapping[str, str], kind: type[Peer]) -> Iterator[dict[str, Any]]:
    """Yield the answer to each line; the first is to none and tells the versions.

    Parameters
    ----------
    lines : iterable of str
        Requests.
    versions : dict of str to str
        Of the libraries that are measured.
    kind : type of Peer
    """
    yield {"versions": {**versions, "numpy": np.__version__, "python": sys.version.split()[0]}}
    session = Session(kind)
    for line in lines:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001  libraries refuse with errors of any type; it is told in their words
            answer = {"error": first_line(error)}
        yield answer


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return how many seconds a call took, and what it returned: letting go of that is not timed."""
    start = time.perf_counter()
    values = function(*arguments)
    return time.perf_counter() - start, values


def reset_peak() -> int | None:
    """Let the peak of resident memory begin with what is resident, and return that; None where Linux is not."""
    gc.collect()
    if not os.access(CLEAR, os.W_OK):
        return None
    CLEAR.write_text("5", encoding="ascii")
    return memory("VmRSS")


def memory(name: str) -> int:
    """Return an entry of Linux's status of this process, such as VmRSS, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, f"{STATUS} has no {name}"
    return int(found[1]) * 1024


def main(kind: type[Peer], versions: Mapping[str, str]) -> None:
    """Answer the requests on the standard input until it ends, with the standard output for answers alone.

    Parameters
    ----------
    kind : type of Peer
    versions : dict of str to str
        Of the libraries that are measured.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for answer in answers(sys.stdin, versions, kind):
            print(json.dumps(answer), file=out, flush=True)
