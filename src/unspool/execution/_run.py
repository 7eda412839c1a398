"""Runs where nothing is traced: arguments are checked, and in one place they become a backend's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unspool._nest import Nest, leaves_of
from unspool._ragged import RaggedBatch
from unspool.backends import Call, Result, Schedule, check_backend, run
from unspool.cells import beside, match_state, require_cell, row_inputs_of
from unspool.execution._arguments import (
    BoolArray,
    IntArray,
    check_pad_output,
    checked_constants,
    make_schedule,
    own_initial_state,
    stacked_inputs,
    time_major_inputs,
)
from unspool.execution._ragged import in_form_of, ragged_inputs, ragged_schedule
from unspool.execution._tracing import refuse_in_traces


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
) -> Result:
    """Run a cell over checked inputs.

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
    Result
        In the form of the inputs.

    Raises
    ------
    TypeError, ValueError
        See `dynamic_rnn`.
    """
    check_pad_output(pad_output)
    own_state = own_initial_state(cell, inputs, schedule.batch)
    first = leaves_of(inputs)[0]
    constants = checked_constants(cell, constants, schedule.batch, first.device)
    rows = row_inputs_of(cell, schedule.batch, first.dtype if first.is_floating_point() else None, first.device)
    call = Call(
        cell=cell,
        inputs=inputs,
        initial_state=own_state if initial_state is None else match_state(initial_state, own_state, state_name),
        reset_state=own_state,
        row_inputs=beside(rows, constants),
        schedule=schedule,
        pad_output=pad_output,
        all_states=all_states,
        static=static,
    )
    # A backend runs calls in this process; an exported program is run by whoever loads it.
    return run(call, "auto" if torch.compiler.is_exporting() else backend)


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
    result = run_cell(
        cell,
        x,
        schedule,
        initial_state,
        constants=constants,
        pad_output=pad_output,
        all_states=return_all_states,
        backend=backend,
    )
    outputs = in_form_of(inputs, result.outputs, time_major)
    if return_all_states:
        return outputs, result.final_state, in_form_of(inputs, result.all_states, time_major)
    return outputs, result.final_state


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
    result = run_cell(
        cell,
        stacked,
        schedule,
        initial_state,
        constants=constants,
        pad_output=pad_output,
        static=True,
        backend=backend,
    )
    return result.outputs, result.final_state
