"""Run one time step of any cell, with per-sequence inputs and constants.

Letters: B batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from unspool._nest import Nest, describe
from unspool.cells._contract import Cell, LSTMState, tells_its_start


class Beside(NamedTuple):
    """Per-sequence inputs and constants as one nesting of tensors, which backends treat like per-sequence inputs.

    Attributes
    ----------
    rows : tuple
        The cell's per-sequence inputs, alone in a tuple; empty if there are none, since None would be a leaf.
    constants : nesting of Tensor of shape (B, ...)
    """

    rows: tuple[()] | tuple[Nest]
    constants: Nest


def beside(rows: Nest | None, constants: Nest | None) -> Nest | None:
    """Combine per-sequence inputs and constants into one argument, which `step` accepts as `rows`.

    Parameters
    ----------
    rows, constants : nesting of Tensor of shape (B, ...), or None
    """
    return rows if constants is None else Beside(() if rows is None else (rows,), constants)


def _draws_rows(cell: Any) -> bool:
    """Return whether a cell has its own `row_inputs`; its constants then come after them, drawn or not."""
    draw = getattr(cell, "row_inputs", None)
    return draw is not None and getattr(draw, "__func__", draw) is not Cell.row_inputs


def takes_constants(cell: Any) -> bool:
    """Return whether a cell's `forward` has an argument for constants.

    Parameters
    ----------
    cell : cell
        A cell that passes them on to cells inside it declares this with an attribute `takes_constants`.
    """
    told = getattr(cell, "takes_constants", None)
    if isinstance(told, bool):
        return told
    try:
        signature = inspect.signature(cell.forward)
    except ValueError:  # of a function that is not Python's: calling it will show
        return True
    try:
        signature.bind(None, None, *[None] * (2 if _draws_rows(cell) else 1))
    except TypeError:
        return False
    return True


def require_constants_taken(cell: Any) -> None:
    """Refuse constants for a cell that takes none.

    Parameters
    ----------
    cell : cell

    Raises
    ------
    TypeError
        If its `forward` has no argument for them.
    """
    if takes_constants(cell):
        return
    name, form = type(cell).__name__, "rows, constants" if _draws_rows(cell) else "constants"
    raise TypeError(
        f"constants were given to {name}, which takes none; expected a cell with forward(x, state, {form}), or one "
        "around such cells. Write constants into the forward of a cell of your own, or leave them out."
    )


def held_tensors(cell: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a cell's attributes that are neither parameters nor buffers, with their paths.

    Parameters
    ----------
    cell : cell
    """
    for path, module in cell.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}".lstrip("."), value


def _returns_as_torch(cell: Any) -> bool:
    """Return whether a module returns h, or (h, c), as `torch.nn`'s cells do, and not an output and a new state.

    A class derived from one of them, with its own `forward` and `initial_state`, follows the cell contract.
    """
    return isinstance(cell, nn.RNNCellBase) and (
        type(cell).forward in (nn.RNNCell.forward, nn.LSTMCell.forward, nn.GRUCell.forward) or not tells_its_start(cell)
    )


def step(cell: Any, x: Nest, state: Nest, rows: Nest | None = None, constants: Nest | None = None) -> tuple[Nest, Nest]:
    """Run one time step of any cell, including `torch.nn`'s cells.

    Parameters
    ----------
    cell : cell
        See the module's docstring.
    x : nesting of Tensor of shape (B, ...)
        Input of this step.
    state : nesting of Tensor of shape (B, ...)
        State after the previous step.
    rows : nesting of Tensor of shape (B, ...), optional
        The per-sequence inputs that `cell.row_inputs` returned for these sequences, or the result of `beside`.
    constants : nesting of Tensor of shape (B, ...), optional
        The `constants` of the run.

    Returns
    -------
    output, new_state
        As returned by the cell.

    Raises
    ------
    TypeError
        If the cell does not return a pair, or if constants are given to one of `torch.nn`'s cells, which take none.
    """
    if isinstance(rows, Beside):
        (rows,), constants = rows.rows or (None,), rows.constants
    if _returns_as_torch(cell):
        if constants is not None:
            require_constants_taken(cell)
        if isinstance(cell, nn.LSTMCell):
            h, c = cell(x, (state[0], state[1]))
            return h, LSTMState(h, c)
        h = cell(x, state)
        return h, h
    if constants is None:
        result = cell(x, state) if rows is None else cell(x, state, rows)
    elif rows is None and not _draws_rows(cell):
        result = cell(x, state, constants)
    else:
        result = cell(x, state, rows, constants)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{type(cell).__name__}.forward returned {describe(result)}; expected a pair (output, new_state). "
            "A cell whose output is its state returns it twice."
        )
    return result
