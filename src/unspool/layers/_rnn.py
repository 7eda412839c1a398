"""A layer over any cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from unspool._nest import Nest
from unspool.backends import Schedule
from unspool.cells import draws_nothing, require_cell, state_sizes
from unspool.compiled import tensors_of, with_tensors
from unspool.execution import Again, in_form_of, run_cell, start_of
from unspool.layers._base import RecurrentLayer, last_or_all
from unspool.layers._options import RunOptions


class RNN(RecurrentLayer):
    """Runs any cell over sequences, as a module.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`: a module with `forward(x, state) -> (output, new_state)` and `initial_state`, a built-in
        cell, `StackedRNNCells`, or one of `torch.nn`'s cells. Its parameters appear as `cell.*`.
    batch_first : bool
        Whether inputs and outputs have batch before time.
    **options
        `reverse`, `go_backwards`, `return_sequences`, `return_state`, `pad_output`, `unroll`, `num_steps`, `backend`:
        see `RunOptions`.

    Returns
    -------
    output, state
        See `forward`. The state is the cell's own, leaves of shape (B, ...).

    Raises
    ------
    TypeError
        If `cell` is not a cell.

    Examples
    --------
    >>> layer = RNN(GRUCell(3, 5), batch_first=True)
    >>> output, state = layer(torch.randn(2, 4, 3), lengths=[4, 0])
    >>> output.shape, state.shape
    (torch.Size([2, 4, 5]), torch.Size([2, 5]))
    """

    def __init__(self, cell: nn.Module, *, batch_first: bool = False, **options: Unpack[RunOptions]) -> None:
        super().__init__(batch_first, **options)
        require_cell(cell)
        self.cell = cell

    @property
    def _state_axes(self) -> str:
        return "B"

    def _tensors(self) -> dict[str, Tensor]:
        return tensors_of(self)

    def _all_cells(self) -> list[Any]:
        return [self.cell]

    @property
    def _starts_at_zero(self) -> bool:
        return state_sizes(self.cell) is not None

    def _rerun(self, last: Again, tensors: dict[str, Tensor] | None, input: Tensor, hx: Nest | None) -> Any:
        if tensors is not None or (hx is None and not self._starts_at_zero):
            return None
        x = input.transpose(0, 1) if self.batch_first else input
        found = self.repeat(last, [self.cell], x, [last.start(hx)])
        if found is None:
            return None
        output, (state,) = found
        if self.return_sequences:
            output = in_form_of(input, output, time_major=not self.batch_first)
        return output, state

    def bound_cells(self, tensors: dict[str, Tensor] | None) -> list[Any]:
        """Return the cell: see `RecurrentLayer.bound_cells`."""
        del tensors
        return [self.cell]

    def repeat(
        self, last: Again, cells: Sequence[Any], x: Tensor, states: Sequence[list[Tensor]], one_step: bool = False
    ) -> tuple[Nest, list[Nest]] | None:
        """Run the cell as in an earlier run of this form: see `RecurrentLayer.repeat`."""
        if not draws_nothing(cells[0]):
            return None
        found = last.runs[0].run(cells[0], x, states[0], one_step)
        if found is None:
            return None
        whole = one_step or self.return_sequences
        return last_or_all(last.schedules[0], found.outputs, whole), [found.final_state]

    def start(self, tensors: dict[str, Tensor] | None, batch_size: int, dtype: torch.dtype | None = None) -> Nest:
        """Return the state in which the cell starts: see `RecurrentLayer.start`.

        Raises
        ------
        TypeError, ValueError
            If a leaf of it is not a tensor, or has no batch axis.
        """
        del tensors
        return start_of(self.cell, batch_size, dtype)

    def _run(
        self,
        x: Nest,
        hx: Nest | None,
        constants: Nest | None,
        schedules: list[Schedule],
        tensors: dict[str, Tensor] | None,
    ) -> tuple[Nest, Nest]:
        (schedule,) = schedules

        def run() -> tuple[Nest, Nest, Nest | None]:
            return run_cell(
                self.cell,
                x,
                schedule,
                hx,
                constants=constants,
                pad_output=self.pad_output,
                static=self.unroll,
                backend=self.backend,
                state_name="hx",
            )

        outputs, final, _ = run() if tensors is None else with_tensors(self, tensors, run)
        return last_or_all(schedule, outputs, self.return_sequences), final
