"""The loop that lets the caller decide, at every step, what comes in next and what goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from unspool._nest import Nest, describe, leaves_of, map_leaves, require_tensors
from unspool.cells import match_state, require_cell, row_inputs_of, step

LoopFunction: TypeAlias = Callable[[int, Nest | None, Nest | None, Any], tuple[Tensor, Nest, Nest, Nest, Any]]


def raw_rnn(cell: Any, loop_fn: LoopFunction) -> tuple[Nest, Nest, Any]:
    """Run a cell under the control of a function (TensorFlow 1's `tf.nn.raw_rnn`).

    At each step the cell runs on the input and state that `loop_fn` has chosen, and `loop_fn` sees what came out:
    feedback of outputs, attention, early ends, and anything else that a plain loop over given inputs cannot do. Rows
    that have finished keep their state, and what they emit is zeroed; what `loop_fn` returns for them is not used.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    loop_fn : callable
        `loop_fn(time, cell_output, cell_state, loop_state)` returns
        `(finished, next_input, next_state, emit, loop_state)`:

        - the first call has `time` 0 and None for output, state and loop state; `next_state` is the initial state,
          and `emit` is an example of what one row emits, without the batch axis, or None to emit the cell's output;
        - `finished`: BoolTensor of shape (B,), the rows that take no further step;
        - `next_input`: nesting of Tensor of shape (B, ...) for the cell's next step;
        - `next_state`: the state before that step, usually `cell_state`;
        - `emit`: nesting of Tensor of shape (B, ...), what step `time - 1` puts out;
        - `loop_state`: anything; None keeps the previous one.

    Returns
    -------
    emitted : nesting of Tensor of shape (T, B, ...)
        Time-major; T is the number of steps that were run.
    final_state : nesting of Tensor of shape (B, ...)
    final_loop_state
        The last loop state that was not None.

    Raises
    ------
    TypeError, ValueError
        If `loop_fn` returns something else, or states change their structure.
    """
    require_cell(cell)
    finished, x, state, emit_like, loop_state = _call(loop_fn, 0, None, None, None)
    require_tensors(x, "next_input")
    require_tensors(state, "next_state")
    batch = finished.shape[0]
    first = leaves_of(x)[0]
    rows = row_inputs_of(cell, batch, first.dtype if first.is_floating_point() else None, first.device)
    zero = None if emit_like is None else map_leaves(lambda leaf: _zeros(leaf, batch, finished.device), emit_like)
    emitted: list[Nest] = []
    while not bool(finished.all()):
        # Where a row has finished, next_input may hold anything; zeros keep NaN out of the gradients.
        x = map_leaves(lambda leaf, done=finished: leaf.masked_fill(_rowwise(done, leaf), 0), x)
        output, new_state = step(cell, x, state, rows)
        new_state = match_state(new_state, state, f"the new state of {type(cell).__name__}")
        time = len(emitted) + 1
        new_finished, x, next_state, emit, new_loop_state = _call(loop_fn, time, output, new_state, loop_state)
        emit = output if emit_like is None and emit is None else emit
        if zero is None:
            zero = map_leaves(torch.zeros_like, output)
        emit = match_state(emit, zero, f"emit at time {time}")
        next_state = match_state(next_state, state, f"next_state at time {time}")
        emitted.append(_choose(finished, zero, emit))
        state = _choose(finished, state, next_state)
        loop_state = loop_state if new_loop_state is None else new_loop_state
        finished = finished | new_finished
    if not emitted:
        if zero is None:
            with torch.no_grad():
                zero = map_leaves(torch.zeros_like, step(cell, x, state, rows)[0])
        return map_leaves(lambda leaf: leaf.new_zeros((0, *leaf.shape)), zero), state, loop_state
    return map_leaves(lambda *leaves: torch.stack(leaves), *emitted), state, loop_state


def _call(
    loop_fn: LoopFunction, time: int, output: Nest | None, state: Nest | None, loop_state: Any
) -> tuple[Tensor, Nest, Nest, Nest, Any]:
    result = loop_fn(time, output, state, loop_state)
    if not (isinstance(result, tuple) and len(result) == 5):
        raise TypeError(
            f"loop_fn returned {describe(result)} at time {time}; expected a tuple of five: "
            "(finished, next_input, next_state, emit, loop_state)."
        )
    finished = result[0]
    if not (isinstance(finished, Tensor) and finished.dtype == torch.bool and finished.dim() == 1):
        raise TypeError(
            f"loop_fn returned finished = {describe(finished)} at time {time}; "
            "expected a boolean tensor of shape [B], True for rows that take no further step."
        )
    return result


def _zeros(leaf: Any, batch: int, device: torch.device) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise TypeError(
            f"emit at time 0 is {describe(leaf)}; expected a tensor like what one row emits (no batch axis), or None."
        )
    return torch.zeros((batch, *leaf.shape), dtype=leaf.dtype, device=device)


def _rowwise(finished: Tensor, leaf: Tensor) -> Tensor:
    return finished.view(-1, *[1] * (leaf.dim() - 1))


def _choose(finished: Tensor, kept: Nest, new: Nest) -> Nest:
    return map_leaves(lambda a, b: torch.where(_rowwise(finished, a), a, b), kept, new)
