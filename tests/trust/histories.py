"""Runs and changes of a world, one after the other, by this library and by the plain Python loop."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import unspool as us
from tests.conformance.oracle import call, first_state
from tests.trust.snapshots import Snapshot, differences, global_randomness, snapshot
from tests.trust.worlds import FEATURES, World
from unspool._nest import leaves_of, map_leaves
from unspool.cells import row_inputs_of

SCALES = (1.0, 1e-3, 1e4)
"""Of the loss: one run each at first, and for two of them in turn after each change."""

STEPS = 5

Run = Callable[[Any, Tensor, list[int], Any], tuple[Any, Any]]
"""`(cell, inputs, lengths, initial state)` to `(outputs, final state)`."""


def plain_loop(cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
    """Call the cell step by step, on the rows that have not ended."""
    state = first_state(cell, len(x), x.dtype) if state is None else state
    given = row_inputs_of(cell, len(x), x.dtype, x.device)
    outputs: list[Any] = []
    for t in range(max(lengths)):
        rows = torch.tensor([b for b, length in enumerate(lengths) if length > t])
        old = map_leaves(lambda leaf, r=rows: leaf[r], state)
        constant = None if given is None else map_leaves(lambda leaf, r=rows: leaf[r], given)
        output, new = call(cell, x[rows, t], old, constant)
        ended = len(rows) < len(x)
        state = map_leaves(lambda s, n, r=rows: s.index_copy(0, r, n), state, new) if ended else new
        blank = map_leaves(lambda leaf: leaf.new_zeros((len(x), *leaf.shape[1:])), output)
        outputs.append(map_leaves(lambda z, o, r=rows: z.index_copy(0, r, o), blank, output))
    nothing = [map_leaves(torch.zeros_like, outputs[0])] * (x.shape[1] - len(outputs))
    return map_leaves(lambda *leaves: torch.stack(leaves, 1), *outputs, *nothing), state


@dataclass
class Library:
    """Runs a cell by this library: by a function, as a layer and unrolled, in turn.

    Attributes
    ----------
    backend : str
    refusals : list of str
        Of the native backend; what it refuses is run on the reference backend.
    runs : int
        How many runs there have been.
    """

    backend: str = "auto"
    refusals: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def alarms(self) -> list[str]:
        """Refusals of programs that gave other numbers than their cells: right to refuse, and wrong to have made."""
        return [reason for reason in self.refusals if "differs from it" in reason]

    def __call__(self, cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
        way = (_dynamic, _layer, _static)[self.runs % 3]
        self.runs += 1
        try:
            return way(cell, x, lengths, state, self.backend)
        except us.BackendError as error:
            if self.backend != "native":
                raise
            self.refusals.append(str(error))
            return way(cell, x, lengths, state, "reference")


class Whole(Library):
    """Runs it always in one way, over whole sequences: a call has the form of the one before."""

    def __call__(self, cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
        del lengths
        try:
            return us.dynamic_rnn(cell, x, None, state, backend=self.backend)
        except us.BackendError as error:
            self.refusals.append(str(error))
            return us.dynamic_rnn(cell, x, None, state, backend="reference")


class Streamed(Library):
    """Runs it step by step by one stream, made anew where the cell is of another dtype."""

    stream: us.Stream | None = None

    def __call__(self, cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
        if self.stream is None or leaves_of(self.stream.state)[0].dtype != leaves_of(state)[0].dtype:
            self.stream = us.stream(cell, len(lengths), dtype=x.dtype)
        self.stream.state = map_leaves(torch.detach, state)
        outputs = [self.stream.step(frame.detach()) for frame in x.unbind(1)]
        return map_leaves(lambda *leaves: torch.stack(leaves, 1), *outputs), self.stream.state


def loop_without_gradients(cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
    """Call the cell step by step, on all rows."""
    with torch.no_grad():
        return whole_loop(cell, x, lengths, state)


def whole_loop(cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
    """Call the cell step by step, on all rows."""
    return plain_loop(cell, x, [x.shape[1]] * len(lengths), state)


def _dynamic(cell: Any, x: Tensor, lengths: list[int], state: Any, backend: str) -> tuple[Any, Any]:
    return us.dynamic_rnn(cell, x, lengths, state, backend=backend)


def _layer(cell: Any, x: Tensor, lengths: list[int], state: Any, backend: str) -> tuple[Any, Any]:
    training = cell.training
    layer = us.RNN(cell, batch_first=True, backend=backend)
    assert cell.training == training
    return layer(x, state, lengths=lengths)


def _static(cell: Any, x: Tensor, lengths: list[int], state: Any, backend: str) -> tuple[Any, Any]:
    outputs, final = us.static_rnn(cell, list(x.unbind(1)), lengths, state, backend=backend)
    return map_leaves(lambda *leaves: torch.stack(leaves, 1), *outputs), final


def seed_everything(seed: int = 0) -> None:
    """Let two worlds begin alike."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)


def history(make: Callable[[], World], run: Run, scales: tuple[float, ...] = SCALES) -> list[tuple[Snapshot, float]]:
    """Make a world, run it and change it in turn.

    Returns
    -------
    list of (Snapshot, float)
        All that there is after each run, and the scale of its loss.
    """
    seed_everything()
    world = make()
    generator = torch.Generator().manual_seed(1)
    stages: list[Callable[[], object]] = [lambda: None, *world.changes]
    found = []
    try:
        for number, change in enumerate(stages):
            change()
            left = scales[number % len(scales)] if number and len(scales) > 2 else None
            found += [(_one_run(world, run, scale, generator), scale) for scale in scales if scale != left]
    finally:
        world.restore()
    return found


def _one_run(world: World, run: Run, scale: float, generator: torch.Generator) -> Snapshot:
    """Run forward and backward once; say all that is different after it."""
    dtype = next((p.dtype for p in world.cell.parameters()), torch.get_default_dtype())
    rows = 4
    x = torch.randn(rows, STEPS, FEATURES, generator=generator).to(dtype).requires_grad_()
    lengths = torch.randint(0, STEPS + 1, (rows,), generator=generator).tolist()
    lengths[int(torch.randint(rows, (), generator=generator))] = STEPS
    world.start(rows)
    state = first_state(world.cell, rows, dtype)
    state = map_leaves(lambda s: torch.rand(s.shape, generator=generator).to(dtype).requires_grad_(), state)
    for parameter in world.cell.parameters():
        parameter.grad = None
    results: dict[str, Any] = {"raised": None}
    try:
        outputs, final = run(world.cell, x, lengths, state)
        results |= {"outputs": outputs, "final": final}
        loss = _loss([*leaves_of(outputs), *leaves_of(final)], world.penalty(), generator)
        if loss.requires_grad:
            (scale * loss).backward()
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        results["raised"] = type(error).__name__
    # No gradient at all is one of zeros: which of them it is depends on the rows' lengths, in a loop too.
    leaves = map_leaves(lambda t: torch.zeros_like(t) if t.grad is None else t.grad, {"x": x, "h0": state})
    # Results come first, without what they share with attributes.
    table = snapshot(map_leaves(lambda v: v.detach() if isinstance(v, Tensor) else v, results))
    table |= {f"gradient{path}": value for path, value in snapshot(leaves).items()}
    table |= {f"cell{path}": value for path, value in snapshot(world.cell).items()}
    table |= {f"watched{path}": value for path, value in snapshot(world.watch()).items()}
    return table | {f"randomness{path}": value for path, value in global_randomness().items()}


def _loss(leaves: list[Tensor], penalty: Tensor | None, generator: torch.Generator) -> Tensor:
    terms = []
    for leaf in leaves:
        weight = torch.randn(leaf.shape, generator=generator).to(leaf.dtype)
        terms.append((leaf * weight).sum() + 0.5 * leaf.square().sum())
    return torch.stack(terms).sum() + (0.0 if penalty is None else penalty)


def compare(
    got: list[tuple[Snapshot, float]],
    want: list[tuple[Snapshot, float]],
    floor: float = 1e-6,
    relative: float = 1e-4,
) -> list[str]:
    """Say where two histories differ, in the first run in which they do; `floor` and `relative` as in `differences`."""
    assert len(got) == len(want)
    for number, ((one, scale), (other, _)) in enumerate(zip(got, want, strict=True)):
        found = differences(one, other, floor * max(scale, 1e-3), relative)
        if found:
            return [f"run {number + 1} (loss times {scale:g}):", *found[:12]]
    return []
