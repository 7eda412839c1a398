"""A ragged batch taken as it is, against the same batch padded first: `python -m benchmarks.ragged [--threads N]`.

Batches are of lengths of film reviews where `UNSPOOL_DATA_DIR` has them, else spread from 15 % to 100 % of T. Their
values ask for gradients, as those that come from an embedding do. Times are medians of rounds in which contenders take
turns; memory is the growth of resident memory at the peak of a training step, in a process of its own.

Letters: B rows, T steps, I input features, H hidden features, N real tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import unspool as us
from benchmarks.lengths import reviews, reviews_missing, spread_lengths
from benchmarks.memory import MIB, in_fresh_process, peak_over, unmeasurable
from unspool.comparison.peers.protocol import timed

BATCH, STEPS, FEATURES, ROUNDS = 32, 400, 128, 21
RETURNS = {"every output": True, "last output": False}
CONTENDERS = ("ragged", "padded")


def example(steps: int = STEPS) -> us.RaggedBatch:
    """Return a batch of random values.

    Parameters
    ----------
    steps : int
        T.
    """
    lengths = spread_lengths(steps, BATCH) if reviews_missing() else reviews(steps, BATCH, 1)[0]
    values = torch.randn(int(lengths.sum()), FEATURES, generator=torch.Generator().manual_seed(0))
    return us.RaggedBatch(values, lengths, None, torch.arange(BATCH))


def runner(contender: str, sequences: bool, batch: us.RaggedBatch, train: bool) -> Callable[[], Any]:
    """Return a call of an LSTM, with its backward pass where it is trained.

    Parameters
    ----------
    contender : {"ragged", "padded"}
    sequences : bool
        Whether every output is returned, or the last one of each row.
    batch : RaggedBatch
    train : bool
    """
    layer = us.LSTM(FEATURES, FEATURES, batch_first=True, return_sequences=sequences, return_state=False)
    batch = batch._replace(values=batch.values.detach().clone().requires_grad_(train))
    gradient = torch.ones(batch.values.shape if sequences else (BATCH, FEATURES))
    if contender == "padded" and sequences:
        gradient = batch._replace(values=gradient).to_padded()[0]

    def forward() -> Tensor:
        if contender == "padded":
            inputs, lengths = batch.to_padded()
            return layer(inputs, lengths=lengths)
        output = layer(batch)
        return output.values if sequences else output

    def step() -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(forward(), [batch.values, *layer.parameters()], gradient)

    def evaluate() -> Tensor:
        with torch.no_grad():
            return forward()

    return step if train else evaluate


def growth(contender: str, sequences: bool, threads: int) -> int:
    """Return by how many bytes memory grows in a training step; to be called in a fresh process.

    Parameters
    ----------
    contender, sequences
        See `runner`.
    threads : int
    """
    torch.set_num_threads(threads)
    runner(contender, sequences, example(2), train=True)()
    return peak_over(runner(contender, sequences, example(), train=True))


def milliseconds(batch: us.RaggedBatch, sequences: bool, train: bool, rounds: int = ROUNDS) -> dict[str, float]:
    """Time both contenders in turns and return their medians.

    Parameters
    ----------
    batch, sequences, train
        See `runner`.
    rounds : int
    """
    runs = {name: runner(name, sequences, batch, train) for name in CONTENDERS}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):  # the first two are not counted
        for name in CONTENDERS if turn % 2 else CONTENDERS[::-1]:
            times[name].append(1e3 * timed(runs[name])[0])
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}


def main(threads: Annotated[int | None, typer.Option(help="Threads of PyTorch and of the engine.")] = None) -> None:
    """Measure and print a table in Markdown."""
    if threads is not None:
        torch.set_num_threads(threads)
    batch, used = example(), torch.get_num_threads()
    share = len(batch.values) / (BATCH * int(batch.lengths.max()))
    sizes = f"B {BATCH}, T {int(batch.lengths.max())}, I = H = {FEATURES}"
    print(f"LSTM, {sizes}, {len(batch.values)} tokens ({share:.0%} real), threads: {used}")
    print("\n| | ragged ms | padded ms | ragged MiB | padded MiB |\n| --- | ---: | ---: | ---: | ---: |")
    for what, sequences in RETURNS.items():
        for mode, train in {"forward": False, "training": True}.items():
            taken = milliseconds(batch, sequences, train)
            memory = dict.fromkeys(CONTENDERS, "")
            if train and not unmeasurable():
                grown = partial(in_fresh_process, growth)
                memory = {name: f"{grown(name, sequences, used) / MIB:.0f}" for name in CONTENDERS}
            cells = [*(f"{taken[name]:.1f}" for name in CONTENDERS), *memory.values()]
            print(f"| {mode}, {what} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
