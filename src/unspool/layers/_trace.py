"""The run of a layer as one operator of a graph that is being traced.

Letters: B batch, T steps, I input size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import Nest
from unspool._ragged import RaggedBatch
from unspool.execution import Runner


def trace_layer(
    module: nn.Module,
    tensors: dict[str, Tensor],
    runner: Runner,
    arguments: tuple[Any, ...],
    *,
    batch_first: bool,
    without_batch: bool,
    state_axes: str = ".B",
    return_sequences: bool = True,
    settings: tuple[Any, ...],
) -> tuple[Nest, Nest]:
    """Put the run of a layer into the graph that is being traced, as one call of an operator.

    Parameters
    ----------
    module : Module
    tensors : dict of str to Tensor
        All tensors of the module that the run reads.
    runner : callable
        `runner(module, tensors, *arguments, settings=...)` runs the module; a function at the top of its module.
    arguments : tuple
        Input, hx, lengths, mask, resets and constants, as `RecurrentLayer.forward` takes them.
    batch_first, without_batch, return_sequences : bool
        The layout of input and output: whether the input is a single sequence, `[T, I]`.
    state_axes : str
        See `RecurrentLayer`.
    settings : tuple
        What of the module's the trace depends on.

    Returns
    -------
    output, state : nesting of Tensor
    """
    from unspool.execution._traced import outside, run_traced, tensor_or_none

    input, hx, *about_steps, constants = arguments
    if isinstance(input, PackedSequence | RaggedBatch):
        return outside(runner, module, tensors, *arguments, settings=settings)
    steps, rows = ("BT" if batch_first else "TB"), "B"
    if without_batch:
        steps, state_axes, rows = "T", state_axes.replace("B", ""), "."
    return run_traced(
        module,
        tensors,
        runner,
        (input, hx, *map(tensor_or_none, about_steps), constants),
        (steps, state_axes, rows, steps, steps, rows),
        (steps if return_sequences else steps.replace("T", ""), state_axes),
        settings=settings,
    )
