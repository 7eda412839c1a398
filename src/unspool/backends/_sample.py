"""Some sequences of a call as a call of their own.

Letters: T steps, N valid steps of the whole, n sequences of the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspool._nest import map_leaves
from unspool.backends._schedule import Schedule
from unspool.backends.base import Call


class Sample:
    """Some sequences of a schedule, as a small batch of padded arrays.

    Parameters
    ----------
    schedule : Schedule
    rows : list of int
    """

    def __init__(self, schedule: Schedule, rows: list[int]) -> None:
        self._whole, self._rows = schedule, torch.tensor(rows, device="cpu")
        self._valid = schedule.valid.cpu()[:, self._rows]
        self.schedule = Schedule(
            schedule.steps, len(rows), self._valid, None, reverse=schedule.reverse, device=schedule.device
        )

    def of(self, call: Call) -> Call:
        """Return a call of these sequences alone, with leaves of its own."""

        def fresh(take: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
            return lambda t: take(t).requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t

        return replace(
            call,
            inputs=map_leaves(fresh(self.take), call.inputs),
            initial_state=map_leaves(fresh(self.take_rows), call.initial_state),
            row_inputs=None if call.row_inputs is None else map_leaves(fresh(self.take_rows), call.row_inputs),
            schedule=self.schedule,
            static=False,
        )

    def of_results(self, grads: Sequence[Tensor | None], outputs: int, finals: int) -> list[Tensor | None]:
        """Return what belongs to these sequences of gradients of outputs and final states."""
        final = range(outputs, outputs + finals)
        return [None if g is None else (self.take_rows if i in final else self.take)(g) for i, g in enumerate(grads)]

    def take(self, array: Tensor) -> Tensor:
        """Return `[T, n, ...]` of an array of the whole run, zero in the padding that ragged ones do not have."""
        array = array.detach()
        if not self._whole.ragged:
            return array.index_select(1, self._rows.to(array.device))
        found = array.new_zeros((*self._valid.shape, *array.shape[2:]))
        step, row = self._valid.nonzero().unbind(1)
        place = step * self._whole.stride + self._whole.starts[self._rows[row]]
        found[step, row] = array.flatten(0, 1)[place.to(array.device)]
        return found

    def real(self, array: Tensor) -> Tensor:
        """Return `[T, n, ...]` as `take` would have taken it."""
        valid = self._valid.to(array.device).view(*self._valid.shape, *[1] * (array.dim() - 2))
        return torch.where(valid, array.detach(), 0) if self._whole.ragged else array.detach()

    def take_rows(self, values: Tensor) -> Tensor:
        """Return `[n, ...]` of values per sequence."""
        return values.detach().index_select(0, self._rows.to(values.device))
