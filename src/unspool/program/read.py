"""Showing what was read from a cell."""

from __future__ import annotations

from typing import Any

import torch

from unspool.cells import initial_state_of, require_cell, row_inputs_of, size_of
from unspool.program.hoist import hoist
from unspool.program.ir import Program
from unspool.program.reading import read_step
from unspool.program.untouched import untouched


def program(cell: Any, input_size: int | None = None) -> Program:
    """Return the program of a cell's step, with all that can leave the time loop outside of it.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    input_size : int, optional
        Features of the step's input; `cell.input_size` by default.

    Returns
    -------
    Program
        `pretty()` gives a readable dump, `to_json()` and `Program.from_json` keep it as text.

    Raises
    ------
    TraceError
        If the step does something that a program cannot express; the message names the operation and the line.
    TypeError
        If `cell` is not a cell.
    ValueError
        If the cell does not tell its `input_size` and none is given.

    Examples
    --------
    >>> print(program(SimpleRNNCell(2, 3)).pretty())  # doctest: +ELLIPSIS
    param:
    ...
    new state: ...
    """
    require_cell(cell)
    size = size_of(cell, "input_size", "program() without input_size=") if input_size is None else input_size
    with untouched(cell):
        state, rows = initial_state_of(cell, 1), row_inputs_of(cell, 1)
    return hoist(read_step(cell, torch.zeros(1, size), state, rows).program)
