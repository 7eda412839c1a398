"""Watching one forward pass of a model: which recurrent parts are called, and which runs over time each one makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.rnn import PackedSequence

from unspool.backends import Call, Decision, recording
from unspool.cells import Cell, is_cell
from unspool.doctor._padding import Padding, padding_of_call, padding_of_input
from unspool.doctor._torch_layers import Examined, examine, input_of
from unspool.layers import (
    AcceleratedGRU,
    AcceleratedLSTM,
    AcceleratedRNN,
    Bidirectional,
    RecurrentLayer,
)

Role: TypeAlias = Literal["layer", "torch", "cell", "run"]
"""A layer that runs on a backend; a layer of `torch.nn`; a cell called step by step; a cell run by a function."""


def role_of(module: nn.Module) -> Role | None:
    """Return what a module is to the doctor, or None if it is not recurrent.

    Parameters
    ----------
    module : Module
    """
    if isinstance(module, RecurrentLayer | Bidirectional | AcceleratedRNN | AcceleratedLSTM | AcceleratedGRU):
        return "layer"
    if isinstance(module, nn.RNNBase):
        return "torch"
    if isinstance(module, Cell | nn.RNNCellBase):
        return "cell"
    # A whole model may have a method of the name initial_state too.
    own = is_cell(module) and not any(role_of(part) for part in module.modules() if part is not module)
    return "cell" if own else None


@dataclass
class Seen:
    """What was seen of one recurrent part.

    Attributes
    ----------
    path : str
        Its name in the model; empty for the model itself and for what is no part of it.
    module : Module
    role : Role
    calls : int
    decisions : list of Decision
        Of its runs over time.
    padding : Padding or None
        Of all calls together.
    examined : Examined or None
        What was found out about a layer of `torch.nn`.
    packed : bool
        Whether a layer of `torch.nn`, accelerated or not, was given a PackedSequence.
    """

    path: str
    module: Any
    role: Role
    calls: int = 0
    decisions: list[Decision] = field(default_factory=list)
    padding: Padding | None = None
    examined: Examined | None = None
    packed: bool = False

    def saw(self, padding: Padding) -> None:
        """Add the padding of one call."""
        self.padding = padding if self.padding is None else self.padding + padding


class Observer:
    """Sees what a model does inside of `watching`.

    Of recurrent modules within recurrent modules the outermost one counts. Hooks for all modules are used, since a
    hook on a cell would keep it from being read.

    Parameters
    ----------
    model : Module

    Attributes
    ----------
    seen : dict
        What was seen, by the identity of the module and its role.
    """

    def __init__(self, model: nn.Module) -> None:
        self._roles: dict[int, tuple[str, Role]] = {
            id(m): (path, role) for path, m in model.named_modules() if (role := role_of(m))
        }
        self._of_torch = [m for m in model.modules() if isinstance(m, nn.RNNBase)]
        self._outermost: Seen | None = None
        self._runs = 0  # of this call of the outermost module
        self._start = 0  # of the decisions in this call
        self._inside = 0  # of runs that somebody else's modules are called in
        self._decisions: list[Decision] = []
        self.seen: dict[tuple[int, Role], Seen] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch this thread's calls until the end of the `with` block; all hooks are gone then."""
        with ExitStack() as stack:
            handles = [
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave, always_call=True),
            ]
            # They run after those for all modules, and see keyword arguments.
            handles += [layer.register_forward_hook(self._look_at, with_kwargs=True) for layer in self._of_torch]
            for handle in handles:
                stack.callback(handle.remove)
            self._decisions = stack.enter_context(recording(self._run))
            yield

    def _of(self, module: nn.Module, role: Role) -> Seen:
        path, _ = self._roles.get(id(module), ("", role))
        return self.seen.setdefault((id(module), role), Seen(path, module, role))

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        del args
        if self._inside or self._outermost is not None or id(module) not in self._roles:
            return
        self._outermost = self._of(module, self._roles[id(module)][1])
        self._outermost.calls += 1
        self._runs, self._start = 0, len(self._decisions)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args, output
        if not self._inside and self._outermost is not None and self._outermost.module is module:
            self._outermost.decisions += self._decisions[self._start :]
            self._outermost = None

    def _look_at(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Look at a layer of `torch.nn` after a call of it, if that was outside of everything else recurrent."""
        del output
        if self._inside or self._outermost is not None:
            return
        seen = self._of(layer, self._roles[id(layer)][1])
        if seen.role == "torch" and seen.examined is None:
            seen.examined = examine(layer, args, kwargs)
        x = input_of(args, kwargs)
        seen.packed |= isinstance(x, PackedSequence)
        refused = seen.examined is not None and seen.examined.refusal is not None
        if not refused and self._runs == 0:  # also an accelerated layer that has left its input to PyTorch's kernel
            seen.saw(padding_of_input(x, seen.module.batch_first))

    @contextmanager
    def _run(self, call: Call) -> Iterator[None]:
        """Note a run over time, and let the calls of modules within it pass."""
        place = len(self._decisions)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
        if self._inside:
            return
        seen = self._outermost
        if seen is None:
            seen = self._of(vars(call.cell).get("bound_from", call.cell), "run")
            seen.calls += 1
            seen.decisions.append(self._decisions[place])
            seen.saw(padding_of_call(call))
        elif self._runs == 0:  # the other layers and directions of a module see the same sequences
            seen.saw(padding_of_call(call))
        self._runs += 1
