"""The models in `examples/`, trained before and after `accelerate`: `python -m benchmarks.examples`.

Two copies of a model take steps in turns on the same batches, at the sizes of the example. A step is all of it:
forward, loss, backward, clipping, Adam. First their losses are compared; if they differ, no time is shown.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer

import unspool as us
from benchmarks.measure import timing
from benchmarks.report import as_text, describe_machine
from examples import crf_tagger, packed_classifier, seq2seq_attention
from unspool.comparison import busy

RESULTS = Path(__file__).parent / "results" / "examples.json"
CLOSE = 2e-5
"""How far two losses may be apart, as a share of the loss: float32 adds up in another order on the engine."""
STEPS = 50
WARMUP = 3
"""Steps at the beginning that are compared, but not timed."""


@dataclass(frozen=True)
class Example:
    """A model of `examples/`.

    Attributes
    ----------
    name : str
    module : module
        With `build`, `batches`, `loss` and `train`.
    tokens : tuple of str
        The fields of a batch that hold tokens; 0 is padding.
    """

    name: str
    module: ModuleType
    tokens: tuple[str, ...]

    def share(self, batches: Sequence[Any]) -> float:
        """Return the share of real tokens.

        Parameters
        ----------
        batches : sequence
        """
        tokens = torch.cat([getattr(batch, name).flatten() for batch in batches for name in self.tokens])
        return float((tokens != 0).float().mean())


EXAMPLES = (
    Example("packed classifier", packed_classifier, ("words",)),
    Example("CRF tagger", crf_tagger, ("words",)),
    Example("seq2seq with attention", seq2seq_attention, ("source", "target")),
)


def measure(example: Example, steps: int) -> dict[str, Any]:
    """Train a model before and after `accelerate`, and compare.

    Parameters
    ----------
    example : Example
    steps : int
        More than `WARMUP`.

    Returns
    -------
    dict
        Milliseconds of a step as `timing` gives them, and the losses. Where these differ, `wrong` says so and there are
        no times.
    """
    model, batches = example.module.build(seed=0), example.module.batches(steps)
    runs: dict[str, Iterator[float]] = {
        "after": example.module.train(us.accelerate(model, copy=True), batches),
        "before": example.module.train(model, batches),
    }
    losses: dict[str, list[float]] = {name: [] for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for step in range(steps):
        for name in list(runs)[:: 1 if step % 2 else -1]:
            torch.manual_seed(step)  # the same dropout
            start = time.perf_counter()
            losses[name].append(next(runs[name]))
            seconds[name].append(time.perf_counter() - start)
    pairs = list(zip(losses["before"], losses["after"], strict=True))
    apart = max(abs(before - after) / abs(before) for before, after in pairs)
    result = {
        "example": example.name,
        "threads": torch.get_num_threads(),
        "batch": len(batches[0].lengths),
        "real": example.share(batches),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "loss": [losses["before"][0], losses["before"][-1]],
        "apart": apart,
        "wrong": "" if apart <= CLOSE else f"losses differ by {apart:.1e}, at most {CLOSE:.0e} expected",
    }
    if not result["wrong"]:
        timed = {name: timing(taken[WARMUP:]) for name, taken in seconds.items()}
        each = [b / a for b, a in zip(seconds["before"][WARMUP:], seconds["after"][WARMUP:], strict=True)]
        low, _, high = statistics.quantiles(each, n=4)
        result |= timed | {"ratio": timed["before"][0] / timed["after"][0], "ratio_quartiles": [low, high]}
    return result


def main(
    threads: Annotated[list[int] | None, typer.Option(help="Threads, may be repeated. By default 1 and all.")] = None,
    steps: Annotated[int, typer.Option(min=WARMUP + 2, help="Training steps of each model.")] = STEPS,
    output: Annotated[Path, typer.Option(help="Results file.")] = RESULTS,
) -> None:
    """Compare and time the models, and write the results."""
    started, machine = datetime.now(UTC), describe_machine()
    if busy(machine):
        typer.echo(busy(machine), err=True)
    chosen = threads or sorted({1, torch.get_num_threads()})
    results = []
    for count in chosen:
        torch.set_num_threads(count)
        for example in EXAMPLES:
            results.append(measure(example, steps))
            typer.echo(_told(results[-1]))
    words = [f"--threads {count}" for count in threads or ()] + ([] if steps == STEPS else [f"--steps {steps}"])
    report = {
        "date": started.isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.examples", *words]),
        "machine": machine,
        "data": "IMDB, Shakespeare" if os.environ.get("UNSPOOL_DATA_DIR") else "made up",
        "results": results,
        "seconds": (datetime.now(UTC) - started).total_seconds(),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(as_text(report), encoding="utf-8")
    typer.echo(f"wrote {output}")
    if any(result["wrong"] for result in results):
        raise typer.Exit(1)


def _told(result: dict[str, Any]) -> str:
    """Return a result in words."""
    head = f"{result['example']}, threads: {result['threads']}, real tokens: {result['real']:.0%}"
    if result["wrong"]:
        return f"{head}: WRONG, {result['wrong']}"
    (before, *_), (after, *_), (low, high) = result["before"], result["after"], result["ratio_quartiles"]
    times = f"{before:.1f} ms before, {after:.1f} ms after, ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f})"
    return f"{head}: {times}; losses differ by {result['apart']:.1e}"


if __name__ == "__main__":
    typer.run(main)
