"""What was read from cells, kept as long as they live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from unspool.program.guard import Guard
from unspool.program.turns import turn

T = TypeVar("T")

KEPT = 32
"""Programs of one cell that are kept for one form of its inputs."""

ALWAYS, SELDOM = 16, 8
"""A cell may be read so often, and beyond that once in so many runs: whatever changes at every run costs more to read
than it saves."""


@dataclass
class _Shelf(Generic[T]):
    """The readings of one cell for one form of inputs, the latest used first."""

    entries: list[tuple[Guard | None, T]] = field(default_factory=list)
    runs: int = 0
    readings: int = 0


def _blind(cell: nn.Module) -> None:
    """See nothing."""


class Kept(Generic[T]):
    """Finds what was read from a cell if it still stands, and has it read if not.

    Whatever a step has read must stand as it did (see `guard`); among several readings the one that does is taken, so
    that a cell which is switched between training and evaluation is read twice.
    """

    def __init__(self) -> None:
        self._cells: WeakKeyDictionary[nn.Module, dict[Any, _Shelf[T]]] = WeakKeyDictionary()
        self._see: Callable[[nn.Module], object] = _blind

    def shelf(self, cell: nn.Module, form: Any) -> _Shelf[T] | None:
        """Return where the readings of a cell for a form are; it stays there as long as the cell lives.

        Parameters
        ----------
        cell : cell
        form : hashable
        """
        return self._cells.get(vars(cell).get("bound_from", cell), {}).get(form)

    def standing(self, shelf: _Shelf[T] | None, cell: nn.Module) -> tuple[T, tuple[Tensor, ...]] | None:
        """Return what `find` would, where it would not read; else None.

        Parameters
        ----------
        shelf
            See `shelf`.
        cell : cell
        """
        return None if shelf is None or self._see is not _blind else self._standing(shelf, cell)

    def find(
        self, cell: nn.Module, form: Any, read: Callable[[], tuple[Guard | None, T]], too_often: Callable[[str], T]
    ) -> tuple[T, tuple[Tensor, ...]]:
        """Return what was read, and the tensors that it takes.

        Parameters
        ----------
        cell : cell
        form : hashable
            Of inputs and state.
        read : callable
            Reads the cell, and returns a guard (None if none can be made) and what was read.
        too_often : callable
            Gives what stands for a reading where there have been too many; it is told what keeps changing.
        """
        self._see(cell)
        owner = vars(cell).get("bound_from", cell)
        shelves = self._cells.get(owner)
        shelf = None if shelves is None else shelves.get(form)
        if shelf is not None:
            found = self._standing(shelf, cell)
            if found is not None:
                return found
        with turn():  # one reading at a time; who has waited may find it done
            shelf = self._cells.setdefault(owner, {}).setdefault(form, _Shelf())
            found = self._standing(shelf, cell)
            if found is not None:
                return found
            shelf.runs += 1
            if shelf.readings > ALWAYS + shelf.runs // SELDOM:
                guard = shelf.entries[0][0] if shelf.entries else None
                return too_often("what it reads" if guard is None else guard.changed(cell)), ()
            shelf.readings += 1
            guard, what = read()
            shelf.entries = [(guard, what), *shelf.entries[: KEPT - 1]]
            if guard is None:  # a refusal that nobody can tell to stand
                return what, ()
            tensors = guard.ask(cell)
            return (what, tensors) if isinstance(tensors, tuple) else (too_often(guard.places[tensors]), ())

    def latest(self, cell: nn.Module) -> Guard | None:
        """Return the guard of what was found last for a cell, for any form; None where there is none.

        Parameters
        ----------
        cell : cell
        """
        shelves = self._cells.get(vars(cell).get("bound_from", cell), {}).values()
        return next((shelf.entries[0][0] for shelf in shelves if shelf.entries), None)

    @contextmanager
    def watched(self, see: Callable[[nn.Module], object]) -> Iterator[None]:
        """Let a function see the cells that are asked for inside of the `with` block.

        Parameters
        ----------
        see : callable
        """
        self._see = see
        try:
            yield
        finally:
            self._see = _blind

    def _standing(self, shelf: _Shelf[T], cell: nn.Module) -> tuple[T, tuple[Tensor, ...]] | None:
        entries = shelf.entries
        for entry in entries:
            guard, what = entry
            tensors = None if guard is None else guard.ask(cell)  # a number, where something else stands now
            if type(tensors) is tuple:
                shelf.runs += 1
                if entry is not entries[0]:
                    shelf.entries = [entry, *(other for other in entries if other is not entry)]
                return what, tensors
        return None
