"""The common base of the wrappers, which expose the state, sizes and per-sequence inputs of the cell inside."""

from __future__ import annotations

import torch
from torch import nn

from unspool._nest import Nest
from unspool.cells._contract import Cell, draws_nothing, initial_state_of, known_size, require_cell, row_inputs_of
from unspool.cells._step import step, takes_constants


class WrappedCell(Cell):
    """Base of cells that change another cell's input or output and leave its state alone.

    Parameters
    ----------
    cell : cell
        The cell inside.
    """

    def __init__(self, cell: nn.Module) -> None:
        super().__init__(state_size=())
        require_cell(cell)
        self.cell = cell

    @property
    def input_size(self) -> int | None:
        """Input features of the cell inside, if known."""
        return known_size(self.cell, "input_size")

    @property
    def output_size(self) -> int | None:
        """Output features of the cell inside, if known."""
        return known_size(self.cell, "output_size")

    @property
    def takes_constants(self) -> bool:
        """Whether the cell inside takes a run's constants."""
        return takes_constants(self.cell)

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Nest:
        """Return the initial state of the cell inside."""
        return initial_state_of(self.cell, batch_size, dtype, device)

    def row_inputs(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> dict[str, Nest] | None:
        """Return this wrapper's own per-sequence inputs and, under `"cell"`, those of the cell inside; or None."""
        rows = self._own_rows(batch_size, dtype, device) if self.training else {}
        inner = row_inputs_of(self.cell, batch_size, dtype, device)
        if inner is not None:
            rows["cell"] = inner
        return rows or None

    row_inputs.draws_nothing = lambda cell: cell._has_no_rows() and draws_nothing(cell.cell)  # type: ignore[attr-defined]

    def _has_no_rows(self) -> bool:
        return not self.training or type(self)._own_rows is WrappedCell._own_rows

    def _own_rows(
        self, batch_size: int, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> dict[str, Nest]:
        """Draw the wrapper's own masks, in training."""
        del batch_size, dtype, device
        return {}

    def _inner_step(
        self, x: Nest, state: Nest, rows: dict[str, Nest] | None, constants: Nest | None = None
    ) -> tuple[Nest, Nest]:
        return step(self.cell, x, state, None if rows is None else rows.get("cell"), constants)

    def _rows_in_training(self, rows: dict[str, Nest] | None) -> dict[str, Nest]:
        """Refuse to run without the masks that are held over a sequence."""
        if rows is None:
            raise ValueError(
                f"{type(self).__name__} is in training and was called without its masks, which are held over a whole "
                "sequence. Draw them once with rows = cell.row_inputs(batch_size) and call cell(x, state, rows), or "
                "run the cell with unspool.dynamic_rnn, or call cell.eval()."
            )
        return rows
