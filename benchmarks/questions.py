"""What it costs to ask, before every run, whether what was read from a cell still stands; and what reading one costs.

`python -m benchmarks.questions` runs layers and cells once, so that they are read, and then times the question alone:
the best of rounds, in microseconds. Beside it stands how much it looks at, and what the first run has taken, which
reads and checks the step.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import unspool as us
from benchmarks.cells import LayerNormLSTMCell
from benchmarks.report import describe_machine, write
from unspool.backends.dispatch import BACKENDS
from unspool.backends.native import NativeBackend
from unspool.comparison.peers.protocol import timed

LIMITS = {"built-in layer": 15.0, "own cell": 40.0}
"""Microseconds that a question may take."""

INPUTS, HIDDEN = 16, 32


class Attending(us.Cell):
    """A cell that attends to a memory, which is given as a constant."""

    def __init__(self) -> None:
        super().__init__(HIDDEN)
        self.gru, self.key, self.query, self.score = (
            nn.GRUCell(INPUTS + 8, HIDDEN), nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)
        )  # fmt: skip

    def forward(self, x: Any, h: Any, memory: Any) -> tuple[Any, Any]:
        """Attend, and step."""
        a = self.score(torch.tanh(self.query(h).unsqueeze(1) + self.key(memory))).softmax(1)
        h = self.gru(torch.cat([x, (a * memory).sum(1)], 1), h)
        return h, h


class WithSettings(us.Cell):
    """A cell with numbers, functions and a table of its own."""

    def __init__(self) -> None:
        super().__init__(HIDDEN)
        self.lin, self.slope, self.act = nn.Linear(INPUTS + HIDDEN, HIDDEN), 1.0, torch.tanh
        self.table = {f"setting {k}": float(k) for k in range(20)}
        self.parts = dict(self.lin.named_parameters())

    def forward(self, x: Any, h: Any) -> tuple[Any, Any]:
        """Step."""
        h = self.act(self.slope * self.lin(torch.cat([x, h], 1))) * self.table["setting 1"]
        return h, h


def _gates(count: int) -> list[nn.Module]:
    return [us.GRUCell(HIDDEN, HIDDEN) for _ in range(count)]


CASES: dict[str, tuple[str, Callable[[], nn.Module], dict[str, Any]]] = {
    "LSTM": ("built-in layer", lambda: us.LSTM(INPUTS, HIDDEN), {}),
    "GRU": ("built-in layer", lambda: us.GRU(INPUTS, HIDDEN), {}),
    "SimpleRNN": ("built-in layer", lambda: us.SimpleRNN(INPUTS, HIDDEN), {}),
    "a layer-norm LSTM": ("own cell", lambda: us.RNN(LayerNormLSTMCell(INPUTS, HIDDEN)), {}),
    "attention to a memory": ("own cell", lambda: us.RNN(Attending()), {"constants": torch.randn(4, 7, 8)}),
    "settings, a table, parameters in a dict": ("own cell", lambda: us.RNN(WithSettings()), {}),
    "a stack of three": ("own cell", lambda: us.RNN(us.StackedRNNCells([WithSettings(), *_gates(2)])), {}),
}  # fmt: skip


def measure(make: Callable[[], nn.Module], given: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return microseconds of the question, number of places it looks at, and milliseconds of the first run.

    Parameters
    ----------
    make : callable
        Makes the layer.
    given : dict
        Arguments beside the input.
    rounds : int
    """
    (native,) = (backend for backend in BACKENDS if isinstance(backend, NativeBackend))
    layer, x, asked = make(), torch.randn(5, 4, INPUTS), []
    first = 1e3 * timed(partial(layer, x, **given))[0]
    with native.kept.watched(asked.append):
        layer(x, **given)
    (cell,) = asked
    guard = native.kept.latest(cell)
    assert guard is not None, f"{cell} was not read"
    taken = min(timeit.repeat(lambda: guard(cell), number=200, repeat=rounds)) / 200
    return {"microseconds": 1e6 * taken, "places": len(guard.places), "first run, ms": first}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print a table in Markdown, write JSON; exit with 1 where a question takes too long.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line, by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="repetitions of each")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/questions.json"), help="where to write")
    given = parser.parse_args(arguments)
    machine, results = describe_machine(), []
    measure(*CASES["LSTM"][1:], 1)
    print("| what is asked about | question, us | at most | places | first run, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (kind, make, others) in CASES.items():
        case = {"name": name, "kind": kind, "limit": LIMITS[kind], **measure(make, others, given.rounds)}
        results.append(case)
        figures = f"{case['microseconds']:.1f} | {case['limit']:.0f} | {case['places']} | {case['first run, ms']:.0f}"
        print(f"| {name} ({kind}) | {figures} |", flush=True)
    write(given.json, "questions", arguments, machine, results)
    sys.exit(int(any(case["microseconds"] > case["limit"] for case in results)))


if __name__ == "__main__":
    main()
