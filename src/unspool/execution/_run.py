"""The one place where checked arguments become a backend's call."""

from __future__ import annotations

from typing import Any

import torch

from unspool._nest import Nest, leaves_of
from unspool.backends import Call, Result, Schedule, run
from unspool.cells import match_state, row_inputs_of
from unspool.execution._arguments import check_pad_output, own_initial_state


def run_cell(
    cell: Any,
    inputs: Nest,
    schedule: Schedule,
    initial_state: Nest | None,
    *,
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
    initial_state : nesting of Tensor of shape (B, ...), optional
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
    rows = row_inputs_of(cell, schedule.batch, first.dtype if first.is_floating_point() else None, first.device)
    call = Call(
        cell=cell,
        inputs=inputs,
        initial_state=own_state if initial_state is None else match_state(initial_state, own_state, state_name),
        reset_state=own_state,
        row_inputs=rows,
        schedule=schedule,
        pad_output=pad_output,
        all_states=all_states,
        static=static,
    )
    # A backend runs calls in this process; an exported program is run by whoever loads it.
    return run(call, "auto" if torch.compiler.is_exporting() else backend)
