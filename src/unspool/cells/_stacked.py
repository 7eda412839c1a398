"""Stack several cells into one cell."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from unspool._nest import Nest, describe
from unspool.cells._contract import Cell, draws_nothing, initial_state_of, known_size, require_cell, row_inputs_of
from unspool.cells._step import step, takes_constants


class StackedRNNCells(Cell):
    """A stack of cells run as one: the output of each is the input of the next, within the same time step.

    Parameters
    ----------
    cells : iterable of cell
        From the lowest to the highest. `torch.nn`'s cells and user cells may be mixed. Constants of a run go to all
        cells that take them.

    Attributes
    ----------
    cells : ModuleList

    Raises
    ------
    ValueError
        If there are no cells, or the known sizes of two neighbours do not match.
    TypeError
        If one of them is not a cell.

    Warns
    -----
    UserWarning
        If a cell, or one inside another, occurs several times in the stack, so that its weights are shared.
    """

    def __init__(self, cells: Iterable[nn.Module]) -> None:
        super().__init__(state_size=())
        cells = list(cells)
        if not cells:
            raise ValueError("StackedRNNCells received no cells; expected at least one.")
        for index, cell in enumerate(cells):
            require_cell(cell, f"cells[{index}]")
        _warn_of_shared_weights(cells)
        self.cells = nn.ModuleList(cells)
        for index in range(1, len(cells)):
            below, above = known_size(cells[index - 1], "output_size"), known_size(cells[index], "input_size")
            if None not in (below, above) and below != above:
                raise ValueError(
                    f"cells[{index - 1}] puts out {below} features and cells[{index}] takes {above}; "
                    "expected the same number. Change the input_size of the upper cell."
                )

    @property
    def input_size(self) -> int | None:
        """Input features of the lowest cell, if known."""
        return known_size(self.cells[0], "input_size")

    @property
    def output_size(self) -> int | None:
        """Output features of the highest cell, if known."""
        return known_size(self.cells[-1], "output_size")

    @property
    def takes_constants(self) -> bool:
        """Whether any of the cells takes a run's constants; all that do get the same ones."""
        return any(map(takes_constants, self.cells))

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[Nest, ...]:
        """Return the initial states of the cells as a tuple, lowest first."""
        return tuple(initial_state_of(cell, batch_size, dtype, device) for cell in self.cells)

    def row_inputs(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> dict[str, Nest] | None:
        """Return the per-sequence inputs of the cells that have any, keyed by the cell's index in the stack."""
        rows = {str(i): row_inputs_of(cell, batch_size, dtype, device) for i, cell in enumerate(self.cells)}
        return {key: value for key, value in rows.items() if value is not None} or None

    row_inputs.draws_nothing = lambda cell: all(map(draws_nothing, cell.cells))  # type: ignore[attr-defined]

    def forward(
        self,
        x: Nest,
        state: tuple[Nest, ...],
        rows: dict[str, Nest] | None = None,
        constants: Nest | None = None,
    ) -> tuple[Nest, tuple]:
        """Compute one step of every cell.

        Parameters
        ----------
        x : Tensor of shape (B, I)
            Input of the lowest cell.
        state : tuple
            One state per cell, lowest first.
        rows : dict, optional
            See `row_inputs`.
        constants : nesting of Tensor of shape (B, ...), optional
            Constants of the run, for every cell that takes them.

        Returns
        -------
        output : Tensor of shape (B, H)
            Output of the highest cell.
        new_state : tuple
            One state per cell, lowest first.

        Raises
        ------
        ValueError
            If there is not one state per cell.
        TypeError
            If a cell returns anything but a pair.
        """
        if not isinstance(state, tuple | list) or len(state) != len(self.cells):
            raise ValueError(
                f"StackedRNNCells received the state {describe(state)}; expected {len(self.cells)}, one "
                "per cell. Start from cell.initial_state(batch_size)."
            )
        rows = rows or {}
        new_states = []
        for index, (cell, old) in enumerate(zip(self.cells, state, strict=True)):
            own = constants if constants is not None and takes_constants(cell) else None
            x, new = step(cell, x, old, rows.get(str(index)), own)
            new_states.append(new)
        return x, tuple(new_states)


def _warn_of_shared_weights(cells: Sequence[nn.Module]) -> None:
    """Warn about a module with parameters that is part of several cells; parameters tied one by one are intentional."""
    first: dict[nn.Module, int] = {}
    for index, cell in enumerate(cells):
        for module in cell.modules():
            if next(module.parameters(recurse=False), None) is None or first.setdefault(module, index) == index:
                continue
            name = type(module).__name__
            warnings.warn(
                f"cells[{first[module]}] and cells[{index}] of StackedRNNCells are or hold the same {name}, so its "
                "weights are shared. For weights of their own make a new one for each, and not [cell] * n: "
                f"[{name}(...) for _ in range({len(cells)})].",
                stacklevel=3,
            )
            return
