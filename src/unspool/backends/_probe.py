"""Checking a new program once, before its first use: against the cell itself, forward, backward and by sequence.

A gradient that is zero in theory, as that of a number added before a softmax, is rounding and nothing else. So where a
value differs the cell is run once more with values that are off by some units of the last place: what that alone makes
of it is no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unspool._nest import Nest, leaves_of, map_leaves
from unspool._reason import Reason
from unspool.backends._difference import GROWTH, UNITS
from unspool.backends._schedule import Schedule
from unspool.backends.base import Call, Result
from unspool.backends.reference import ReferenceBackend
from unspool.cells import beside, name_of, step
from unspool.program.observe import apart
from unspool.program.path import Path
from unspool.program.read import EXPECTED, Reading
from unspool.program.turns import turn

if TYPE_CHECKING:
    from unspool.backends._engine_run import CompiledStep
    from unspool.backends.native import NativeBackend

STEPS, LENGTHS = 3, (3, 1, 2, 2)
SIZES = (1.0, 30.0, 0.01, 0.0)
"""Of the values in each sequence; 0 stands for whole numbers, where functions with a bend have it."""

SLOPES = (1e4, 1e-4)
"""Of the gradients that come in."""

FEW, MANY = (1, 2, 3, 4), 64
"""Numbers of sequences."""

SAME_FOR_ALL = "let the step do the same for each row, in a batch of any size"

SHAKES = 3
"""How often a cell is run with values that are slightly off, where a value differs."""


class _Stepping(nn.Module):
    """A cell that is run as it is read: under watch, on stand-ins for its tensors."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading

    def row_inputs(self, batch_size: int, **options: object) -> None:
        """Make `step` hand on row inputs and constants apart."""

    def forward(
        self, x: Nest, state: Nest, rows: Nest | None = None, constants: Nest | None = None
    ) -> tuple[Nest, Nest]:
        return self._reading.step(x, state, beside(rows, constants))


def probe(backend: NativeBackend, call: Call, compiled: CompiledStep, reading: Reading) -> str:
    """Run small batches of a program and of its cell, and compare values and gradients.

    Values are small and large, of both signs, and whole numbers, and so are gradients.

    Parameters
    ----------
    backend : NativeBackend
        Whose `run_program` is checked.
    call : Call
        Gives the form of inputs and states.
    compiled : CompiledStep
        The program.
    reading : Reading
        Of the cell.

    Returns
    -------
    str
        What differs; empty if nothing does.
    """
    recording = compiled.step.recording
    pairs = zip(recording.parameters, recording.made, strict=True)
    tensors = [reading.foreign.stand_in(t) for t, made in pairs if not made]
    named = type(name_of(reading.cell), (_Stepping,), {})  # as errors call it
    stepping = replace(call, cell=named(reading))

    def measure(run: Callable[[Call], Result], small: Call) -> list[tuple[str, Tensor, float]]:
        per_row = [t for t in leaves_of((small.inputs, small.initial_state, small.row_inputs)) if isinstance(t, Tensor)]
        sources = [t for t in dict.fromkeys([*per_row, *tensors]) if t.requires_grad]
        with torch.enable_grad():
            return _values_and_gradients(run(small), sources, sum(t.requires_grad for t in per_row))

    small = _small(stepping)
    want = measure(ReferenceBackend().run, small)
    got = measure(lambda given: backend.run_program(given, compiled, tensors, 1), small)
    shaken: list[list[tuple[str, Tensor, float]]] = []
    for i, ((name, a, slope), (_, b, _)) in enumerate(zip(got, want, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"the program that was read from the cell gives {name} {list(a.shape)} for {list(b.shape)}"
        wrong = [k for k, (mine, wanted) in enumerate(_by_rows(name, a, b)) if not _close(mine, wanted)]
        if not wrong:
            continue
        shaken = shaken or [measure(ReferenceBackend().run, _small(stepping, seed)) for seed in range(1, SHAKES + 1)]
        rows = _by_rows(name, a, b)
        for k in wrong:
            off = [_by_rows(name, one[i][1], b)[k] for one in shaken]
            noise = GROWTH * max(float((x - y).abs().max()) for x, y in off)
            # Where a function is flat, shaking moves nothing, and its slope is what rounding leaves of it.
            noise += 4 * torch.finfo(b.dtype).eps * slope * sum(LENGTHS)
            if not _close(*rows[k], slack=noise):
                worst = float((rows[k][0] - rows[k][1]).abs().max())
                return f"the program that was read from the cell differs from it: {name} by {worst:.2g}"
    return ""


class Batches:
    """Whether a cell's step gives a sequence the same values in a batch of any size.

    No program says `if len(x) > 2`, and the readings, on some sixty sequences each, do not see it. So the step is run
    on sample sequences: on many when this is made, and then on as many as are asked for.

    Parameters
    ----------
    call : Call
        Gives the form of inputs and states.
    run_step : callable
        Takes an input, a state and per-sequence inputs, and returns output and state, as `unspool.cells.step`.
    path : Path, optional
        Where it is given, the code has to go the same way too, and is stopped where it does not.
    """

    def __init__(
        self, call: Call, run_step: Callable[[Nest, Nest, Nest | None], tuple[Nest, Nest]], path: Path | None = None
    ) -> None:
        self._small, self._step, self._path = _small(call), run_step, path
        run = self._prepared(MANY)
        self._many = run() if path is None else path.record(run)

    def difference(self, rows: int, strided: bool = False) -> Reason:
        """Run the step on some sequences, side by side in memory or apart; say what differs, or nothing.

        Whatever the step raises is raised: it may have no values for so many sequences.
        """
        where = "where rows lie apart in memory" if strided else f"in a batch of {rows} than in a batch of {MANY}"
        run = self._prepared(rows, strided)
        found = run() if self._path is None else self._path.follow(run)
        if found is None:
            assert self._path is not None
            at = self._path.left_at
            return Reason(f"the step does something else {where} ({at})", SAME_FOR_ALL, at)
        for mine, wanted in zip(found, self._many, strict=True):
            if mine.shape[:1] != (rows,) or mine.shape[1:] != wanted.shape[1:]:
                continue  # not one value per sequence: whoever runs the step says so
            if not _close_by_rows(mine, wanted[torch.arange(rows) % len(LENGTHS)]):
                return Reason(f"the step gives a row other values {where}", SAME_FOR_ALL)
        return Reason()

    def _prepared(self, rows: int, strided: bool = False) -> Callable[[], list[Tensor]]:
        small = self._small

        def take(tree: Nest) -> Nest:
            return map_leaves(lambda leaf: leaf.detach()[torch.arange(rows) % len(LENGTHS)], tree)

        x = take(map_leaves(lambda leaf: leaf[0], small.inputs))
        if strided:  # as a step of inputs with the batch first
            x = map_leaves(lambda leaf: torch.stack([leaf, leaf], 1)[:, 0], x)
        state, own = take(small.initial_state), None if small.row_inputs is None else take(small.row_inputs)
        return lambda: [leaf.detach() for leaf in leaves_of(self._step(x, state, own))]


def probe_batches(call: Call, reading: Reading) -> Reason:
    """Say where a step that has just been read gives a sequence other values in small batches, or apart in memory.

    Parameters
    ----------
    call : Call
        Gives the form of inputs and states.
    reading : Reading
        Of the cell.
    """
    with torch.enable_grad():
        batches = Batches(call, reading.step)
        for rows, strided in (*((rows, False) for rows in FEW), (MANY, True)):
            try:
                different = batches.difference(rows, strided)
            except EXPECTED:  # `squeeze()` of a single sequence, say: there the loop stops too, whoever runs the others
                continue
            if different:
                return different
    return Reason()


def probe_batch(call: Call) -> Reason:
    """Say why a cell is not run by its program in a batch as large as that of a call.

    The step itself is run, which leaves no trace: it has been read, and is stopped where it leaves the path.

    Parameters
    ----------
    call : Call
    """

    def look() -> Reason:
        with torch.no_grad():
            try:
                return Batches(call, partial(step, call.cell), Path()).difference(call.schedule.batch)
            except EXPECTED as error:
                return Reason(f"the step raises an error in a batch of {call.schedule.batch}: {error!r}")

    with turn():
        return apart(look)


def _by_rows(name: str, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return two tensors sequence by sequence, where they have sequences."""
    axis = next((axis for axis in (0, 1) if name.endswith("s") and a.shape[axis] == len(LENGTHS)), None)
    return [(a, b)] if axis is None else list(zip(a.unbind(axis), b.unbind(axis), strict=True))


def _close_by_rows(mine: Tensor, wanted: Tensor) -> bool:
    """Do what `_close` does for each row of two tensors of one shape, at once."""
    a, b = mine.reshape(len(mine), -1).double(), wanted.reshape(len(wanted), -1).double()
    if not b.numel():
        return True
    tolerance = _share(wanted) * b.nan_to_num(0.0, 0.0, 0.0).abs().amax(1, keepdim=True).clamp(min=1e-9)
    return bool((((a - b).abs() <= tolerance) | (a == b) | (a.isnan() & b.isnan())).all())


def _share(wanted: Tensor) -> float:
    """Return which share of the largest value two of them may differ by."""
    return 1e-9 if wanted.dtype == torch.float64 else 1e-3


def _close(mine: Tensor, wanted: Tensor, slack: float = 0.0) -> bool:
    scale = float(wanted.nan_to_num(0.0, 0.0, 0.0).abs().max()) if wanted.numel() else 0.0
    tolerance = _share(wanted) * max(scale, 1e-9)
    return torch.allclose(mine, wanted, rtol=0.0, atol=tolerance + (slack if slack < math.inf else 0.0), equal_nan=True)


def _small(call: Call, shaken: int = 0) -> Call:
    """Return a call of the same form over a small ragged batch.

    If it is shaken, by a seed, values are off by some units of the last place, up or down by chance; whole numbers, at
    which functions bend, stay what they are.
    """
    generator, signs = torch.Generator().manual_seed(7), torch.Generator().manual_seed(shaken)
    units = UNITS if shaken else 0
    rows = len(LENGTHS)

    def sample(leaf: Tensor, *batch: int, skip: int) -> Tensor:
        shape = (*batch, *leaf.shape[skip:])
        if leaf.dtype == torch.bool:
            return torch.rand(shape, generator=generator) < 0.5
        if not leaf.is_floating_point():
            return torch.zeros(shape, dtype=leaf.dtype)
        values = torch.randn(shape, generator=generator, dtype=leaf.dtype)
        up = torch.randint(0, 2, shape, generator=signs).to(leaf.dtype) * 2 - 1
        values = values * (1 + units * torch.finfo(leaf.dtype).eps * up)
        parts = values.unbind(len(batch) - 1)
        parts = [part * size if size else (2 * part).round() for part, size in zip(parts, SIZES, strict=True)]
        return torch.stack(parts, len(batch) - 1).requires_grad_()

    live = torch.arange(STEPS).unsqueeze(1) < torch.tensor(LENGTHS)
    states = map_leaves(lambda leaf: sample(leaf, rows, skip=1), call.initial_state)
    own = call.row_inputs
    return replace(
        call,
        inputs=map_leaves(lambda leaf: sample(leaf, STEPS, rows, skip=2), call.inputs),
        initial_state=states,
        row_inputs=None if own is None else map_leaves(lambda leaf: sample(leaf, rows, skip=1), own),
        schedule=Schedule(STEPS, rows, live, None, reverse=False, device=torch.device("cpu")),
        static=False,
    )


def _values_and_gradients(result: Result, sources: list[Tensor], per_row: int) -> list[tuple[str, Tensor, float]]:
    """Return the values of a run, and the gradients of two losses, a steep and a flat one; and how steep each is."""
    named = {"outputs": result.outputs, "final states": result.final_state}
    values = [(name, leaf) for name, tree in named.items() for leaf in leaves_of(tree)]
    generator = torch.Generator().manual_seed(11)
    terms = [(leaf * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)).sum() for _, leaf in values]
    found = [(name, leaf.detach(), 0.0) for name, leaf in values]
    loss = torch.stack(terms).sum()
    for slope in SLOPES if loss.requires_grad else ():
        grads = torch.autograd.grad(loss * slope, sources, allow_unused=True, retain_graph=True)
        for i, (source, grad) in enumerate(zip(sources, grads, strict=True)):
            grad = torch.zeros_like(source) if grad is None else grad
            # What a slope is multiplied by may be as large as values are, and so may what a weight is multiplied by.
            steep = slope * max(SIZES) ** (1 if i < per_row else 2)
            found.append((f"the gradient of {list(source.shape)}", grad, steep))
    return found
