"""A run without gradients: from the cell's tensors into the engine and back, and nothing else.

`EngineRun` is the readable twin: the same step under autograd. Here nothing is kept for later, products with weights
that are stacked or cut are done with the parameters themselves, and where every array comes from is decided once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unspool.backends._layout import TokenLayout
from unspool.backends._static import StaticPlan
from unspool.program import roles
from unspool.program.ir import Value
from unspool.program.step import StepProgram, forward_plan

Known = dict[Value, Tensor]


class Inference:
    """The forward plan of a step program.

    Parameters
    ----------
    step : StepProgram
    engine : module
        The native module.

    before : list of (Value, callable or None, tuple of Value)
        What training computes before the loop: see `CompiledStep`.

    Attributes
    ----------
    before : list of (Value, callable or None, tuple of Value)
        What of it is needed here.
    """

    def __init__(self, step: StepProgram, engine: Any, before: list[Any]) -> None:
        loop, plan = step.loop, forward_plan(step, training=False)
        tables = plan.tables
        cuts = [_cut(value) for value, _ in tables.weights]
        self.native = engine.make_plan(
            tables.storages, tables.instructions, tables.constants, tables.indices, len(plan.arrays),
            [(not as_it_lies, *cut) for (_, as_it_lies), (_, *cut) in zip(tables.weights, cuts, strict=True)], False,
        )  # fmt: skip
        self._run = {torch.float32: engine.run_f32, torch.float64: engine.run_f64}
        self._weights = [value for value, *_ in cuts]
        # For each array a value that is known, or one of the loop's states or outputs.
        self._sources: list[tuple[Value | None, int, tuple[int, ...] | None]] = []
        for role, i in plan.arrays:
            value = role.of(loop)[i]
            if role is roles.STATE:
                self._sources.append((None, i, None))
            elif role is roles.OUTPUT:
                self._sources.append((None, i, value.shape))
            else:
                assert role.giver == "run", role
                self._sources.append((value, i, None))
        self._initial = [loop.states.index(value) if value in loop.states else -1 for value, *_ in self._sources]
        self._count = len(loop.program.outputs)
        needed = {value for value, *_ in self._sources if value is not None} | set(self._weights)
        for value in reversed(loop.outside):
            if value in needed:
                needed.update(value.args)
        self.before = [entry for entry in before if entry[0] in needed]

    def run(
        self, known: Known, states: list[Tensor], layout: TokenLayout, dtype: torch.dtype, static: StaticPlan | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the step over all valid steps.

        Parameters
        ----------
        known : dict of Value to Tensor
            With what `before` computes.
        states : list of Tensor of shape (B, ...)
            Initial ones.
        layout : TokenLayout
        dtype : torch.dtype
        static : StaticPlan, optional
            Where memory and packed weights are kept.

        Returns
        -------
        outputs : list of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
        final_states : list of Tensor of shape (B, ...)
        """
        final = [state.clone(memory_format=torch.contiguous_format) for state in states]
        outputs: list[Any] = [None] * self._count
        arrays = []
        for (value, i, shape), initial in zip(self._sources, self._initial, strict=True):
            if initial >= 0:
                array = states[initial]
            elif value is not None:
                array = known[value]
            elif shape is None:
                array = final[i]
            else:
                array = outputs[i] = padded(layout, shape, dtype, static)
            arrays.append(array if array.dtype == dtype else array.to(dtype))
        weights = [known[value] for value in self._weights]
        for tensors in (arrays, weights):
            for place, tensor in enumerate(tensors):
                if tensor.is_neg():
                    tensors[place] = in_memory(tensor)
        if static is None:
            self._run[dtype](self.native, layout.engine, arrays, weights, layout.threads, None)
        else:
            with static.workspace(self) as workspace:
                self._run[dtype](self.native, layout.engine, arrays, weights, layout.threads, workspace)
        return outputs, final


def _cut(weight: Value) -> tuple[Value, int, int]:
    """Return what a weight is cut from, its first column there, and how many it has; -1 stands for all."""
    if weight.op != "columns":
        return weight, 0, -1
    whole, start, _ = _cut(weight.args[0])
    first = weight.attrs["start"]
    return whole, start + first, weight.attrs["stop"] - first


def in_memory(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds its values: PyTorch negates some only when they are read.

    Parameters
    ----------
    tensor : Tensor
    """
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def padded(layout: TokenLayout, shape: tuple[int, ...], dtype: torch.dtype, static: StaticPlan | None) -> Tensor:
    """Return an array of inputs' form for the engine to fill at valid steps; elsewhere it is zero.

    Parameters
    ----------
    layout : TokenLayout
    shape : tuple of int
        Of one step.
    dtype : torch.dtype
    static : StaticPlan, optional
        Where memory is kept.
    """
    whole = *layout.shape, *shape
    if static is None:
        return (torch.zeros if layout.has_padding else torch.empty)(whole, dtype=dtype)
    return (static.buffers.zeros if layout.has_padding else static.buffers.empty)(whole, dtype)
