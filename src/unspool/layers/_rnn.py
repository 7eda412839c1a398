"""A layer over any cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from unspool._nest import Nest, named_leaves
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
        `reverse`, `go_backwards`, `return_sequences`, `return_state`, `pad_output`, `unroll`, `num_steps`,
        `learn_initial_state`, `stateful`, `backend`: see `RunOptions`.

    Returns
    -------
    output, state
        See `forward`. The state is the cell's own, leaves of shape (B, ...).

    Raises
    ------
    TypeError
        If `cell` is not a cell.
    ValueError
        If the initial state cannot be learned: the cell's own holds integers, is learned by the cell, or is not the
        same for all sequences.

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
        if self.learn_initial_state:
            _refuse_to_learn(cell, self._start_of(2))
            self._learn(self._own_start())

    def _start_of(self, batch: int) -> Nest:
        """Return the state in which the cell starts so many sequences; random states stay, if it draws any."""
        like = next((p for p in self.cell.parameters() if p.is_floating_point()), torch.empty(0))
        with torch.random.fork_rng([like.device] if like.is_cuda else []), torch.enable_grad():
            return start_of(self.cell, batch)

    def _own_start(self) -> Nest:
        return self._start_of(1)

    @property
    def _state_axes(self) -> str:
        return "B"

    def _tensors(self) -> dict[str, Tensor]:
        return tensors_of(self)

    def _all_cells(self) -> list[Any]:
        return [self.cell]

    @property
    def _starts_at_zero(self) -> bool:
        return not self.learn_initial_state and state_sizes(self.cell) is not None

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

    def _start(self, tensors: dict[str, Tensor] | None, batch_size: int) -> Nest:
        del tensors
        return start_of(self.cell, batch_size)

    def _run(
        self,
        x: Nest,
        hx: Nest | None,
        constants: Nest | None,
        schedules: list[Schedule],
        reset_states: Nest | None,
        tensors: dict[str, Tensor] | None,
    ) -> tuple[Nest, Nest]:
        (schedule,) = schedules

        def run() -> tuple[Nest, Nest, Nest | None]:
            return run_cell(
                self.cell,
                x,
                schedule,
                hx,
                start=self._learned(None),
                reset_states=reset_states,
                constants=constants,
                pad_output=self.pad_output,
                static=self.unroll,
                backend=self.backend,
                state_name="hx",
            )

        outputs, final, _ = run() if tensors is None else with_tensors(self, tensors, run)
        return last_or_all(schedule, outputs, self.return_sequences), final


def _refuse_to_learn(cell: nn.Module, start: Nest) -> None:
    """Refuse a cell whose own start no parameter of the layer can stand for.

    Parameters
    ----------
    cell : cell
    start : nesting of Tensor of shape (B, ...)
        Its initial state for several sequences.
    """
    for path, leaf in named_leaves(start, "state"):
        if not leaf.is_floating_point():
            why = f"is of {leaf.dtype}, which has no gradients"
        elif leaf.requires_grad:
            why = "is computed of a parameter, so that the cell learns it by itself"
        elif not leaf.is_meta and not torch.equal(leaf, leaf[:1].expand_as(leaf)):
            why = "is not the same for all sequences"
        else:
            continue
        raise ValueError(
            f"learn_initial_state is True, and {path} of {type(cell).__name__}.initial_state {why}; expected a start "
            "of floating-point numbers, the same for all sequences. Leave the start to the cell."
        )
