"""What does a call of one step, or of a few, take?

`python -m benchmarks.steps` times layers, layers over a cell of one's own, accelerated modules, resets, training and
streams against `torch.nn`'s modules, against calling the cell itself, which is what one step at a time comes to without
a layer, and streams against ONNX Runtime too. Each of two contenders is called some times, in turns.

Letters: B sequences, T steps, H features in and out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import unspool as us
from benchmarks.report import describe_machine, write

KINDS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "LSTM": (us.LSTM, nn.LSTM), "GRU": (us.GRU, nn.GRU), "SimpleRNN": (us.SimpleRNN, nn.RNN),
}  # fmt: skip
SIZES = (64, 256, 1024)
BATCHES = (1, 8)
TRAINED = ((1, 64), (32, 128))
"""B and H of training."""
STEPS = (1, 4, 10)
LONG = 0.002
"""Seconds that the calls of one contender take together, before it is the other one's turn."""


class MinimalGatedUnit(us.Cell):
    """A cell of one's own (Zhou et al., 2016)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(state_size=hidden_size)
        self.forget = nn.Linear(input_size + hidden_size, hidden_size)
        self.new = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the new state of a step."""
        f = torch.sigmoid(self.forget(torch.cat([x, state], -1)))
        n = torch.tanh(self.new(torch.cat([x, f * state], -1)))
        h = (1 - f) * state + f * n
        return h, h


class Case(NamedTuple):
    """Two ways to compute the same."""

    name: str
    against: str
    steps: int
    batch: int
    size: int
    training: bool
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def cases(sizes: Sequence[int] = SIZES, batches: Sequence[int] = BATCHES, trained: Any = TRAINED) -> Iterator[Case]:
    """Yield all cases.

    Parameters
    ----------
    sizes, batches : sequence of int
        H and B of calls without gradients.
    trained : sequence of pair of int
        B and H of training steps.
    """
    for size in sizes:
        for batch in batches:
            for steps in STEPS:
                yield from _forward(steps, batch, size)
            yield from _streams(batch, size)
    for batch, size in trained:
        for steps in STEPS:
            for name, (layer, module) in KINDS.items():
                x = torch.randn(steps, batch, size, requires_grad=True)
                theirs = module(size, size)
                ours = layer(size, size)
                ours.load_state_dict(theirs.state_dict())
                yield Case(name, "torch.nn", steps, batch, size, True, _training(ours, x), _training(theirs, x))


def _forward(steps: int, batch: int, size: int) -> Iterator[Case]:
    x = torch.randn(steps, batch, size)
    for name, (layer, module) in KINDS.items():
        theirs, ours = module(size, size), layer(size, size)
        ours.load_state_dict(theirs.state_dict())
        accelerated = us.accelerate(theirs, copy=True)
        state = theirs(x)[1]
        resets = torch.zeros(steps, batch, dtype=torch.bool)

        def torchs(theirs: Any = theirs, state: Any = state) -> Any:
            return theirs(x, state)

        form = (steps, batch, size, False)
        yield Case(name, "torch.nn", *form, lambda f=ours, s=state: f(x, s), torchs)
        yield Case(f"accelerated {name}", "torch.nn", *form, lambda f=accelerated, s=state: f(x, s), torchs)
        if steps == 1:
            reset = lambda f=ours, s=state, r=resets: f(x, s, resets=r)  # noqa: E731
            yield Case(f"{name} with resets", "torch.nn without", *form, reset, torchs)
    cell = MinimalGatedUnit(size, size)
    own, start = us.RNN(cell), torch.zeros(batch, size)

    def loop() -> Any:
        state, outputs = start, []
        for step in x.unbind(0):
            output, state = cell(step, state)
            outputs.append(output)
        return torch.stack(outputs), state

    yield Case("RNN(own cell)", "the cell", steps, batch, size, False, lambda: own(x, start), loop)


def _streams(batch: int, size: int) -> Iterator[Case]:
    """Yield streams, each against what carries its state by itself."""
    x = torch.randn(batch, size)
    form = (1, batch, size, False)
    own = MinimalGatedUnit(size, size)
    contenders: list[tuple[str, Any, Callable[[], Any], str]] = []
    for name, (layer, module) in KINDS.items():
        theirs, ours = module(size, size), layer(size, size)
        ours.load_state_dict(theirs.state_dict())
        contenders.append((name, ours, _carrying(theirs, x.unsqueeze(0), None), "torch.nn"))
    contenders.append(("own cell", own, _carrying(own, x, own.initial_state(batch)), "the cell"))
    for name, model, theirs, against in contenders:
        yield Case(f"stream of {name}", against, *form, _stepping(model, x), theirs)
        exported = _in_onnx_runtime(model, x)
        if exported is not None:
            yield Case(f"stream of {name}", "ONNX Runtime", *form, _stepping(model, x), exported)


def _stepping(model: Any, x: Tensor) -> Callable[[], Any]:
    stream = us.stream(model, len(x))
    return lambda: stream.step(x)


def _carrying(module: Callable[..., Any], x: Tensor, state: Any) -> Callable[[], Any]:
    def step() -> Tensor:
        nonlocal state
        output, state = module(x, state)
        return output.view(x.shape[-2], -1)

    return step


def _in_onnx_runtime(model: Any, x: Tensor) -> Callable[[], Any] | None:
    """Return a step of a session of the exported model, from arrays to arrays; None where ONNX Runtime is missing."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = us.export_onnx(model, Path(folder) / "step.onnx", streaming=True, example_step=x)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = list(file.inputs), list(file.outputs)
    axis = list(file.inputs.values())[1].index("batch")
    values: list[Any] = [x.numpy(), *(np.repeat(file.start[name], len(x), axis) for name in inputs[1:])]

    def step() -> Tensor:
        output, *states = session.run(outputs, dict(zip(inputs, values, strict=True)))
        values[1:] = states
        return torch.from_numpy(output)

    return step


def _training(module: nn.Module, x: Tensor) -> Callable[[], Any]:
    def step() -> Any:
        output = module(x)[0]
        return output.detach(), *torch.autograd.grad(output.sum(), [x, *module.parameters()])

    return step


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Check that both compute the same, and time them.

    Parameters
    ----------
    case : Case
    rounds : int

    Returns
    -------
    dict
        Median microseconds of both, and the ratio: above 1 where ours is faster.
    """
    with torch.set_grad_enabled(case.training):
        found, wanted = [(case.ours(), case.theirs()) for _ in range(3)][-1]
        for a, b in zip(tree_leaves(found), tree_leaves(wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
        taken: dict[Callable[[], Any], list[float]] = {case.ours: [], case.theirs: []}
        times = {run: max(1, int(LONG / _seconds(run, 1))) for run in taken}
        for _ in range(rounds):
            for run, seconds in taken.items():
                seconds.append(_seconds(run, times[run]))
    ours, theirs = (1e6 * statistics.median(seconds) for seconds in taken.values())
    about = {"name": case.name, "against": case.against, "mode": "training" if case.training else "forward"}
    about |= {"T": case.steps, "B": case.batch, "H": case.size}
    return about | {"ours_us": round(ours, 1), "theirs_us": round(theirs, 1), "ratio": round(theirs / ours, 3)}


def _seconds(run: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print a line for each, write JSON.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line, by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="H")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/steps.json"), help="where to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    results = []
    for case in cases(given.sizes):
        found = measure(case, given.rounds)
        results.append(found)
        what = f"{case.name:24} {found['mode']:8} T {case.steps:2} B {case.batch:2} H {case.size:4}"
        print(f"{what} {found['ours_us']:9.1f} us, {case.against} {found['theirs_us']:9.1f} us", flush=True)
    write(given.json, "steps", arguments, describe_machine(), results)


if __name__ == "__main__":
    main()
