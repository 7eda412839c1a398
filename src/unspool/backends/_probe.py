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
from typing import TYPE_CHECKING, Any

import numpy as np
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


def probe(backend: NativeBackend, small: Call, compiled: CompiledStep, reading: Reading) -> str:
    """Run small batches of a program and of its cell, and compare values and gradients.

    Values are small and large, of both signs, and whole numbers, and so are gradients.

    Parameters
    ----------
    backend : NativeBackend
        Whose `run_program` is checked.
    small : Call
        See `small_call`.
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
    small = replace(small, cell=named(reading))

    def measure(run: Callable[[Call], Result], small: Call) -> list[tuple[str, Tensor, float]]:
        per_row = [t for t in leaves_of((small.inputs, small.initial_state, small.row_inputs)) if isinstance(t, Tensor)]
        sources = [t for t in dict.fromkeys([*per_row, *tensors]) if t.requires_grad]
        with torch.enable_grad():
            found = _values_and_gradients(run(small), sources, sum(t.requires_grad for t in per_row))
        if run is not program:  # the loop gives the same without gradients; a program is run by another plan then
            return found + found[: len(compiled.results)]
        with torch.no_grad():
            return found + _values(run(small))

    def program(given: Call) -> Result:
        return backend.run_program(given, compiled, tensors, 1)

    want, got = measure(ReferenceBackend().run, small), measure(program, small)
    shaken: list[list[tuple[str, Tensor, float]]] = []
    for i, ((name, a, slope), (_, b, _)) in enumerate(zip(got, want, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"the program that was read from the cell gives {name} {list(a.shape)} for {list(b.shape)}"
        mine, wanted = _by_rows(name, a), _by_rows(name, b)
        tolerance = _tolerance(wanted, b.dtype)
        wrong = np.flatnonzero(~_close(mine, wanted, tolerance))
        if wrong.size and not shaken:
            shaken = [measure(ReferenceBackend().run, small_call(small, seed + 1)) for seed in range(SHAKES)]
        for k in wrong:
            noise = GROWTH * max(float(_apart(_by_rows(name, one[i][1])[k], wanted[k]).max()) for one in shaken)
            # Where a function is flat, shaking moves nothing, and its slope is what rounding leaves of it.
            noise += 4 * torch.finfo(b.dtype).eps * slope * sum(LENGTHS)
            if not _close(mine[k], wanted[k], tolerance[k] + (noise if noise < math.inf else 0.0)):
                worst = float(_apart(mine[k], wanted[k]).max())
                return f"the program that was read from the cell differs from it: {name} by {worst:.2g}"
    return ""


class Batches:
    """Whether a cell's step gives a sequence the same values in a batch of any size.

    No program says `if len(x) > 2`, and the readings, on some sixty sequences each, do not see it. So the step is run
    on sample sequences: on many when this is made, and then on as many as are asked for.

    Parameters
    ----------
    small : Call
        See `small_call`.
    run_step : callable
        Takes an input, a state and per-sequence inputs, and returns output and state, as `unspool.cells.step`.
    """

    def __init__(self, small: Call, run_step: Callable[[Nest, Nest, Nest | None], tuple[Nest, Nest]]) -> None:
        trees = map_leaves(lambda leaf: leaf[0], small.inputs), small.initial_state, small.row_inputs
        self._trees = [None if tree is None else map_leaves(torch.detach, tree) for tree in trees]
        self._step, self._path = run_step, Path()
        self._many = []
        for leaf in self._path.record(self._prepared(MANY)):
            values = _flat(leaf[: len(LENGTHS)])
            self._many.append((leaf.shape[1:], values, _tolerance(values, leaf.dtype)))

    def difference(self, rows: int, strided: bool = False) -> Reason:
        """Run the step on some sequences, side by side in memory or apart; say what differs, or nothing.

        Whatever the step raises is raised: it may have no values for so many sequences.
        """
        where = "where rows lie apart in memory" if strided else _in_a_batch_of(rows)
        return self._compared(self._prepared(rows, strided)(), rows, where)

    def difference_or_detour(self, rows: int) -> Reason:
        """Do what `difference` does, and have the code go the same way too: it is stopped where it does not."""
        found = self._path.follow(self._prepared(rows))
        if found is not None:
            return self._compared(found, rows, _in_a_batch_of(rows))
        at = self._path.left_at
        return Reason(f"the step does something else {_in_a_batch_of(rows)} ({at})", SAME_FOR_ALL, at)

    def _compared(self, found: list[Tensor], rows: int, where: str) -> Reason:
        which = np.arange(rows) % len(LENGTHS)
        for mine, (shape, wanted, tolerance) in zip(found, self._many, strict=True):
            if mine.shape != (rows, *shape):
                continue  # not one value per sequence: whoever runs the step says so
            if not _close(_flat(mine), wanted[which], tolerance[which]).all():
                return Reason(f"the step gives a row other values {where}", SAME_FOR_ALL)
        return Reason()

    def _prepared(self, rows: int, strided: bool = False) -> Callable[[], list[Tensor]]:
        which = torch.arange(rows) % len(LENGTHS)
        x, state, own = (None if tree is None else map_leaves(lambda leaf: leaf[which], tree) for tree in self._trees)
        if strided:  # as a step of inputs with the batch first
            x = map_leaves(lambda leaf: torch.stack([leaf, leaf], 1)[:, 0], x)
        return lambda: [leaf.detach() for leaf in leaves_of(self._step(x, state, own))]


def probe_batches(small: Call, batch: int, reading: Reading) -> tuple[Reason, Reason]:
    """Say where a step that has just been read gives a sequence other values than in a batch of many.

    Parameters
    ----------
    small : Call
        See `small_call`.
    batch : int
        How many sequences the call has for which it was read.
    reading : Reading
        Of the cell.

    Returns
    -------
    tuple of Reason
        In a few sequences, or where they lie apart in memory: such a step is not run by its program; and in a batch of
        the call's size, as `probe_batch` says it.
    """
    with torch.enable_grad():
        batches = Batches(small, reading.step)
        in_batch = _tried(lambda: batches.difference_or_detour(batch), batch) if batch else Reason()
        for rows, strided in (*((rows, False) for rows in FEW), (MANY, True)):
            if rows == batch and not strided and not in_batch:
                continue  # which has just been tried
            try:
                different = batches.difference(rows, strided)
            except EXPECTED:  # `squeeze()` of a single sequence, say: there the loop stops too, whoever runs the others
                continue
            if different:
                return different, in_batch
    return Reason(), in_batch


def probe_batch(call: Call) -> Reason:
    """Say why a cell is not run by its program in a batch as large as that of a call.

    The step itself is run, which leaves no trace: it has been read, and is stopped where it leaves the path.

    Parameters
    ----------
    call : Call
    """
    batch = call.schedule.batch

    def look() -> Reason:
        with torch.no_grad():
            return Batches(small_call(call), partial(step, call.cell)).difference_or_detour(batch)

    with turn():
        return apart(lambda: _tried(look, batch))


def _tried(look: Callable[[], Reason], rows: int) -> Reason:
    try:
        return look()
    except EXPECTED as error:
        return Reason(f"the step raises an error in a batch of {rows}: {error!r}")


def _in_a_batch_of(rows: int) -> str:
    return f"in a batch of {rows} than in a batch of {MANY}"


def _by_rows(name: str, tensor: Tensor) -> np.ndarray:
    """Return what belongs to each sequence in a row of its own; all in one where there are no sequences."""
    axis = next((axis for axis in (0, 1) if name.endswith("s") and tensor.shape[axis] == len(LENGTHS)), None)
    return _flat(tensor.unsqueeze(0) if axis is None else tensor.movedim(axis, 0))


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.reshape(len(tensor), math.prod(tensor.shape[1:])).double().numpy()


def _tolerance(rows: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Return by how much the values of each row may be off: by a share of the largest one."""
    largest = abs(rows).max(1, keepdims=True, initial=1e-9, where=np.isfinite(rows))
    return (1e-9 if dtype == torch.float64 else 1e-3) * largest


def _close(mine: np.ndarray, wanted: np.ndarray, tolerance: np.ndarray) -> Any:
    """Return for each row of two arrays whether its values are the same, but for so much."""
    near = _apart(mine, wanted) <= tolerance
    if not near.all():
        near |= (mine == wanted) | (np.isnan(mine) & np.isnan(wanted))
    return near.all(-1)


@np.errstate(over="ignore", invalid="ignore")  # among infinities
def _apart(mine: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return abs(mine - wanted)


def small_call(call: Call, shaken: int = 0) -> Call:
    """Return a call of the same form over a small ragged batch.

    If it is shaken, by a seed, values are off by some units of the last place, up or down by chance; whole numbers, at
    which functions bend, stay what they are.

    Parameters
    ----------
    call : Call
    shaken : int, optional
    """
    generator, signs = torch.Generator().manual_seed(7), torch.Generator().manual_seed(shaken)
    rows = len(LENGTHS)

    def sample(leaf: Tensor, *batch: int, skip: int) -> Tensor:
        shape = (*batch, *leaf.shape[skip:])
        if leaf.dtype == torch.bool:
            return torch.rand(shape, generator=generator) < 0.5
        if not leaf.is_floating_point():
            return torch.zeros(shape, dtype=leaf.dtype)
        values = torch.randn(shape, generator=generator, dtype=leaf.dtype)
        if shaken:
            up = torch.randint(0, 2, shape, generator=signs).to(leaf.dtype) * 2 - 1
            values = values * (1 + UNITS * torch.finfo(leaf.dtype).eps * up)
        sizes = torch.tensor(SIZES, dtype=leaf.dtype).view(-1, *[1] * (len(shape) - len(batch)))
        return torch.where(sizes == 0, (2 * values).round(), values * sizes).requires_grad_()

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


def _values(result: Result) -> list[tuple[str, Tensor, float]]:
    """Return the values of a run, with a slope of zero."""
    named = {"outputs": result.outputs, "final states": result.final_state}
    return [(name, leaf.detach(), 0.0) for name, tree in named.items() for leaf in leaves_of(tree)]


def _values_and_gradients(result: Result, sources: list[Tensor], per_row: int) -> list[tuple[str, Tensor, float]]:
    """Return the values of a run, and the gradients of two losses, a steep and a flat one; and how steep each is."""
    leaves = leaves_of((result.outputs, result.final_state))
    generator = torch.Generator().manual_seed(11)
    terms = [(leaf * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)).sum() for leaf in leaves]
    found = _values(result)
    loss = torch.stack(terms).sum()
    for slope in SLOPES if loss.requires_grad else ():
        grads = torch.autograd.grad(loss * slope, sources, allow_unused=True, retain_graph=True)
        for i, (source, grad) in enumerate(zip(sources, grads, strict=True)):
            grad = torch.zeros_like(source) if grad is None else grad
            # What a slope is multiplied by may be as large as values are, and so may what a weight is multiplied by.
            steep = slope * max(SIZES) ** (1 if i < per_row else 2)
            found.append((f"the gradient of {list(source.shape)}", grad, steep))
    return found
