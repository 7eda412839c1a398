# pyright: basic, reportMissingImports=false
"""What every peer's script shares: it reads requests, a line of JSON each, and answers with a line of JSON each.

    {"do": "prepare", "cell": "LSTM", "ragged": true, "training": true, "arrays": "request.npz", "answer": "answer.npz"}
    {"do": "run"}

The first answer of a script tells its versions. `prepare` runs the case once and writes what it computed; `run` runs it
once more and tells the seconds. Anything else that is printed goes to the standard error, so that answers stay alone.
Runs in the peer's own environment: needs the standard library and NumPy only.

Letters: B rows, T steps, I input features, H hidden features, K batches, G gates.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes
    ----------
    inputs : array of shape (T, B, I)
    lengths : int32 array of shape (B,)
    mask : bool array of shape (T, B)
        True for real tokens.
    grad : array of shape (T, B, H)
        The gradient of the outputs, zero for padding.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    mask: np.ndarray
    grad: np.ndarray


@dataclass(frozen=True)
class Task:
    """What a peer is to do.

    Attributes
    ----------
    cell : {"LSTM", "GRU", "SimpleRNN"}
    ragged, training : bool
    weights : dict of str to array
        weight_ih (GH, I), weight_hh (GH, H), bias_ih and bias_hh (GH,); gates as in PyTorch: i, f, g, o and r, z, n.
    batches : list of Batch
    """

    cell: str
    ragged: bool
    training: bool
    weights: dict[str, np.ndarray]
    batches: list[Batch]

    @property
    def bias(self) -> np.ndarray:
        """Both biases in one."""
        return self.weights["bias_ih"] + self.weights["bias_hh"]


Prepare = Callable[[Task], tuple[Callable[[], Any], Callable[[], Sequence[Any]]]]
"""Takes a task, gives `run`, which does it once and waits for its end, and `results`, which does it and tells all.

Results are a dict for each batch: `outputs` (T, B, H); in training the gradients of `inputs`, `weight_ih`, `weight_hh`,
`bias_ih`, and of `bias_hh` where the peer has it.
"""


def columns(rows: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Bring a weight `[GH, K]` or a bias `[GH]` of PyTorch into `[K, GH]` or `[GH]` with the gates in another order."""
    blocks = np.split(rows, len(order))
    return np.ascontiguousarray(np.concatenate([blocks[k] for k in order]).T)


def rows(columns: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Do the opposite of `columns`."""
    blocks = np.split(columns.T, len(order))
    return np.concatenate([blocks[order.index(k)] for k in range(len(order))])


def read_task(request: Mapping[str, Any]) -> Task:
    """Read the arrays of a request."""
    with np.load(request["arrays"]) as file:
        arrays = dict(file)
    inputs, lengths, grad = (arrays.pop(name) for name in ("inputs", "lengths", "grad"))
    batches = []
    for some in lengths.astype(np.int32):
        steps = int(some.max())
        mask = np.arange(steps)[:, None] < some
        batches.append(Batch(inputs[:steps], some, mask, grad[:steps] * mask[:, :, None]))
    return Task(request["cell"], request["ragged"], request["training"], arrays, batches)


def answers(lines: TextIO, versions: Mapping[str, str], prepare: Prepare) -> Iterator[dict[str, Any]]:
    """Yield the answer to each line; the first is to none and tells the versions.

    Parameters
    ----------
    lines : iterable of str
        Requests.
    versions : dict of str to str
    prepare : callable
        See `Prepare`.
    """
    yield {"versions": {**versions, "numpy": np.__version__, "python": sys.version.split()[0]}}
    run: Callable[[], Any] | None = None
    for line in lines:
        request = json.loads(line)
        if request["do"] == "prepare":
            run = None  # lets go of the case before this one
            run, results = prepare(read_task(request))
            named = {f"{k} {name}": np.asarray(a) for k, batch in enumerate(results()) for name, a in batch.items()}
            np.savez(request["answer"], allow_pickle=False, **named)
            yield {"done": "prepare"}
        elif request["do"] == "run" and run is not None:
            start = time.perf_counter()
            run()
            yield {"done": "run", "seconds": time.perf_counter() - start}
        else:
            yield {"error": f"received {request}; expected do: prepare, then do: run"}


def serve(versions: Mapping[str, str], prepare: Prepare) -> None:
    """Answer the requests on the standard input until it ends.

    Parameters
    ----------
    versions : dict of str to str
        Of the libraries that are measured.
    prepare : callable
        See `Prepare`.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        for answer in answers(sys.stdin, versions, prepare):
            print(json.dumps(answer), file=out, flush=True)
