"""A model that streams as a list of parts: the walk of it, and whether it still is what was walked.

Letters: B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from unspool._nest import Nest
from unspool.cells import is_cell
from unspool.layers import Bidirectional, RecurrentLayer
from unspool.streaming._held import Held
from unspool.streaming._parts import BIDIRECTIONAL, Recurrent, Stepwise, described
from unspool.streaming._stepwise import condition_of


class Chain:
    """A model as a list of parts, and what it was read from, so that a change of it is noticed.

    Parameters
    ----------
    model : Module, or sequence of them
    stepwise : tuple of type
        Classes of modules that the user knows to act on each step by itself.

    Attributes
    ----------
    parts : list of Part
    recurrent : list of Recurrent
        Those with a state.
    batch_first : bool
        Whether whole sequences have batch before time; those of cells alone do, as in `dynamic_rnn`.
    keeps_time : bool
        Whether there is an output for each step.

    Raises
    ------
    TypeError, ValueError
        If it has no recurrent part, or one that cannot stream.
    """

    def __init__(self, model: Any, stepwise: tuple[type[nn.Module], ...] = ()) -> None:
        self._read_from: list[tuple[Any, list[Any]]] = []
        self._stepwise = stepwise
        self.parts = list(self._walk("", model))
        self.recurrent = [part for part in self.parts if isinstance(part, Recurrent)]
        if not self.recurrent:
            raise TypeError(
                f"{type(model).__name__} has no recurrent part; expected a cell, a layer, or a torch.nn.Sequential "
                "with one in it. A model without a state is called as it is."
            )
        self._settle()

    def _settle(self) -> None:
        """Refuse parts that cannot stream or do not go together, and find the layout of whole sequences."""
        settings = [part.settings() for part in self.parts]
        for part in self.parts:
            reason = part.reason()
            if reason:
                raise ValueError(f"{part} {reason}.")
        layouts = {part.batch_first: part for part in self.recurrent if part.batch_first is not None}
        if len(layouts) > 1:
            raise ValueError(
                f"{layouts[True]} has batch_first=True and {layouts[False]} has batch_first=False; expected the same "
                "in all layers of a model."
            )
        for part in self.recurrent[:-1]:
            if not part.keeps_time:
                raise ValueError(
                    f"{part} returns its last output alone (return_sequences=False), and another recurrent part comes "
                    "after it; expected return_sequences=True before the last one."
                )
        self.batch_first, self.keeps_time = next(iter(layouts), True), self.recurrent[-1].keeps_time
        self._settings = settings

    def _walk(self, name: str, module: Any) -> Iterator[Stepwise | Recurrent]:
        if isinstance(module, nn.ModuleList | list | tuple) or _is_sequential(module):
            self._read_from.append((module, list(_children(module))))
            for key, child in _children(module):
                yield from self._walk(f"{name}.{key}" if name else str(key), child)
            return
        yield self._part(name, module)

    def _part(self, name: str, module: Any) -> Stepwise | Recurrent:
        if isinstance(module, Bidirectional):
            raise ValueError(f"{described(name, module)} {BIDIRECTIONAL}.")
        if isinstance(module, type) or not isinstance(module, nn.Module):
            raise TypeError(
                f"{name or 'the model'} is {module!r}; expected a cell, a layer, or a torch.nn.Sequential of modules."
            )
        if _is_recurrent(module) or is_cell(module):
            return Recurrent(name, module)
        if isinstance(module, self._stepwise):
            return Stepwise(name, module)
        try:
            return Stepwise(name, module, condition_of(module))
        except KeyError:
            raise TypeError(
                f"{described(name, module)} is not known to act on each step by itself, so its outputs in a stream "
                "could differ from those over whole sequences; expected cells, layers, linear, embedding and "
                "normalisation layers and activations, in a torch.nn.Sequential or a list. If it does, tell so: "
                f"unspool.stream(..., stepwise=({type(module).__name__},))."
            ) from None

    def check(self) -> None:
        """Refuse a model that has changed so that it is another chain, or cannot stream any more.

        Raises
        ------
        ValueError
            If it has.
        """
        for module, children in self._read_from:
            if children != list(_children(module)):
                raise ValueError(
                    "modules were added to the model, removed or replaced since the stream was made; make another one."
                )
            if isinstance(module, nn.Module) and (module._forward_hooks or module._forward_pre_hooks):
                raise ValueError(
                    f"{type(module).__name__} has forward hooks, which a stream does not call; remove them."
                )
        if self._settings != [part.settings() for part in self.parts]:
            self._settle()

    def run(self, x: Nest, states: Sequence[Held], constants: Nest | None, one_step: bool) -> Nest:
        """Run over a chunk, or one step, and step the states.

        Parameters
        ----------
        x : nesting of Tensor of shape (T, B, ...), or (B, ...) for one step
        states : sequence of Held
            Of the recurrent parts.
        constants : nesting of Tensor of shape (B, ...), or None
        one_step : bool

        Raises
        ------
        TypeError, ValueError, BackendError
            See `unspool.dynamic_rnn`. The states are then as they were.
        """
        if len(self.parts) == 1:
            return self.recurrent[0].run(x, states[0], constants, one_step)
        with ExitStack() as all_kept:
            for held in states:
                all_kept.enter_context(held.kept())
            left = iter(states)
            for part in self.parts:
                x = (
                    part.run(x, next(left), constants, one_step)
                    if isinstance(part, Recurrent)
                    else part.run(x, one_step)
                )
        return x


def parts_of(model: Any, stepwise: tuple[type[nn.Module], ...] = ()) -> list[Stepwise | Recurrent]:
    """Return the parts of a model in the order in which they run.

    Parameters
    ----------
    model, stepwise
        See `Chain`.

    Raises
    ------
    TypeError, ValueError
        See `Chain`.
    """
    return Chain(model, stepwise).parts


_FORWARDS = {nn.LSTM: nn.LSTM.forward, nn.GRU: nn.GRU.forward, nn.RNN: nn.RNN.forward}


def _is_recurrent(module: nn.Module) -> bool:
    """Tell whether a module is a layer whose forward is known."""
    forward = type(module).forward
    if isinstance(module, RecurrentLayer):
        return forward is RecurrentLayer.forward
    return isinstance(module, nn.RNNBase) and (
        forward in _FORWARDS.values() or forward.__module__ == "unspool.layers._accelerated"
    )


def _is_sequential(module: Any) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _children(module: Any) -> Iterable[tuple[Any, Any]]:
    """Return the modules in another one, or in a list, by name; one that occurs twice runs twice."""
    return module._modules.items() if isinstance(module, nn.Module) else enumerate(module)
