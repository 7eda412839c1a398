"""Checking a new program once, before its first use: against the cell itself, forward, backward and row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unspool._nest import Nest, leaves_of, map_leaves
from unspool.backends._schedule import Schedule
from unspool.backends.base import Call, Result
from unspool.backends.reference import ReferenceBackend
from unspool.program.reading import Reading

if TYPE_CHECKING:
    from unspool.backends._engine_run import CompiledStep
    from unspool.backends.native import NativeBackend

STEPS, ROWS = 3, 3
LENGTHS = (3, 1, 2)

SCALES = ((1.0, 1.0), (30.0, 1e4), (0.01, 1e-4))
"""Of the values of inputs and states, and of the gradients that come in."""


class _Stepping(nn.Module):
    """A cell that is run as it is read: under watch, on stand-ins for its tensors."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading

    def forward(self, x: Nest, state: Nest, rows: Nest | None = None) -> tuple[Nest, Nest]:
        return self._reading.step(x, state, rows)


def probe(backend: NativeBackend, call: Call, compiled: CompiledStep, reading: Reading) -> str:
    """Run small batches of a program and of its cell, and compare values and gradients.

    Values are small and large, of both signs, and whole numbers, where functions with a bend have it.

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
    traced = compiled.step.trace
    tensors = [reading.foreign.stand_in(t) for t, made in zip(traced.parameters, traced.made, strict=True) if not made]
    whole = (1.0, 1.0)
    for number, (size, slope) in enumerate((*SCALES, whole)):
        small = _small(call, size, 7 + number, whole=number == len(SCALES))
        small = replace(small, cell=_Stepping(reading))
        sources = [t for t in leaves_of((small.inputs, small.initial_state, small.row_inputs)) if isinstance(t, Tensor)]
        sources = [t for t in dict.fromkeys([*sources, *tensors]) if t.requires_grad]
        with torch.enable_grad():
            want = ReferenceBackend().run(small)
            got = backend.run_program(small, compiled, tensors, 1)
            found = (_values_and_gradients(result, sources, slope) for result in (got, want))
            different = _difference(*found)
        if different:
            return different
    return ""


def _small(call: Call, size: float, seed: int, whole: bool) -> Call:
    """Return a call of the same form over a small ragged batch."""
    generator = torch.Generator().manual_seed(seed)

    def sample(leaf: Tensor, *batch: int, skip: int) -> Tensor:
        shape = (*batch, *leaf.shape[skip:])
        if not leaf.is_floating_point():
            return torch.zeros(shape, dtype=leaf.dtype)
        values = torch.randn(shape, generator=generator, dtype=leaf.dtype) * size
        return (values.round() if whole else values).requires_grad_()

    live = torch.arange(STEPS).unsqueeze(1) < torch.tensor(LENGTHS)
    states = map_leaves(lambda leaf: sample(leaf, ROWS, skip=1), call.initial_state)
    rows = call.row_inputs
    return replace(
        call,
        inputs=map_leaves(lambda leaf: sample(leaf, STEPS, ROWS, skip=2), call.inputs),
        initial_state=states,
        reset_state=states,
        row_inputs=None if rows is None else map_leaves(lambda leaf: sample(leaf, ROWS, skip=1), rows),
        schedule=Schedule(STEPS, ROWS, live, None, reverse=False, device=torch.device("cpu")),
        pad_output="zero",
        all_states=True,
        static=False,
        notes={},
    )


def _difference(got: list[tuple[str, Tensor]], want: list[tuple[str, Tensor]]) -> str:
    for (name, a), (_, b) in zip(got, want, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"the program that was read from the cell gives {name} {list(a.shape)} for {list(b.shape)}"
        scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) if b.numel() else 0.0
        tolerance = (1e-9 if b.dtype == torch.float64 else 1e-3) * max(scale, 1e-6)
        if not torch.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True):
            worst = float((a - b).abs().max())
            return f"the program that was read from the cell differs from it: {name} by {worst:.2g}"
    return ""


def _values_and_gradients(result: Result, sources: list[Tensor], slope: float) -> list[tuple[str, Tensor]]:
    named = {"outputs": result.outputs, "final states": result.final_state, "states": result.all_states}
    values = [(name, leaf) for name, tree in named.items() for leaf in leaves_of(tree)]
    generator = torch.Generator().manual_seed(11)
    terms = [(leaf * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)).sum() for _, leaf in values]
    grads: Iterable[Tensor | None] = [None] * len(sources)
    loss = torch.stack(terms).sum() * slope
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, sources, allow_unused=True)
    found = [(name, leaf.detach()) for name, leaf in values]
    return found + [
        (f"the gradient of {list(s.shape)}", torch.zeros_like(s) if g is None else g)
        for s, g in zip(sources, grads, strict=True)
    ]
