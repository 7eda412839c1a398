"""What a run puts around a cell: resets, and the state after every step, as cells.

No backend knows of either, and a program is read from the whole.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unspool._nest import Nest, map_leaves
from unspool.cells._contract import match_state
from unspool.cells._step import step


class AroundCell(nn.Module):
    """Base of what a run puts around a cell.

    It is made anew for each run, which costs less than a place to keep it in; what was read from it is kept with the
    cell inside (`bound_from`).

    Parameters
    ----------
    cell : cell
    """

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        vars(self)["bound_from"] = vars(cell).get("bound_from", cell)

    def row_inputs(self, batch_size: int, **options: Any) -> None:
        """Draw nothing: a run draws for the cell inside. `step` hands on what was drawn and constants apart."""


class Restart(NamedTuple):
    """What `ResetCell` takes beside its input and state.

    Attributes
    ----------
    start : nesting of Tensor of shape (B, ...)
        The state to which a reset returns.
    inside : tuple
        What the cell inside takes, alone in a tuple; empty where there is nothing.
    """

    start: Nest
    inside: tuple[()] | tuple[Nest]


class ResetCell(AroundCell):
    """A cell whose state returns to its start before a step where a flag says so, as Haiku's ResetCore."""

    def forward(
        self, x: tuple[Nest, Tensor] | tuple[Nest, Tensor, Nest], state: Nest, restart: Restart, constants: None = None
    ) -> tuple[Nest, Nest]:
        """Run one step.

        Parameters
        ----------
        x : (nesting of Tensor of shape (B, ...), BoolTensor of shape (B,)[, nesting of Tensor of shape (B, ...)])
            The input, where to reset, and, if the run was given such, the states that stand in place of the start.
        state : nesting of Tensor of shape (B, ...)
        restart : Restart
        constants : None
            Those of the run are in `restart.inside`.

        Raises
        ------
        TypeError, ValueError
            See `unspool.cells.step`.
        """
        del constants
        x, reset, *given = x
        rows = restart.inside[0] if restart.inside else None
        return step(self.cell, x, choose_rows(reset, given[0] if given else restart.start, state), rows)


class WithStates(AroundCell):
    """A cell that puts out its new state too: `(output, state)`."""

    def forward(
        self, x: Nest, state: Nest, rows: Nest | None = None, constants: Nest | None = None
    ) -> tuple[tuple[Nest, Nest], Nest]:
        """Run one step; shapes are those of the cell inside.

        Raises
        ------
        TypeError, ValueError
            See `unspool.cells.step` and `match_state`.
        """
        output, new = step(self.cell, x, state, rows, constants)
        new = match_state(new, state, f"the new state of {name_of(self.cell)}")
        return (output, new), new


def around(cell: Any) -> Iterator[AroundCell]:
    """Yield what a run has put around a cell, from the outermost.

    Parameters
    ----------
    cell : cell
    """
    while isinstance(cell, AroundCell):
        yield cell
        cell = cell.cell


def inside(cell: Any) -> Any:
    """Return the user's cell, without what a run has put around it.

    Parameters
    ----------
    cell : cell
    """
    while isinstance(cell, AroundCell):
        cell = cell.cell
    return cell


def name_of(cell: Any) -> str:
    """Return what errors call a cell: the class of the user's.

    Parameters
    ----------
    cell : cell
    """
    return type(inside(cell)).__name__


def choose_rows(condition: Tensor, chosen: Nest, other: Nest) -> Nest:
    """Choose sequence by sequence.

    Parameters
    ----------
    condition : BoolTensor of shape (B,)
    chosen, other : nesting of Tensor of shape (B, ...)
        What is taken where the condition holds, and where it does not.
    """
    return map_leaves(lambda a, b: torch.where(condition.view(-1, *[1] * (a.dim() - 1)), a, b), chosen, other)
