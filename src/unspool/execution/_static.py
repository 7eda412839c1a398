"""The unrolled form: one call of the cell for each element of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unspool._nest import Nest, map_leaves
from unspool.execution._arguments import BoolArray, IntArray
from unspool.execution._run import run_static


def static_rnn(
    cell: Any,
    inputs: Sequence[Nest],
    sequence_length: IntArray | None = None,
    initial_state: Nest | None = None,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reverse: bool = False,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[list[Nest], Nest]:
    """Run a cell over a list of steps, unrolled (TensorFlow 1's `tf.nn.static_rnn`).

    The number of steps is part of the plan; the numbers are those of `dynamic_rnn`. No cell is called for steps that
    are real in no row.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    inputs : non-empty list of nesting of Tensor of shape (B, ...)
        One input per step.
    mask, resets : booleans of shape (T, B), optional
        As a list of steps has it, time comes first. See `dynamic_rnn`.
    sequence_length, initial_state, constants, reverse, pad_output, backend
        See `dynamic_rnn`.

    Returns
    -------
    outputs : list of nesting of Tensor of shape (B, ...)
        One output per step.
    final_state : nesting of Tensor of shape (B, ...)

    Raises
    ------
    TypeError, ValueError, BackendError
        See `dynamic_rnn`; also if the list is empty or its elements differ in shape.
    """
    options = {
        "constants": constants,
        "mask": mask,
        "resets": resets,
        "reverse": reverse,
        "pad_output": pad_output,
        "backend": backend,
    }
    run = run_static
    if torch.compiler.is_dynamo_compiling():
        from unspool.execution._traced import traced_static_rnn

        run = traced_static_rnn
    outputs, final_state = run(cell, inputs, sequence_length, initial_state, **options)
    return steps_of(outputs, len(inputs)), final_state


def steps_of(values: Nest, steps: int) -> list[Nest]:
    """Cut time-major values into a list with one entry per step."""
    return [map_leaves(lambda leaf, t=t: leaf[t], values) for t in range(steps)]
