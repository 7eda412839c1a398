"""What a model that streams is made of, part by part.

Letters: B batch, T steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from unspool._nest import Nest, leaves_of, map_leaves
from unspool.backends import make_room, may_repeat
from unspool.cells import draws_nothing, is_cell, row_inputs_of
from unspool.execution import Again
from unspool.layers import RNN, RecurrentLayer, delegate_of, lent_tensors
from unspool.streaming._held import Held

_AT_ONCE = 64
"""Sequences of which the engine steps the state whole or not at all; else Ctrl-C may come in between."""


def described(name: str, module: Any) -> str:
    """Return how errors call a module of a model.

    Parameters
    ----------
    name : str
        By which the model has it; empty for the model itself.
    module : Module
    """
    return f"{name!r} ({type(module).__name__})" if name else type(module).__name__


class Part(ABC):
    """One module of the chain.

    Parameters
    ----------
    name : str
        By which the model has it; empty for the model itself.
    module : Module

    Attributes
    ----------
    name, module
        See the parameters.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module

    def __str__(self) -> str:
        return described(self.name, self.module)

    @abstractmethod
    def reason(self) -> str:
        """Return why it cannot be part of a stream as it is now; empty if it can."""

    def settings(self) -> Any:
        """Return all that `reason` and the layout of a chain depend on."""
        return self.reason()


class Stepwise(Part):
    """A module that acts on each step by itself, and is called as it is.

    Parameters
    ----------
    name, module
        See `Part`.
    condition : callable, optional
        Gives the reason why it may not. None for a class of the user's, which has an axis of time in all its inputs.
    """

    def __init__(self, name: str, module: nn.Module, condition: Callable[[Any], str] | None = None) -> None:
        super().__init__(name, module)
        self._condition = condition

    def reason(self) -> str:
        """Return why it cannot be part of a stream as it is now; empty if it can."""
        return self._condition(self.module) if self._condition else ""

    def run(self, x: Nest, one_step: bool) -> Nest:
        """Call it.

        Parameters
        ----------
        x : nesting of Tensor of shape (T, B, ...), or (B, ...) for one step
        one_step : bool
        """
        if not one_step or self._condition is not None:
            return self.module(x)
        return map_leaves(lambda leaf: leaf[0], self.module(map_leaves(lambda leaf: leaf.unsqueeze(0), x)))


_OURS = "reverse", "stateful", "training", "batch_first", "return_sequences"
_TORCHS = attrgetter("bidirectional", "training", "dropout", "num_layers", "batch_first")


def _stacked(layer: Any) -> tuple[str, ...]:
    """Return what layers over several cells have beside."""
    return ("bidirectional", "dropout", "num_layers") if hasattr(layer, "bidirectional") else ()


class Recurrent(Part):
    """A module with a state: a layer, a cell, or one of `torch.nn`'s recurrent modules.

    Parameters
    ----------
    name, module
        See `Part`.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name, module)
        self._own: Any = RNN(module) if is_cell(module) else module
        self._settings = _TORCHS if isinstance(module, nn.RNNBase) else attrgetter(*_OURS, *_stacked(self._own))
        self._known: dict[Any, Again] = {}
        self._bound: tuple[Any, list[Tensor], bool, list[Any]] = None, [], False, []

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs have found: it belongs to these modules, and not to copies."""
        return {**vars(self), "_known": {}, "_bound": (None, [], False, [])}

    def layer(self) -> tuple[RecurrentLayer, dict[str, Tensor] | None]:
        """Return the layer that computes, and the tensors that it computes with: None for its own."""
        own = self._own
        if isinstance(own, nn.RNNBase):
            return delegate_of(own), lent_tensors(own)
        return own, own.read_tensors()

    @property
    def batch_first(self) -> bool | None:
        """Whether whole sequences have batch before time; None for a cell, which has no part in that."""
        return bool(self._own.batch_first) if self._own is self.module else None

    @property
    def keeps_time(self) -> bool:
        """Whether there is an output for each step, and not for the last one alone."""
        return isinstance(self._own, nn.RNNBase) or self._own.return_sequences

    def reason(self) -> str:
        """Return why it cannot be part of a stream as it is now; empty if it can."""
        own = self._own
        if isinstance(own, nn.RNNBase):
            if own.bidirectional:
                return BIDIRECTIONAL
            draws = own.training and own.dropout and own.num_layers > 1
        else:
            if len(own._directions) > 1:
                return BIDIRECTIONAL
            if own.reverse:
                return f"runs backward in time, from a last step that a stream does not have yet; {_FORWARD}"
            if own.stateful:
                return "is stateful, and keeps a state of its own; use stateful=False: the stream keeps the state"
            draws = own.training and getattr(own, "dropout", 0.0) and own.num_layers > 1
        module = self.module
        if own is module and (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)):
            return (
                "has forward hooks or a forward of its own, which a stream does not call; remove them, or use "
                "torch.nn.utils.parametrizations for what they compute"
            )
        return _DRAWS if draws else ""

    def settings(self) -> Any:
        """Return all that `reason` and the layout of a chain depend on."""
        module = self.module
        hooked = bool(module._forward_hooks or module._forward_pre_hooks)
        return hooked, "forward" in vars(module), self._settings(self._own)

    def start(self, batch_size: int, dtype: torch.dtype | None = None) -> Held:
        """Return the state in which so many sequences start.

        Parameters
        ----------
        batch_size : int
        dtype : torch.dtype, optional
            That of the parameters by default.
        """
        layer, tensors = self.layer()
        return Held(layer.start(tensors, batch_size, dtype), layer._state_axes.index("B"))

    def run(self, x: Nest, held: Held, constants: Nest | None, one_step: bool) -> Nest:
        """Run over a chunk, or one step, and step the state.

        Parameters
        ----------
        x : nesting of Tensor of shape (T, B, ...), or (B, ...) for one step
        held : Held
            The state before; that after it, when this returns.
        constants : nesting of Tensor of shape (B, ...), or None
        one_step : bool

        Returns
        -------
        nesting of Tensor of shape (T, B, ...), or (B, ...) for one step, or where only the last output is returned

        Raises
        ------
        TypeError, ValueError, BackendError
            See `unspool.dynamic_rnn`. The state is then as it was.
        """
        layer, tensors = self.layer()
        key = None
        if constants is None and type(x) is Tensor:
            key = one_step, x.shape, x.dtype, layer._options(layer)
            last = self._known.get(key)
            if last is not None and x.is_cpu and x.layout == torch.strided and may_repeat(last.surroundings):
                found = self._repeat(last, layer, self._cells(layer, tensors), x, held, one_step)
                if found is not None:
                    return found[0]
        x = map_leaves(lambda leaf: leaf.unsqueeze(0), x) if one_step else x
        self._refuse_draws(self._cells(layer, tensors), leaves_of(x)[0].shape[1])
        # A copy: whatever the cell keeps of its state must not change with the next step.
        output, state, again = layer.advance(tensors, x, held.copy(), constants)
        held.put(state)
        if again is not None and key is not None:
            make_room(self._known)
            self._known[key] = again
        return map_leaves(lambda leaf: leaf[0], output) if one_step and self.keeps_time else output

    def _repeat(
        self, last: Again, layer: RecurrentLayer, cells: list[Any], x: Tensor, held: Held, one_step: bool
    ) -> tuple[Nest, list[Nest]] | None:
        """Run as the last time; None where a cell has changed."""
        if one_step and len(cells) == 1 and x.shape[0] <= _AT_ONCE:
            return layer.repeat(last, cells, x, held.by_cell, one_step)
        with held.kept():
            found = layer.repeat(last, cells, x, held.by_cell, one_step)
        if found is None:
            held.restore()
        return found

    def _cells(self, layer: RecurrentLayer, tensors: dict[str, Tensor] | None) -> list[Any]:
        """Return the layer's cells, those of the last step where they compute with the same tensors."""
        if tensors is None:
            return layer.bound_cells(None)
        of, values, training, cells = self._bound
        if (
            of is not layer
            or training != layer.training
            or len(values) != len(tensors)
            or not all(map(is_, values, tensors.values()))
        ):
            cells = layer.bound_cells(tensors)
            self._bound = layer, list(tensors.values()), layer.training, cells
        return cells

    def _refuse_draws(self, cells: list[Any], batch: int) -> None:
        """Refuse a cell that draws for each run what should be held over a sequence, of which a chunk is a part."""
        for cell in cells:
            if not draws_nothing(cell) and row_inputs_of(cell, batch) is not None:
                raise ValueError(f"{self} {_DRAWS}")


_FORWARD = "use a layer that runs forward"
BIDIRECTIONAL = (
    "is bidirectional: its output at a step depends on all later steps, which a stream does not have yet; train a "
    "model that runs forward only, or call this one on whole sequences"
)
_DRAWS = (
    "draws per-sequence inputs (dropout masks in training, say), which are held over a whole sequence, and a chunk is "
    "only a part of one; call eval() on the model before it streams, or pass what they stand for as constants"
)
