"""The tensors that a step reaches and has not made: while it is read, others stand for them.

They lie over the same memory, and have no graph, no hooks and no past. Nothing writes into that memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unspool._nest import leaves_of, map_leaves
from unspool._reason import Reason
from unspool.program.guard_code import Look
from unspool.program.observe import Observer
from unspool.program.source import DRAWS, IN_STATE, here, source_line


class Foreign:
    """The tensors that a step reaches and has not made, and what stands for them while it is read.

    Attributes
    ----------
    shaped, contents : dict of int to Tensor
        Those of which the step has asked the form, and those of which it has read the values.
    looks : list of Look
        What else it has asked of them.
    made : set of int
        Where the memory is that the step has made of no other tensor.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.shaped: dict[int, Tensor] = {}
        self.contents: dict[int, Tensor] = {}
        self.looks: list[Look] = []
        self.made: set[int] = set()
        self._standing: dict[int, tuple[Tensor, Tensor]] = {}
        self._stored: dict[int, str] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self.observer.snapshot.tensors

    def name(self, tensor: Tensor) -> str:
        """Return how the user reaches a tensor."""
        return self.observer.snapshot.tensors[id(tensor)][1]

    def writes_into(self, tensor: Tensor) -> str:
        """Return whose memory a tensor shares, or ""."""
        return self._stored.get(storage_of(tensor), "")

    def stand_in(self, tensor: Tensor) -> Tensor:
        """Return what stands for a tensor: the same values in the same memory, without graph and hooks."""
        if id(tensor) not in self._standing:
            if not is_plain(tensor):
                found = strange(tensor).about(self.name(tensor))
                self.observer.refuse(Reason(f"{found} ({source_line()})", found.remedy))
            other = tensor.clone() if tensor.is_inference() else tensor
            other = other.detach().requires_grad_(tensor.requires_grad)
            self._standing[id(tensor)] = tensor, other
            if tensor.numel():
                self._stored[storage_of(tensor)] = self.name(tensor)
                self._stored[storage_of(other)] = self.name(tensor)
        return self._standing[id(tensor)][1]

    @property
    def met(self) -> list[Tensor]:
        """The tensors that something has stood for."""
        return [tensor for tensor, _ in self._standing.values()]

    def own(self, arguments: Any) -> Any:
        """Return a call's positional arguments, or those by name, with stand-ins in the places of foreign tensors."""
        return map_leaves(self._own, arguments) if arguments else arguments

    def _own(self, leaf: Any) -> Any:
        known = self._standing.get(id(leaf))
        if known is not None:
            return known[1]
        return self.stand_in(leaf) if isinstance(leaf, Tensor) and leaf in self else leaf


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is nothing but an array: no subclass with operations or memory of its own, not sparse."""
    kind: Any = type(tensor)
    plain: Any = nn.Parameter
    known = (
        kind is Tensor
        or kind is plain
        or (kind.__torch_function__ is plain.__torch_function__ and kind.__torch_dispatch__ is plain.__torch_dispatch__)
    )
    return known and tensor.layout == torch.strided


def strange(tensor: Tensor) -> Reason:
    """Return why a tensor that is not plain cannot be read."""
    kind = type(tensor).__name__ if tensor.layout == torch.strided else f"a {tensor.layout} tensor"
    return Reason(f"is of a kind that the engine does not read: {kind}", "take a dense torch.Tensor in its place")


def storage_of(tensor: Tensor) -> int:
    """Return where a tensor's memory is."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


class StandIns(TorchFunctionMode):
    """Computes with stand-ins in the places of foreign tensors, once it is known what a step does."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__()
        self.foreign = foreign

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function on stand-ins."""
        return func(*self.foreign.own(args), **self.foreign.own(kwargs or {}))


@dataclass(frozen=True)
class _Operator:
    """What is known of one of PyTorch's operators: whether it draws, and which arguments it writes into."""

    draws: bool
    written: tuple[tuple[int, str], ...]


@cache
def _operator(func: Any) -> _Operator:
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return _Operator(torch.Tag.nondeterministic_seeded in func.tags, written)


class NothingWritten(TorchDispatchMode):
    """Stops a step before one of PyTorch's operators writes into foreign memory, or draws random numbers."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__()
        self.foreign = foreign

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Never run in compiled code, so need no protection from the compiler, whose import takes a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator that writes into nobody else's memory."""
        return self.foreign.observer.aside(self._run, func, args, kwargs or {})

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operator = _operator(func)
        if operator.draws and not self._draws_nothing(func, args, kwargs):
            self.foreign.observer.refuse(here(str(func), DRAWS))
        for place, name in operator.written:
            for tensor in leaves_of(args[place] if place < len(args) else kwargs.get(name)):
                into = self.foreign.writes_into(tensor) if isinstance(tensor, Tensor) else ""
                if into:
                    self.foreign.observer.refuse(here(str(func), f"writes into {into}", IN_STATE))
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in leaves_of((args, kwargs))):
            self.foreign.made |= {storage_of(leaf) for leaf in leaves_of(result) if isinstance(leaf, Tensor)}
        return result

    @staticmethod
    def _draws_nothing(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether an operator has dropout, and it is off."""
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        return "dropout_p" in names and given.get("dropout_p", 0.0) == 0.0
