"""Run the cells of torchrecurrent and of ncps, as they are, and compare with those packages' own loops.

    pip install torchrecurrent==0.2.5 ncps==1.0.1
    python scripts/foreign_cells.py

checks and measures every cell and writes benchmarks/results/foreign_cells.json, of which `scripts/result_tables.py`
makes the table in docs/foreign-cells.md. With ``--check`` nothing is measured, and the table has no times.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unspool as us
from unspool._machine import describe_machine, versions
from unspool._nest import leaves_of

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "foreign_cells.json"
PACKAGES = ("torchrecurrent", "ncps")
SIZES = {"B": 32, "T": 100, "I": 64, "H": 64}
REPEATS = 5


class RecurrentCell(us.Cell):
    """A cell of torchrecurrent: it has no `initial_state`, which is zero, and gives back its state alone."""

    def __init__(self, cell: Any) -> None:
        state = cell(torch.zeros(1, cell.input_size))
        gives_output = type(cell).__mro__[1].__name__.startswith("Decoupled")
        state = state[1] if gives_output else state
        sizes = tuple(leaf.shape[1] for leaf in state) if isinstance(state, tuple) else state.shape[1]
        super().__init__(sizes)
        self.cell, self.gives_output = cell, gives_output

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Compute one step."""
        if self.gives_output:
            return self.cell(x, state)
        state = self.cell(x, state)
        return (state[0] if isinstance(state, tuple) else state), state


class DelayedCell(us.Cell):
    """torchrecurrent's tauGRUCell, which wants the state before the last one too: here it is part of the state."""

    def __init__(self, cell: Any) -> None:
        super().__init__((cell.hidden_size, cell.hidden_size))
        self.cell = cell

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Compute one step."""
        h = self.cell(x, *state)
        return h, (h, state[0])


class TimedCell(us.Cell):
    """A cell of ncps, which wants the time since the last step too: 1."""

    def __init__(self, cell: Any, size: int) -> None:
        super().__init__(size)
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step."""
        return self.cell(x, h, 1.0)


class MixedCell(us.Cell):
    """What ncps's layers run at each step with `mixed_memory=True`: an LSTM, then the cell."""

    def __init__(self, memory: Any, cell: Any, size: int) -> None:
        super().__init__((size, size))
        self.memory, self.cell = memory, cell

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Compute one step."""
        h, c = self.memory(x, state)
        output, h = self.cell(x, h, 1.0)
        return output, (h, c)


Loop = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""The package's own layer: inputs (B, T, I) to outputs (B, T, ...) and final states (B, ...)."""


def _recurrent(name: str, input_size: int, hidden_size: int) -> tuple[us.Cell, Loop]:
    package: Any = import_module("torchrecurrent")
    layer = getattr(package, name)(input_size, hidden_size, batch_first=True)
    cell = layer.cells[0]

    def loop(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        outputs, state = layer(x)
        return outputs, [leaf.squeeze(0) for leaf in leaves_of(state)]

    return (DelayedCell if name == "tauGRU" else RecurrentCell)(cell), loop


def _ncps(layer: Any) -> tuple[us.Cell, Loop]:
    size = layer.state_size
    cell = MixedCell(layer.lstm, layer.rnn_cell, size) if layer.use_mixed else TimedCell(layer.rnn_cell, size)

    def loop(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        start = x.new_zeros(len(x), size)  # their own is float32 always
        outputs, state = layer(x, (start, start) if layer.use_mixed else start)
        return outputs, leaves_of(state)

    return cell, loop


def _wiring(units: int) -> Any:
    wirings: Any = import_module("ncps.wirings")
    motor = max(1, units // 8)
    command, inter = max(1, units // 4), units - max(1, units // 4) - motor
    return wirings.NCP(inter, command, motor, 2, 2, 2, 2, seed=1)


NCPS: dict[str, Callable[[Any, int, int], Any]] = {
    "CfC": lambda n, i, h: n.CfC(i, h),
    "CfC, pure": lambda n, i, h: n.CfC(i, h, mode="pure"),
    "CfC, no gate": lambda n, i, h: n.CfC(i, h, mode="no_gate"),
    "CfC, mixed memory": lambda n, i, h: n.CfC(i, h, mixed_memory=True),
    "CfC, wired": lambda n, i, h: n.CfC(i, _wiring(h)),
    "LTC": lambda n, i, h: n.LTC(i, h),
    "LTC, wired": lambda n, i, h: n.LTC(i, _wiring(h)),
}


def missing() -> str:
    """Return which package is not installed, or an empty string."""
    absent = [name for name in PACKAGES if util.find_spec(name) is None]
    return f"{', '.join(absent)} is not installed (pip install torchrecurrent ncps)" if absent else ""


def names() -> list[str]:
    """Return the names of all cells, as `package.cell`."""
    package: Any = import_module("torchrecurrent")
    cells = sorted(name.removesuffix("Cell") for name in dir(package) if name.endswith("Cell"))
    return [f"torchrecurrent.{name}" for name in cells] + [f"ncps.{name}" for name in NCPS]


def make(name: str, input_size: int, hidden_size: int) -> tuple[us.Cell, Loop]:
    """Make a cell for this library, and the package's own loop over the same cell.

    Parameters
    ----------
    name : str
    input_size, hidden_size : int
    """
    package, cell = name.split(".")
    if package == "torchrecurrent":
        return _recurrent(cell, input_size, hidden_size)
    return _ncps(NCPS[cell](import_module("ncps.torch"), input_size, hidden_size))


def decide(cell: us.Cell, x: Tensor) -> tuple[str, str]:
    """Return the backend that runs a cell, and why the engine does not.

    Parameters
    ----------
    cell : cell
    x : Tensor of shape (B, T, I)
    """
    (decision,) = us.explain(cell, x).decisions
    return decision.chosen, "; ".join(decision.reasons["native"])


def difference(cell: us.Cell, loop: Loop, x: Tensor) -> float:
    """Return by how much outputs, final states and gradients differ from those of the package's loop.

    Each is taken relative to its largest value. Of tauGRU's two states, theirs gives the first.

    Parameters
    ----------
    cell : cell
    loop : callable
    x : Tensor of shape (B, T, I)
    """

    def everything(run: Callable[[Tensor], tuple[Tensor, Any]]) -> dict[str, Tensor]:
        leaf = x.detach().requires_grad_()
        cell.zero_grad()
        outputs, state = run(leaf)
        _loss(outputs).backward()
        found = {"outputs": outputs.detach(), "input": leaf.grad}
        found |= {f"state {i}": s.detach() for i, s in enumerate(leaves_of(state))}
        return found | {name: p.grad for name, p in cell.named_parameters() if p.grad is not None}

    own, theirs = everything(lambda leaf: us.dynamic_rnn(cell, leaf)), everything(loop)
    return max(float((own[n] - t).abs().max() / t.abs().max().clamp(min=1e-30)) for n, t in theirs.items())


def _loss(outputs: Tensor) -> Tensor:
    return outputs.square().sum() + outputs.sum()


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Check a cell against its package's loop; return medians of training steps of both, in milliseconds.

    Parameters
    ----------
    name : str
    repeats : int
        Of each, in turns; none are measured where it is 0.

    Raises
    ------
    AssertionError
        If the numbers differ.
    """
    torch.manual_seed(0)
    cell, loop = make(name, SIZES["I"], SIZES["H"])
    x = torch.randn(SIZES["B"], SIZES["T"], SIZES["I"])
    backend, reason = decide(cell, x)
    # In float64 and over few steps: in some of these cells two states that differ by rounding part company after fifty.
    apart = difference(cell.double(), loop, x[:, :20].double())
    if apart > 1e-9:
        raise AssertionError(f"{name} differs from its package's loop by {apart:.2g} of the largest value")
    row: dict[str, Any] = {"name": name, "backend": backend, "reason": reason}
    if not repeats:
        return row
    cell.float()
    ways: dict[str, Callable[[Tensor], Any]] = {"own": loop, "unspool": lambda leaf: us.dynamic_rnn(cell, leaf)}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + repeats):  # the first is thrown away
        for way, run in ways.items():
            leaf = x.detach().requires_grad_()
            cell.zero_grad()
            start = time.perf_counter()
            _loss(run(leaf)[0]).backward()
            times[way].append(1e3 * (time.perf_counter() - start))
    medians = {f"{way}_ms": round(statistics.median(ms[1:]), 2) for way, ms in times.items()}
    return row | medians


def main() -> None:
    """Check, and measure unless that is declined."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    if missing():
        parser.error(missing())
    cells = []
    for name in names():
        cells.append(measure(name, 0 if asked.check else REPEATS))
        print(cells[-1], flush=True)
    made_with = versions("unspool", "torch", "numpy", *PACKAGES)
    found = {
        "versions": made_with,
        "machine": describe_machine(),
        "sizes": SIZES,
        "repeats": REPEATS,
        "cells": cells,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
