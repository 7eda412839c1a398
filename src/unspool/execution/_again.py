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

from unspool._nest import Nest, leaves_of, map_leaves
from unspool.backends import Repeatable, Result, Schedule, make_room, may_repeat, repeatable, surroundings_now
from unspool.cells import draws_nothing, state_sizes


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

    def spread(self, state: Nest) -> Nest | None:
        """Return the state of one sequence as that of all of them; None where it is of another form.

        Parameters
        ----------
        state : Tensor of shape (..., 1, ...), or tuple of them
        """
        leaves = [state] if self.kind is Tensor else list(state)
        if any(leaf.dtype != self.dtype or not leaf.is_cpu for leaf in leaves):
            return None
        leaves = [leaf.expand(shape) for leaf, shape in zip(leaves, self.states, strict=True)]
        return leaves[0] if self.kind is Tensor else tuple(leaves)


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
    flat = isinstance(leaves, tuple) and all(type(leaf) is Tensor for leaf in leaves)
    last = how_to_repeat(inputs, state, cells, schedules, backend) if flat else None
    if last is not None:
        forms = _LAST.setdefault(module, {})
        make_room(forms)
        forms[inputs.shape, options] = last


def how_to_repeat(
    inputs: Any, state: Nest, cells: Iterable[Any], schedules: Sequence[Schedule], backend: str
) -> Again | None:
    """Return how a call was run, if it can be run so again.

    Parameters
    ----------
    inputs, state, cells, schedules, backend
        See `remember`; the state may be any nesting.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    leaves = leaves_of(state)
    if type(inputs) is not Tensor or not all(type(leaf) is Tensor and leaf.dtype == inputs.dtype for leaf in leaves):
        return None
    runs = []
    for k, cell in enumerate(cells):
        run = repeatable(cell, schedules[k % len(schedules)], backend)
        if run is None:
            return None
        runs.append(run)
    shapes = [leaf.shape for leaf in leaves]
    return Again(runs, schedules, inputs.dtype, type(state), shapes, surroundings_now())


def repeat_cell(last: Again, cell: Any, inputs: Tensor, state: Nest | None) -> Result | None:
    """Run the only cell of a call again, or return None where it has changed.

    Parameters
    ----------
    last : Again
    cell : cell
    inputs : Tensor of shape (T, B, ...)
    state : Tensor of shape (B, ...), or tuple of them, or None
    """
    if not draws_nothing(cell) or (state is None and state_sizes(cell) is None):
        return None
    return last.runs[0].run(cell, inputs, last.start(state))


def start_over(state: Nest, resets: Tensor) -> Nest | None:
    """Return the state of each sequence, or zeros where it is reset, for cells that start at zero.

    Parameters
    ----------
    state : Tensor of shape (..., B, H), or tuple of them
    resets : BoolTensor of shape (B,)

    Returns
    -------
    nesting of Tensor, or None
        None for all other states, whether they fit or not.
    """
    leaves = (state,) if type(state) is Tensor else state
    if not isinstance(leaves, tuple):
        return None
    for leaf in leaves:
        if type(leaf) is not Tensor or leaf.dim() < 2 or leaf.shape[-2] != len(resets):
            return None
    return map_leaves(lambda leaf: leaf.masked_fill(resets.unsqueeze(1), 0.0), state)
