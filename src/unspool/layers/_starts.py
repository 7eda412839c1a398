"""Where the sequences of a layer start: in a state that it learns, or in one that it has kept from the last call.

Letters: B batch, T steps, H hidden size, L layers, D directions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import is_compiling, is_exporting, is_in_backward, is_inference, is_tracing, is_transformed
from unspool._nest import Nest, describe, flatten, leaves_of, map_leaves, named_leaves, unflatten
from unspool._ragged import RaggedBatch
from unspool.cells import match_state


class StartingLayer(nn.Module, ABC):
    """What a layer has beside its cells: an initial state of its own, and the state that it keeps.

    Parameters
    ----------
    learn_initial_state, stateful : bool
        See `RunOptions`.
    """

    batch_first: bool

    def __init__(self, learn_initial_state: bool, stateful: bool) -> None:
        super().__init__()
        self.learn_initial_state, self.stateful = learn_initial_state, stateful
        self._learned_names: Nest | None = None
        # No buffer: what is kept belongs to the batches that this process goes through, not to the model.
        self._kept_state: Nest | None = None

    @property
    @abstractmethod
    def _state_axes(self) -> str:
        """The first axes of states: `"B"`, or `".B"` where those of layers are stacked."""

    def _without_batch(self, input: Nest) -> bool:
        """Tell whether the input is a single sequence without a batch axis."""
        del input
        return False

    @abstractmethod
    def _own_start(self) -> Nest:
        """Return the state in which the cells start one sequence: `[1, ...]`, or `[L D, 1, ...]` if it is stacked."""

    def _learn(self, start: Nest) -> None:
        """Make parameters of the state in which sequences start; each has the name of its leaf."""
        found, spec = named_leaves(start, ""), flatten(start)[1]
        names = ["initial_" + (re.sub(r"\W+", "_", path).strip("_") or "h") for path, _ in found]
        if len(set(names)) < len(names):
            raise ValueError(
                f"the state {describe(start)} has leaves whose parameters would have one name among "
                f"{', '.join(sorted(names))}; expected keys that differ in letters or digits."
            )
        for name, (_, leaf) in zip(names, found, strict=True):
            self.register_parameter(name, nn.Parameter(leaf.detach().clone()))
        self._learned_names = unflatten(names, spec)

    def _learned(self, tensors: dict[str, Tensor] | None) -> Nest | None:
        """Return the state that is learned, in the form of `_own_start`; None if there is none."""
        if self._learned_names is None:
            return None
        return map_leaves(lambda name: getattr(self, name) if tensors is None else tensors[name], self._learned_names)

    def reset_parameters(self) -> None:
        """Fill the layer's own parameters anew: those of an initial state that it learns. A cell's are the cell's."""
        if self.learn_initial_state:
            with torch.no_grad():
                for parameter, leaf in zip(leaves_of(self._learned(None)), leaves_of(self._own_start()), strict=True):
                    parameter.copy_(leaf)

    def reset_states(self, states: Nest | None = None) -> None:
        """Forget the state in which the last call of a stateful layer has ended, or set it.

        Parameters
        ----------
        states : nesting of Tensor, optional
            The state in which the next call starts, as the layer returns its final one, with the axis of the batch.
            Their values are copied, and no gradients flow to them. By default the next call starts as the first one
            has.

        Raises
        ------
        ValueError
            If the layer is not stateful, or the states are not of its form.
        TypeError
            If a leaf is not a tensor, or of another dtype.
        """
        if not self.stateful:
            raise ValueError(
                f"reset_states was called on {type(self).__name__} with stateful=False, which keeps no state; expected "
                "stateful=True, or hx, which passes a state to one call."
            )
        if states is not None:
            axis, first = self._state_axes.index("B"), next(iter(leaves_of(states)), None)
            batch = first.shape[axis] if isinstance(first, Tensor) and first.dim() > axis else 1
            like = map_leaves(
                lambda leaf: leaf.expand(*leaf.shape[:axis], batch, *leaf.shape[axis + 1 :]), self._own_start()
            )
            states = map_leaves(_copied, match_state(states, like, "states"))
        self._kept_state = states

    def resumed(self, input: Nest | PackedSequence, hx: Nest | None) -> Nest | None:
        """Return the state in which a call starts: what a stateful layer has kept, unless one is passed.

        Parameters
        ----------
        input, hx
            See `forward`.

        Raises
        ------
        ValueError
            If the state that is kept is of a batch of another size.
        RuntimeError
            If the layer is stateful, and a program is recorded, or a transform or a backward pass calls it.
        """
        if not self.stateful:
            return hx
        _refuse_to_keep(type(self).__name__)
        state = self._kept_state
        if hx is not None or state is None:
            return hx
        axis, batch, leaves = self._state_axes.index("B"), self._batch_of(input), leaves_of(state)
        for leaf in leaves:
            if batch is not None and leaf.shape[axis] != batch:
                raise ValueError(
                    f"{type(self).__name__} is stateful and has kept the state of {leaf.shape[axis]} sequences, and "
                    f"the batch has {batch}; expected as many, each going on where it has ended. Call reset_states() "
                    "before other sequences, or pass hx."
                )
        # What was kept in inference mode is of no use where gradients are recorded.
        if not (is_compiling() or is_inference()) and any(map(Tensor.is_inference, leaves)):
            state = map_leaves(torch.clone, state)
        return map_leaves(lambda leaf: leaf.squeeze(axis), state) if self._without_batch(input) else state

    def keep(self, input: Nest | PackedSequence, state: Nest) -> None:
        """Keep the state in which a call has ended, if the layer is stateful.

        Parameters
        ----------
        input : nesting of Tensor, or RaggedBatch, or PackedSequence
        state : nesting of Tensor
            As `run_with` returned it.
        """
        if not self.stateful:
            return
        if self._without_batch(input):
            axis = self._state_axes.index("B")
            state = map_leaves(lambda leaf: leaf.unsqueeze(axis), state)
        # Past the search of a module among its parameters, buffers and modules, which takes longer than the copy.
        object.__setattr__(self, "_kept_state", map_leaves(_copied, state))

    def _batch_of(self, input: Nest | PackedSequence) -> int | None:
        """Return the number of sequences of an input; None for what the run will refuse."""
        if isinstance(input, PackedSequence):
            return int(input.batch_sizes[0])
        if isinstance(input, RaggedBatch):
            return len(input.lengths)
        if self._without_batch(input):
            return 1
        axis, first = 0 if self.batch_first else 1, next(iter(leaves_of(input)), None)
        return first.shape[axis] if isinstance(first, Tensor) and first.dim() > axis else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast what is kept as PyTorch moves and casts parameters."""
        super()._apply(fn, recurse)
        if self._kept_state is not None:
            self._kept_state = map_leaves(fn, self._kept_state)
        return self


def _copied(leaf: Tensor) -> Tensor:
    """Return a copy without a graph: users may write into what they were given."""
    return leaf.detach().clone()


def _refuse_to_keep(name: str) -> None:
    """Refuse a call of a stateful layer where what it keeps would be of no use, or kept twice."""
    if is_exporting() or is_tracing():
        where = "a program is recorded, which has no place for the state"
    elif is_compiling():
        return
    elif is_transformed():
        where = "a transform of torch.func wraps the state"
    elif is_in_backward():
        where = "a backward pass computes it again (torch.utils.checkpoint), from a later state than before"
    else:
        return
    raise RuntimeError(
        f"{name} is stateful, and {where}; expected a layer with stateful=False. Pass the state on: "
        "output, state = layer(x, state)."
    )
