"""What a case is: a world with a cell in it, and what happens to it between runs.

A world is made by a function, so that there can be a second one like it: its classes, closures and modules are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

import unspool as us

FEATURES, H = 3, 4
"""Features of inputs and of the state of the cells here."""


class Small(us.Cell):
    """Cells here begin with `mix`, and do something tempting after it."""

    def __init__(self) -> None:
        super().__init__(H)
        self.lin = nn.Linear(FEATURES + H, H)

    def mix(self, x: Tensor, h: Tensor) -> Tensor:
        """Return tanh of a linear map of input and state."""
        return torch.tanh(self.lin(torch.cat([x, h], 1)))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.mix(x, h)
        return h, h


@dataclass
class World:
    """A cell and its surroundings.

    Attributes
    ----------
    cell : cell
    changes : list of callable
        What happens to it: one after the other, between runs.
    start : callable
        `start(rows)` is called before every run, as a training loop would.
    penalty : callable
        Gives what is added to the loss, or None.
    watch : callable
        Gives what is compared beside all that can be reached from the cell.
    restore : callable
        Undoes what would reach the next world: variables of the environment, say.
    """

    cell: nn.Module
    changes: list[Callable[[], object]] = field(default_factory=list)
    start: Callable[[int], object] = lambda rows: None
    penalty: Callable[[], Tensor | None] = lambda: None
    watch: Callable[[], Any] = lambda: None
    restore: Callable[[], object] = lambda: None


Made: TypeAlias = World | nn.Module | tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes
    ----------
    name : str
    make : callable
        Makes a world.
    native : bool
        Whether the engine has to run it, in every run.
    refused : str
        What the engine's reasons have to match, in all runs that it does not take; there has to be one.
    raises : bool
        Whether the plain loop raises in some run, so that this library has to.
    """

    name: str
    make: Callable[[], World]
    native: bool = False
    refused: str = ""
    raises: bool = False


CASES: list[Case] = []


def case(
    *, native: bool = False, refused: str = "", raises: bool = False
) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Add a case: the function returns a world, or a cell, or a cell and changes."""

    def add(function: Callable[[], Made]) -> Callable[[], Made]:
        def make() -> World:
            made = function()
            if isinstance(made, World):
                return made
            cell, *changes = made if isinstance(made, tuple) else (made,)
            return World(cell, changes)

        CASES.append(Case(function.__name__, make, native, refused, raises))
        return function

    return add
