"""Up to how many steps is PyTorch's own kernel the faster one, for a batch without lengths?

`python -m benchmarks.few_steps` times `torch.nn`'s modules against accelerated ones that always run on the engine. From
the figures come the numbers of steps up to which accelerated modules leave such a batch to PyTorch.

Letters: B rows, T steps, H features in and out.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import unspool as us
from benchmarks.report import describe_machine, write
from unspool.comparison.peers.protocol import timed

KINDS = (nn.LSTM, nn.GRU, nn.RNN)
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
SHAPES = ((1, 128), (1, 256), (32, 128), (32, 256))
"""B and H."""


def run(module: nn.Module, x: Tensor, training: bool) -> list[Tensor]:
    """Run a module once; in training with the gradients of the input and of all parameters."""
    if not training:
        with torch.no_grad():
            return [module(x)[0]]
    output = module(x)[0]
    return [output.detach(), *torch.autograd.grad(output.sum(), [x, *module.parameters()])]


def measure(
    kind: Callable[..., nn.Module], steps: int, batch: int, size: int, training: bool, times: int
) -> dict[str, Any]:
    """Check and time one case, in turns.

    Parameters
    ----------
    kind : callable
        `torch.nn.LSTM`, `GRU` or `RNN`.
    steps, batch, size : int
        T, B and H.
    training : bool
    times : int
        Repetitions.

    Returns
    -------
    dict
        Median microseconds of both, and the ratio: above 1 where the engine is faster.
    """
    torch.manual_seed(0)
    theirs = kind(size, size)
    ours = us.accelerate(theirs, copy=True, backend="native")
    x = torch.randn(steps, batch, size, requires_grad=training)
    for a, b in zip(run(theirs, x, training), run(ours, x, training), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times + 3):
        for module, seconds in zip((theirs, ours), taken, strict=True):
            seconds.append(timed(run, module, x, training)[0])
    torch_us, engine_us = (1e6 * statistics.median(seconds[3:]) for seconds in taken)
    case = {"module": theirs._get_name(), "mode": "train" if training else "forward"}
    case |= {"T": steps, "B": batch, "H": size}
    return case | {"torch_us": torch_us, "engine_us": engine_us, "ratio": torch_us / engine_us}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print a line for each module and shape, write JSON.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line, by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_steps", description=__doc__)
    parser.add_argument("--times", type=int, default=31, help="repetitions of each")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/few_steps.json"), help="where to write")
    given = parser.parse_args(arguments)
    results = []
    print("torch's time / the engine's, T =", *STEPS)
    for kind in KINDS:
        for training in (False, True):
            for batch, size in SHAPES:
                row = [measure(kind, steps, batch, size, training, given.times) for steps in STEPS]
                results += row
                print(
                    f"{kind.__name__:5}{'train' if training else 'forward':8} B {batch:2} H {size}",
                    *(f"{case['ratio']:5.2f}" for case in row),
                    flush=True,
                )
    write(given.json, "few_steps", arguments, describe_machine(), results)


if __name__ == "__main__":
    main()
