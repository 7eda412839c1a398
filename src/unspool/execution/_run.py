"""Runs where nothing is traced: arguments are checked, and in one place they become a backend's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unspool._nest import Nest, leaves_of
from unspool._ragged import RaggedBatch
from unspool.backends import Call, Schedule, check_backend, repeated, run
from unspool.cells import ResetCell, Restart, WithStates, beside, match_state, require_cell, row_inputs_of
from unspool.execution._arguments import (
    BoolArray,
    IntArray,
    check_pad_output,
    checked_constants,
    in_form_of,
    make_schedule,
    own_initial_state,
    refuse_in_traces,
    stacked_inputs,
    time_major_inputs,
)
from unspool.execution._ragged import ragged_inputs, ragged_schedule


def run_cell(
    cell: Any,
    inputs: Nest,
    schedule: Schedule,
    initial_state: Nest | None,
    *,
    constants: Nest | None = None,
    pad_output: str = "zero",
    all_states: bool = False,
    static: bool = False,
    backend: str = "auto",
    state_name: str = "initial_state",
) -> tuple[Nest, Nest, Nest | None]:
    """Run a cell over checked inputs: here they become a backend's call, and its results get their padding.

    Parameters
    ----------
    cell : cell
    inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where the schedule's arrays are ragged
    schedule : Schedule
        Made for these inputs by `make_schedule` or `ragged_schedule`.
    initial_state, constants : nesting of Tensor of shape (B, ...), optional
    pad_output, all_states, static, backend
        See `dynamic_rnn` and `Call`.
    state_name : str
        What the user calls the initial state, for errors.

    Returns
    -------
    outputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) as the inputs
    final_state : nesting of Tensor of shape (B, ...)
    all_states : nesting of Tensor of shape (T, B, ...) or (N, 1, ...), or None
        The state after every step, carried through steps that are not computed.

    Raises
    ------
    TypeError, ValueError
        See `dynamic_rnn`.
    """
    check_pad_output(pad_output)
    own_state = own_initial_state(cell, inputs, schedule.batch)
    first = leaves_of(inputs)[0]
    if constants is not None:
        constants = checked_constants(cell, constants, schedule.batch, first.device)
    rows = row_inputs_of(cell, schedule.batch, first.dtype if first.is_floating_point() else None, first.device)
    state = own_state if initial_state is None else match_state(initial_state, own_state, state_name)
    per_sequence = rows if constants is None else beside(rows, constants)
    if schedule.has_resets:
        cell, inputs = ResetCell(cell), (inputs, schedule.resets)
        per_sequence = Restart(own_state, () if per_sequence is None else (per_sequence,))
    if all_states:
        cell = WithStates(cell)
    # A backend runs calls in this process; an exported program is run by whoever loads it.
    backend = "auto" if torch.compiler.is_exporting() else backend
    outputs, final = run(Call(cell, inputs, state, per_sequence, schedule, static), backend)
    states = None
    if all_states:
        outputs, states = outputs
        states = repeated(schedule, states, before=state)
    if pad_output == "repeat":
        outputs = repeated(schedule, outputs)
    return outputs, final, states


def run_dynamic(
    cell: Any,
    inputs: Nest,
    sequence_length: IntArray | None,
    initial_state: Nest | None,
    *,
    constants: Nest | None,
    mask: BoolArray | None,
    resets: BoolArray | None,
    time_major: bool,
    reverse: bool,
    pad_output: str,
    return_all_states: bool,
    backend: str,
) -> Any:
    """Do what `dynamic_rnn` does where nothing is traced; the arguments are its own."""
    require_cell(cell)
    check_backend(backend)
    refuse_in_traces(inputs, sequence_length, mask, resets)
    if isinstance(inputs, RaggedBatch):
        x = ragged_inputs(inputs, sequence_length, mask)
        schedule = ragged_schedule(inputs, resets, reverse)
    else:
        x = time_major_inputs(inputs, time_major)
        schedule = make_schedule(x, sequence_length, mask, resets, reverse, time_major)
    outputs, final, states = run_cell(
        cell,
        x,
        schedule,
        initial_state,
        constants=constants,
        pad_output=pad_output,
        all_states=return_all_states,
        backend=backend,
    )
    outputs = in_form_of(inputs, outputs, time_major)
    return (outputs, final, in_form_of(inputs, states, time_major)) if return_all_states else (outputs, final)


def run_static(
    cell: Any,
    inputs: Sequence[Nest],
    sequence_length: IntArray | None,
    initial_state: Nest | None,
    *,
    constants: Nest | None,
    mask: BoolArray | None,
    resets: BoolArray | None,
    reverse: bool,
    pad_output: str,
    backend: str,
) -> tuple[Nest, Nest]:
    """Do what `static_rnn` does where nothing is traced, but return outputs of shape (T, B, ...)."""
    require_cell(cell)
    check_backend(backend)
    refuse_in_traces(inputs, sequence_length, mask, resets)
    stacked = stacked_inputs(inputs)
    schedule = make_schedule(stacked, sequence_length, mask, resets, reverse, time_major=True)
    outputs, final, _ = run_cell(
        cell,
        stacked,
        schedule,
        initial_state,
        constants=constants,
        pad_output=pad_output,
        static=True,
        backend=backend,
    )
    return outputs, final
