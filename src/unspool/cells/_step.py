"""One time step of any cell, with all that a run has for it.

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
    """What a cell takes beside input and state, as one nesting of tensors: backends carry it as they carry row inputs.

    Attributes
    ----------
    rows : tuple
        The cell's row inputs, alone in a tuple; empty where there are none, since None would be a leaf.
    constants : nesting of Tensor of shape (B, ...)
    """

    rows: tuple[()] | tuple[Nest]
    constants: Nest


def beside(rows: Nest | None, constants: Nest | None) -> Nest | None:
    """Return row inputs and constants as one thing, which `step` takes for its `rows`.

    Parameters
    ----------
    rows, constants : nesting of Tensor of shape (B, ...), or None
    """
    return rows if constants is None else Beside(() if rows is None else (rows,), constants)


def _draws_rows(cell: Any) -> bool:
    """Tell whether a cell has `row_inputs` of its own; then its constants come after them, drawn or not."""
    draw = getattr(cell, "row_inputs", None)
    return draw is not None and getattr(draw, "__func__", draw) is not Cell.row_inputs


def takes_constants(cell: Any) -> bool:
    """Tell whether a cell's `forward` has a place for constants.

    Parameters
    ----------
    cell : cell
        One that hands them on to cells inside says so itself, by an attribute `takes_constants`.
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
        If its `forward` has no place for them.
    """
    if takes_constants(cell):
        return
    name, form = type(cell).__name__, "rows, constants" if _draws_rows(cell) else "constants"
    raise TypeError(
        f"constants were given to {name}, which takes none; expected a cell with forward(x, state, {form}), or one "
        "around such cells. Write constants into the forward of a cell of your own, or leave them out."
    )


def held_tensors(cell: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that stand on a cell's attributes and are neither parameters nor buffers, with their paths.

    Parameters
    ----------
    cell : cell
    """
    for path, module in cell.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}".lstrip("."), value


def _returns_as_torch(cell: Any) -> bool:
    """Tell whether a module returns h, or (h, c), as `torch.nn`'s cells do, and not an output and a new state.

    A class derived from one of them, with a `forward` and an `initial_state` of its own, keeps the cell contract.
    """
    return isinstance(cell, nn.RNNCellBase) and (
        type(cell).forward in (nn.RNNCell.forward, nn.LSTMCell.forward, nn.GRUCell.forward) or not tells_its_start(cell)
    )


def step(cell: Any, x: Nest, state: Nest, rows: Nest | None = None, constants: Nest | None = None) -> tuple[Nest, Nest]:
    """Run one time step of any cell, `torch.nn`'s cells among them.

    Parameters
    ----------
    cell : cell
        See the module's docstring.
    x : nesting of Tensor of shape (B, ...)
        Input of this step.
    state : nesting of Tensor of shape (B, ...)
        State after the previous step.
    rows : nesting of Tensor of shape (B, ...), optional
        The row inputs that `cell.row_inputs` returned for these rows; or what `beside` made of them and constants.
    constants : nesting of Tensor of shape (B, ...), optional
        What the run was given as `constants`.

    Returns
    -------
    output, new_state
        As the cell returns them.

    Raises
    ------
    TypeError
        If the cell returns anything but a pair, or is one of `torch.nn`'s, which take no constants, and given some.
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
