"""The loop that lets the caller decide, at every step, what comes in next and what goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from unspool._modes import is_exporting
from unspool._nest import Nest, describe, leaves_of, map_leaves, require_tensors, take_rows
from unspool.cells import beside, match_state, require_cell, row_inputs_of, step
from unspool.execution._arguments import checked_constants
from unspool.program.rehearse import rehearsed

LoopFunction: TypeAlias = Callable[[int, Nest | None, Nest | None, Any], tuple[Tensor, Nest, Nest, Nest, Any]]


def raw_rnn(cell: Any, loop_fn: LoopFunction, *, constants: Nest | None = None) -> tuple[Nest, Nest, Any]:
    """Run a cell under the control of a function (TensorFlow 1's `tf.nn.raw_rnn`).

    At each step the cell runs on the input and state that `loop_fn` has chosen, and `loop_fn` sees what came out:
    feedback of outputs, attention, early ends, and anything else that a plain loop over given inputs cannot do.
    Finished sequences are not computed: `loop_fn` sees zeros as their output and the state that they keep, and what it
    returns for them is not used; they emit zeros.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    loop_fn : callable
        `loop_fn(time, cell_output, cell_state, loop_state)` returns
        `(finished, next_input, next_state, emit, loop_state)`:

        - the first call has `time` 0 and None for output, state and loop state; `next_state` is the initial state,
          and `emit` an example of what one sequence emits, without the batch axis, or None to emit the cell's output;
        - `finished`: BoolTensor of shape (B,), the sequences that take no further step;
        - `next_input`: nesting of Tensor of shape (B, ...) for the cell's next step;
        - `next_state`: the state before that step, usually `cell_state`;
        - `emit`: nesting of Tensor of shape (B, ...), what step `time - 1` puts out;
        - `loop_state`: anything; None keeps the previous one.
    constants : nesting of Tensor of shape (B, ...), optional
        What the cell takes beside input and state at every step: see `dynamic_rnn`.

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
        If `loop_fn` returns something else, states change their structure, or constants do not fit.
    RuntimeError
        If a program is being exported.
    """
    require_cell(cell)
    if not callable(loop_fn):
        raise TypeError(
            f"loop_fn is {describe(loop_fn)}; expected a function: loop_fn(time, cell_output, cell_state, loop_state)."
        )
    if is_exporting():
        raise RuntimeError(
            "raw_rnn was reached by torch.export; it ends when loop_fn says so, which depends on data, and a program "
            "must be known without. Expected dynamic_rnn, or a loop of the model's own over a fixed number of steps."
        )
    finished, x, state, emit_like, loop_state = _call(loop_fn, 0, None, None, None)
    batch = finished.shape[0]
    _check_rows(state, "next_state", batch, 0)
    _check_rows(x, "next_input", batch, 0)
    first = leaves_of(x)[0]
    constants = checked_constants(cell, constants, batch, first.device)
    drawn = row_inputs_of(cell, batch, first.dtype if first.is_floating_point() else None, first.device)
    rows = beside(drawn, constants)
    zero = None if emit_like is None else map_leaves(lambda leaf: _zeros(leaf, batch, finished.device), emit_like)
    emitted: list[Nest] = []
    while not bool(finished.all()):
        time = len(emitted) + 1
        if emitted:  # the last call's next_input is never used and may be anything
            _check_rows(x, "next_input", batch, time - 1)
        live = (~finished).nonzero().flatten()
        output, new_state = _live_step(cell, x, state, rows, live, batch)
        new_finished, x, next_state, emit, new_loop_state = _call(loop_fn, time, output, new_state, loop_state)
        if new_finished.shape != finished.shape:
            raise ValueError(
                f"loop_fn returned finished of shape {list(new_finished.shape)} at time {time}; expected [{batch}], "
                "as at time 0."
            )
        if emit_like is None and emit is None:
            emit = output
        if zero is None:
            _check_rows(emit, "emit", batch, time)
            zero = map_leaves(torch.zeros_like, emit)
        emit = match_state(emit, zero, f"emit at time {time}")
        next_state = match_state(next_state, state, f"next_state at time {time}")
        emitted.append(_choose(finished, zero, emit))
        state = _choose(finished, state, next_state)
        loop_state = loop_state if new_loop_state is None else new_loop_state
        finished = finished | new_finished
    if emitted:
        return map_leaves(lambda *leaves: torch.stack(leaves), *emitted), state, loop_state
    if zero is None:
        nobody = finished.new_empty(0, dtype=torch.long)
        with rehearsed(cell):
            zero, _ = _live_step(cell, x, state, rows, nobody, batch)
    return map_leaves(lambda leaf: leaf.new_zeros((0, *leaf.shape)), zero), state, loop_state


def _live_step(cell: Any, x: Nest, state: Nest, rows: Nest | None, live: Tensor, batch: int) -> tuple[Nest, Nest]:
    """Run the cell on the active sequences; for the others the output is zero and the state stays."""
    x, old = take_rows(x, live), take_rows(state, live)
    output, new = step(cell, x, old, None if rows is None else take_rows(rows, live))
    new = match_state(new, old, f"the new state of {type(cell).__name__}")
    if len(live) == batch:
        return output, new
    output = map_leaves(lambda leaf: leaf.new_zeros((batch, *leaf.shape[1:])).index_copy(0, live, leaf), output)
    return output, map_leaves(lambda kept, leaf: kept.index_copy(0, live, leaf), state, new)


def _check_rows(tree: Nest, name: str, batch: int, time: int) -> None:
    """Refuse what is not a nesting of tensors with B sequences."""
    require_tensors(tree, f"{name} of loop_fn at time {time}")
    if any(leaf.dim() == 0 or leaf.shape[0] != batch for leaf in leaves_of(tree)):
        raise ValueError(
            f"loop_fn returned {name} = {describe(tree)} at time {time}; expected [{batch}, ...]: one row for "
            "each entry of finished."
        )


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
