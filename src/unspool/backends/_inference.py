"""A run without gradients: from the cell's tensors into the engine and back, and nothing else.

`EngineRun` is the readable twin: the same step under autograd. Here nothing is kept for later, products with weights
that are stacked or cut are done with the parameters themselves, and where every array comes from is decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from unspool.backends._layout import TokenLayout
from unspool.backends._static import StaticPlan
from unspool.program import roles
from unspool.program.ir import Value
from unspool.program.step import StepProgram, forward_plan


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
    takes : list of Value
        What a run takes of what is known or computed before the loop.
    before : list of (Value, callable or None, tuple of Value)
        What has to be computed for that.
    """

    def __init__(self, step: StepProgram, engine: Any, before: list[Any]) -> None:
        loop, plan = step.loop, forward_plan(step, training=False)
        tables = plan.tables
        cuts = [_cut(value) for value, _ in tables.weights]
        given = [role.of(loop)[i] for role, i in plan.arrays if role.giver == "run"]
        self.takes = list(dict.fromkeys((*given, *(value for value, *_ in cuts))))
        ends = {roles.STATE: len(self.takes), roles.OUTPUT: len(self.takes) + len(loop.states)}
        arrays = [ends[r] + i if r in ends else self.takes.index(r.of(loop)[i]) for r, i in plan.arrays]
        weights = [
            (self.takes.index(value), not as_it_lies, start, columns)
            for (_, as_it_lies), (value, start, columns) in zip(tables.weights, cuts, strict=True)
        ]
        self.native = engine.make_plan(
            tables.storages, tables.instructions, tables.constants, tables.indices, arrays, weights, False
        )
        self._run = {torch.float32: engine.run_f32, torch.float64: engine.run_f64}
        self._shapes = [value.shape for value in loop.program.outputs]
        needed = set(self.takes)
        for value in reversed(loop.outside):
            if value in needed:
                needed.update(value.args)
        self.before = [entry for entry in before if entry[0] in needed]

    def run(
        self, values: Iterable[Tensor], states: list[Tensor], layout: TokenLayout, dtype: torch.dtype,
        static: StaticPlan | None = None,
    ) -> list[Tensor]:  # fmt: skip
        """Run the step over all valid steps.

        Parameters
        ----------
        values : iterable of Tensor
            All of `takes`, of this dtype and with their values in memory.
        states : list of Tensor of shape (B, ...)
            The initial ones, each contiguous and in memory of its own; they become the final ones.
        layout : TokenLayout
        dtype : torch.dtype
        static : StaticPlan, optional
            Where memory and packed weights are kept.

        Returns
        -------
        list of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
            The outputs.
        """
        outputs = [padded(layout, shape, dtype, static) for shape in self._shapes]
        tensors = [*values, *states, *outputs]
        if static is None:
            self._run[dtype](self.native, layout.engine, tensors, layout.threads, None)
        else:
            with static.workspace(self) as workspace:
                self._run[dtype](self.native, layout.engine, tensors, layout.threads, workspace)
        return outputs

    def bound(self, layout: TokenLayout, dtype: torch.dtype) -> Callable[..., list[Tensor]]:
        """Return `run` for one layout without padding: what there is to know before a run is known.

        Parameters
        ----------
        layout : TokenLayout
        dtype : torch.dtype

        Returns
        -------
        callable
            `bound(values, states, one_step)`, where inputs and outputs of one step may be without an axis of time.
        """
        run, native, engine, threads = self._run[dtype], self.native, layout.engine, layout.threads
        shapes = {
            one_step: [(*layout.shape[one_step:], *shape) for shape in self._shapes] for one_step in (False, True)
        }

        def bound(values: Iterable[Tensor], states: list[Tensor], one_step: bool) -> list[Tensor]:
            outputs = [torch.empty(shape, dtype=dtype) for shape in shapes[one_step]]
            run(native, engine, [*values, *states, *outputs], threads, None, one_step)
            return outputs

        return bound


def _cut(weight: Value) -> tuple[Value, int, int]:
    """Return what a weight is cut from, its first column there, and how many it has; -1 stands for all."""
    if weight.op != "columns":
        return weight, 0, -1
    whole, start, _ = _cut(weight.args[0])
    first = weight.attrs["start"]
    return whole, start + first, weight.attrs["stop"] - first


def in_memory(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor of this dtype whose memory holds its values: PyTorch negates some only when they are read.

    Parameters
    ----------
    tensor : Tensor
    dtype : torch.dtype
    """
    tensor = tensor if tensor.dtype == dtype else tensor.to(dtype)
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
