"""Calls of one form after another: what the last one has found out is used by the next.

A form is that of the tensors and of the options of a call. It covers runs over one tensor, whole sequences, with a
state or without; all others take their usual way, which is as long for a thousand steps as for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from unspool._nest import Nest
from unspool.backends import Repeatable, Schedule, may_repeat, repeatable, surroundings_now

FORMS = 8
"""Forms that are kept for a module, the latest ones."""


class Again(NamedTuple):
    """How a call was run.

    Attributes
    ----------
    runs : list of Repeatable
        One for each cell, in the order in which they run.
    schedules : sequence of Schedule
        One for each direction.
    dtype : torch.dtype
        Of inputs and states.
    kind : type
        Of the state: `Tensor`, or a tuple of them.
    states : list of torch.Size
        Of each leaf of it.
    surroundings : tuple
        See `may_repeat`.
    """

    runs: list[Repeatable]
    schedules: Sequence[Schedule]
    dtype: torch.dtype
    kind: type
    states: list[torch.Size]
    surroundings: Any

    def start(self, state: Nest | None) -> list[Tensor]:
        """Return the leaves of a state, zeros by default; where gradients are off, in memory that a run may write over.

        Parameters
        ----------
        state : Tensor of shape (..., B, ...), or tuple of them, or None
            As `again` has seen it.
        """
        if state is None:
            return [torch.zeros(shape, dtype=self.dtype) for shape in self.states]
        leaves = (state,) if self.kind is Tensor else state
        if torch.is_grad_enabled():
            return list(leaves)
        return [leaf.clone(memory_format=torch.contiguous_format) for leaf in leaves]


_LAST: WeakKeyDictionary[nn.Module, dict[tuple[torch.Size, Any], Again]] = WeakKeyDictionary()


def again(module: nn.Module, options: Any, inputs: Any, state: Nest | None) -> Again | None:
    """Return how the last call of this form was run; None if there was none, or anything around the call has changed.

    Whether the cells have changed is asked by `Repeatable.run`.

    Parameters
    ----------
    module : cell or layer
    options : hashable
        Whatever else the run depends on.
    inputs, state
        As they were passed.
    """
    forms = _LAST.get(module)
    if forms is None or type(inputs) is not Tensor:
        return None
    last = forms.get((inputs.shape, options))
    if last is None or inputs.dtype != last.dtype or not inputs.is_cpu or inputs.layout != torch.strided:
        return None
    if state is not None:
        if type(state) is not last.kind and (last.kind is Tensor or type(state) is not tuple):
            return None
        leaves: Any = (state,) if last.kind is Tensor else state
        if len(leaves) != len(last.states):
            return None
        for leaf, shape in zip(leaves, last.states, strict=True):
            fits = type(leaf) is Tensor and leaf.shape == shape and leaf.dtype == last.dtype
            if not fits or not leaf.is_cpu or leaf.layout != torch.strided:
                return None
    return last if may_repeat(last.surroundings) else None


def remember(
    module: nn.Module, options: Any, inputs: Any, state: Nest, cells: Iterable[Any], schedules: Sequence[Schedule],
    backend: str,
) -> None:  # fmt: skip
    """Keep how a call was run, if it can be run so again.

    Parameters
    ----------
    module, options, inputs
        See `again`.
    state : nesting of Tensor of shape (..., B, ...)
        In the form in which one may be passed.
    cells : iterable of cell
        In the order in which they ran.
    schedules : sequence of Schedule
        One for each direction.
    backend : str
        See `dynamic_rnn`.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    leaves = (state,) if type(state) is Tensor else state
    if type(inputs) is not Tensor or not isinstance(leaves, tuple):
        return
    if not all(type(leaf) is Tensor and leaf.dtype == inputs.dtype for leaf in leaves):
        return
    runs = []
    for k, cell in enumerate(cells):
        run = repeatable(cell, schedules[k % len(schedules)], backend)
        if run is None:
            return
        runs.append(run)
    forms = _LAST.setdefault(module, {})
    while len(forms) >= FORMS:
        forms.pop(next(iter(forms)), None)
    shapes = [leaf.shape for leaf in leaves]
    forms[inputs.shape, options] = Again(runs, schedules, inputs.dtype, type(state), shapes, surroundings_now())
