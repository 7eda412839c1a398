"""Does a ragged batch cost what its tokens cost, however many rows it has and however uneven they are?

`python -m benchmarks.ragged_scale` runs an LSTM over batches of rows of two steps, one among them of 1,000: padded they
would have 1,000 steps each. Times are medians of rounds; memory is the growth of resident memory at the peak of a call.
Each figure is made in a process of its own.

Letters: B rows, I input features, H hidden features, N real tokens.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unspool as us
from benchmarks.memory import MIB, in_fresh_process, peak_over, unmeasurable
from benchmarks.report import describe_machine, write
from unspool.comparison.peers.protocol import timed

SHORT, LONG, INPUTS, HIDDEN = 2, 1000, 8, 16
LARGEST = {"native": 10**6, "reference": 10**4}
"""Backends, and up to how many rows each of them is run."""


def example(rows: int, long: int = LONG) -> us.RaggedBatch:
    """Return a batch of random values.

    Parameters
    ----------
    rows, long : int
        B, and the steps of the longest row.
    """
    lengths = torch.full((rows,), SHORT)
    lengths[rows // 2] = long
    values = torch.randn(int(lengths.sum()), INPUTS, generator=torch.Generator().manual_seed(0))
    return us.RaggedBatch(values, lengths, None, torch.arange(rows))


def runner(backend: str, batch: us.RaggedBatch, train: bool) -> Callable[[], Any]:
    """Return a call of an LSTM, with its backward pass where it is trained.

    Parameters
    ----------
    backend : {"native", "reference"}
    batch : RaggedBatch
    train : bool
    """
    torch.manual_seed(0)
    values, layer = batch.values.clone().requires_grad_(train), us.LSTM(INPUTS, HIDDEN, backend=backend)

    def forward() -> Tensor:
        return layer(batch._replace(values=values))[0].values

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(forward().sum(), [values, *layer.parameters()])

    def evaluate() -> Tensor:
        with torch.no_grad():
            return forward()

    return step if train else evaluate


def measure(backend: str, rows: int, train: bool, threads: int, rounds: int) -> dict[str, float]:
    """Return median seconds and MiB; to be called in a fresh process.

    Parameters
    ----------
    backend, train
        See `runner`.
    rows, threads, rounds : int
    """
    torch.set_num_threads(threads)
    runner(backend, example(3, 4), train)()
    run = runner(backend, example(rows), train)
    found = {} if unmeasurable() else {"mib": peak_over(run) / MIB}
    return {"seconds": statistics.median(timed(run)[0] for _ in range(rounds)), **found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print a table in Markdown, write JSON.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line, by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ragged_scale", description=__doc__)
    parser.add_argument("--most", type=int, default=10**6, help="rows of the largest batch")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each")
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/ragged_scale.json"), help="where to write"
    )
    given = parser.parse_args(arguments)
    machine, results = describe_machine(), []
    print("| backend | rows | tokens | forward s | forward MiB | training s | training MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for backend, largest in LARGEST.items():
        for rows in (10**k for k in range(2, 7)):
            if rows > min(largest, given.most):
                continue
            case: dict[str, Any] = {"backend": backend, "rows": rows, "tokens": SHORT * (rows - 1) + LONG}
            for mode, train in {"forward": False, "train": True}.items():
                case[mode] = in_fresh_process(measure, backend, rows, train, torch.get_num_threads(), given.rounds)
            results.append(case)
            print(as_line(case), flush=True)
    write(given.json, "ragged_scale", arguments, machine, results)


def as_line(case: dict[str, Any]) -> str:
    """Return a line of the table.

    Parameters
    ----------
    case : dict
    """
    figures = [
        text
        for mode in ("forward", "train")
        for text in (f"{case[mode]['seconds']:.3f}", f"{case[mode]['mib']:.0f}" if "mib" in case[mode] else "")
    ]
    return f"| {case['backend']} | {case['rows']:,} | {case['tokens']:,} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
