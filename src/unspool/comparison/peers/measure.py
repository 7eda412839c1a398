"""What the script of every contender does: make ready, build, first call, more calls, a longer sequence.

A script is called with the path of a task, a JSON file; its arrays lie beside it in a NumPy archive. It answers on the
standard output with one line of JSON for each stage, as soon as the stage is over; what libraries print goes to the
standard error. Numbers that it computed are written into archives, named by the task, for its caller to check.

It runs in the environment of the library that is measured, so it needs the standard library and NumPy only.

Letters: B rows, T steps, I input features, H hidden features, K columns, G gates.
"""

import gc
import json
import os
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

MB = 1e6
CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


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
    """What is to be measured.

    Attributes
    ----------
    variant : str
        Which form of the contender.
    weights : dict of str to array
        weight_ih (4H, I), weight_hh (4H, H), bias_ih and bias_hh (4H,); gates i, f, g, o.
    steps : int
        T.
    least, most : int
        How often to repeat the training step: `most` times at most, and `least` at least.
    seconds : float
        Between these bounds it is repeated until this time is over.
    """

    variant: str
    weights: dict[str, np.ndarray]
    steps: int
    least: int
    most: int
    seconds: float

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


class Contender(ABC):
    """One way to train an LSTM. Making it costs nothing yet.

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
        """Do one training step, forward and backward, and wait for its end."""

    @abstractmethod
    def results(self, values: Any) -> dict[str, np.ndarray]:
        """Name what `run` returned.

        Returns
        -------
        dict of str to array
            `outputs` (T, B, H), and the gradients of `inputs` (T, B, I), `weight_ih`, `weight_hh` and `bias_ih`, in the
            forms of `Task.weights`. Outputs of padding may be anything.
        """

    def nodes(self) -> int | None:
        """Return the number of nodes of the graph; None where none is kept."""
        return None


def columns(rows: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Bring a weight `[GH, K]` or a bias `[GH]` of PyTorch into `[K, GH]` or `[GH]` with the gates in another order."""
    blocks = np.split(rows, len(order))
    return np.ascontiguousarray(np.concatenate([blocks[k] for k in order]).T)


def rows(columns: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Do the opposite of `columns`."""
    blocks = np.split(columns.T, len(order))
    return np.concatenate([blocks[order.index(k)] for k in range(len(order))])


def measure(kind: type[Contender], versions: Mapping[str, str], out: TextIO, task_file: Path) -> None:
    """Measure a contender, and tell of each stage when it is over.

    Parameters
    ----------
    kind : type of Contender
    versions : dict of str to str
        Of the libraries that are measured.
    out : text file
        Gets a line of JSON for each stage.
    task_file : Path
    """

    def tell(stage: str, **values: Any) -> None:
        print(json.dumps({"stage": stage, **values}), file=out, flush=True)

    request = json.loads(task_file.read_text(encoding="utf-8"))
    arrays = {name: dict(np.load(request[name])) for name in ("weights", "batch", "longer") if name in request}
    task = Task(request["variant"], arrays["weights"], len(arrays["batch"]["inputs"]), *request["effort"])
    tell("ready", versions=dict(versions))
    contender = kind(task)
    placed = contender.place(_batch(arrays.pop("batch")))
    before = _reset_peak()
    seconds, _ = _timed(contender.build, placed)
    tell("build", seconds=seconds)
    seconds, values = _timed(contender.run, placed)
    tell("first", seconds=seconds)
    times: list[float] = []
    contender.run(placed)  # whatever is set up at a second call
    while len(times) < task.least or (sum(times) < task.seconds and len(times) < task.most):
        values = None
        seconds, values = _timed(contender.run, placed)
        times.append(seconds)
    tell("steps", seconds=times, peak_mb=None if before is None else (_status("VmHWM") - before) / MB)
    np.savez(request["answer"], allow_pickle=False, **contender.results(values))
    del values
    tell("answer", nodes=contender.nodes())
    if "longer" in arrays:
        longer = contender.place(_batch(arrays.pop("longer")))
        tell("longer", **_try_longer(contender, longer, Path(request["longer_answer"])))


def _try_longer(contender: Contender, placed: Any, answer: Path) -> dict[str, Any]:
    """Give a longer sequence to a contender that was built for a shorter one."""
    graphs = contender.graphs
    try:
        seconds, values = _timed(contender.run, placed)
    except Exception as error:  # noqa: BLE001  libraries refuse with errors of any type; it is told in their words
        return {"outcome": "refused", "seconds": None, "message": first_line(error)}
    np.savez(answer, allow_pickle=False, **contender.results(values))
    return {"outcome": "rebuilds" if contender.graphs > graphs else "runs", "seconds": seconds, "message": None}


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    values = function(*arguments)
    return time.perf_counter() - start, values


def _batch(arrays: dict[str, np.ndarray]) -> Batch:
    mask = np.arange(len(arrays["inputs"]))[:, None] < arrays["lengths"]
    return Batch(arrays["inputs"], arrays["lengths"], mask, arrays["grad"])


def _reset_peak() -> int | None:
    """Let the peak of resident memory begin with what is resident, and return that; None where Linux is not."""
    gc.collect()
    if not os.access(CLEAR, os.W_OK):
        return None
    CLEAR.write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, f"{STATUS} has no {name}"
    return int(found[1]) * 1024


def main(kind: type[Contender], versions: Mapping[str, str]) -> None:
    """Measure what the first argument of the command names, with the standard output for answers alone.

    Parameters
    ----------
    kind : type of Contender
    versions : dict of str to str
        Of the libraries that are measured.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        measure(kind, versions, out, Path(sys.argv[1]))
