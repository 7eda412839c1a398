"""A layer with lengths against `torch.nn`'s, packed and padded, on a CUDA device: `python -m benchmarks.gpu`.

The lengths are spread from 15 % to 100 % of T. `padded` computes the padding too: what it gives beyond a row's length,
and its final states, are not those asked for. Packing is timed, since it is part of a model's forward pass.

Letters: B rows, T steps, I input features, H hidden features.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unspool as us
from benchmarks.lengths import spread_lengths
from benchmarks.report import describe_machine

SIZES = [(32, 100, 128), (128, 400, 256), (64, 100, 1024)]
"""B, T and I = H."""
ROUNDS = 21
TOLERANCE = 1e-2
"""Of the largest value: TensorFloat-32 has ten bits of mantissa."""


def forward(name: str, layer: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """Return outputs `[B, T, H]` of a contender.

    Parameters
    ----------
    name : {"ours", "packed", "padded"}
    layer : Module
    x : Tensor of shape (B, T, I)
    lengths : LongTensor of shape (B,) on the CPU
    """
    if name == "ours":
        return layer(x, lengths=lengths)[0]
    if name == "padded":
        return layer(x)[0]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def measure(
    kind: str, batch: int, steps: int, size: int, train: bool, device: str = "cuda", rounds: int = ROUNDS
) -> dict[str, Any]:
    """Time all contenders in turns and return their medians in milliseconds, with the backend that ran ours.

    Parameters
    ----------
    kind : {"LSTM", "GRU", "RNN"}
    batch, steps, size : int
        B, T, and I = H.
    train : bool
        Whether the backward pass is timed too.
    device : str
    rounds : int

    Raises
    ------
    ValueError
        If ours differs from `torch.nn`'s: there is nothing to time then.
    """
    theirs = getattr(nn, kind)(size, size, batch_first=True).to(device)
    ours = us.accelerate(theirs, copy=True)
    x, lengths = torch.randn(batch, steps, size, device=device), spread_lengths(steps, batch)
    contenders: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: forward("ours", ours, x, lengths),
        "packed": lambda: forward("packed", theirs, x, lengths),
        "padded": lambda: forward("padded", theirs, x, lengths),
    }
    with torch.no_grad():
        wanted = contenders["packed"]()
        worst = float((contenders["ours"]() - wanted).abs().max() / wanted.abs().max())
    if not worst <= TOLERANCE:
        raise ValueError(f"{kind} differs from torch.nn's by {worst:.2g} of the largest value; expected {TOLERANCE}.")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(rounds + 2):  # the first two are not counted
        for name in order if turn % 2 else order[::-1]:
            times[name].append(_milliseconds(contenders[name], train, device))
    (decision,) = us.explain(ours, x, lengths=lengths).decisions
    medians = {name: statistics.median(taken[2:]) for name, taken in times.items()}
    options = {"kind": kind, "batch": batch, "steps": steps, "size": size, "train": train}
    return {**options, "real": float(lengths.sum()) / (batch * steps), "backend": decision.chosen, "ms": medians}


def _milliseconds(run: Callable[[], Tensor], train: bool, device: str) -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    with torch.set_grad_enabled(train):
        output = run()
        if train:
            output.sum().backward()
    wait()
    return 1e3 * (time.perf_counter() - start)


def main(output: Annotated[Path | None, typer.Option(help="Where to write the figures, as JSON.")] = None) -> None:
    """Measure and print a table in Markdown."""
    if not torch.cuda.is_available():
        sys.exit(f"benchmarks.gpu needs a CUDA device, and PyTorch {torch.__version__} finds none.")
    rows = []
    print("| | B | T | I = H | real | backend | ours ms | packed ms | padded ms |")
    print("| --- |" + " ---: |" * 8)
    for kind in ("LSTM", "GRU", "RNN"):
        for batch, steps, size in SIZES:
            for train in (False, True):
                row = measure(kind, batch, steps, size, train)
                rows.append(row)
                times = " | ".join(f"{ms:.2f}" for ms in row["ms"].values())
                mode = "training" if train else "forward"
                print(
                    f"| {kind}, {mode} | {batch} | {steps} | {size} | {row['real']:.0%} | {row['backend']} | {times} |"
                )
    if output is not None:
        output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
