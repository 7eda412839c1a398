"""Running steps to see what they do, and putting back what they did."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import _bootstrap  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unspool._modes import has_values
from unspool._nest import leaves_of
from unspool.program.code import owner_of, reads_of
from unspool.program.untouched import Snapshot, untouched

_IMPORT = _bootstrap._find_and_load.__code__  # type: ignore[attr-defined]
"""What Python calls for a module that is not there yet."""


@contextmanager
def rehearsed(*things: Any) -> Iterator[None]:
    """Put back, at the end of the `with` block, whatever the code that runs in it has changed.

    That is attributes, containers, globals, variables of outer functions, values of tensors and arrays, and random
    states. Who has read from an iterator or written into a file has done so.

    Parameters
    ----------
    *things : object
        What is run: a cell, a model, a function. Whatever can be reached from them counts.
    """
    with untouched(*things) as snapshot:
        # Under an export or a transform tensors have no values that could be put back.
        values = _Values(snapshot) if has_values() else nullcontext()
        try:
            with values, _watching(snapshot):
                yield
        finally:
            if isinstance(values, _Values):
                values.restore()


@contextmanager
def _watching(snapshot: Snapshot) -> Iterator[None]:
    """Let a snapshot grow by what the code that is about to run can reach."""
    if sys.getprofile() is not None:  # somebody else's; then what is reached from globals is not known
        yield
        return

    seen: set[types.CodeType] = set()
    importing = 0  # What is imported stays imported, and so must whatever its import has made.

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal importing
        del arg
        code = frame.f_code
        if code is _IMPORT:
            importing += {"call": 1, "return": -1}.get(event, 0)
        if importing:
            return
        if code in seen and not code.co_freevars:
            return
        seen.add(code)
        if event != "call" or owner_of(code, frame.f_globals) != "user":
            return
        with torch._C.DisableTorchFunction():
            _reach(snapshot, frame)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def _reach(snapshot: Snapshot, frame: FrameType) -> None:
    code, names = frame.f_code, frame.f_globals
    for name in code.co_freevars:
        snapshot.add(frame.f_locals.get(name), name, name)
    reads = reads_of(code)
    for name in reads.written:
        snapshot.add_global(names, name)
    for name in reads.globals:
        thing = names.get(name)
        snapshot.add(thing, name, name)
        if isinstance(thing, types.ModuleType):
            for attribute in reads.attributes & vars(thing).keys():
                snapshot.add(vars(thing)[attribute], f"{name}.{attribute}", attribute)


class _Values(TorchDispatchMode):
    """Keeps what a tensor of a snapshot held before something is written into it."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._known: dict[int, list[Tensor]] = {}
        self._met = 0
        self._kept: dict[int, tuple[Tensor, Tensor, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator after keeping what it writes over."""
        kwargs = kwargs or {}
        # Norms write their statistics without saying so.
        if func._schema.is_mutable or "batch_norm" in func._schema.name:
            for tensor in leaves_of((args, kwargs)):
                if isinstance(tensor, Tensor):
                    self._keep(tensor)
        return func(*args, **kwargs)

    def _keep(self, written: Tensor) -> None:
        tensors = list(self._snapshot.tensors.values())
        for tensor, _ in tensors[self._met :]:
            if tensor.layout == torch.strided and tensor.numel():
                self._known.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        self._met = len(tensors)
        if written.layout != torch.strided:
            return
        for tensor in self._known.get(written.untyped_storage().data_ptr(), ()):
            if id(tensor) not in self._kept:
                version = 0 if tensor.is_inference() else tensor._version
                self._kept[id(tensor)] = tensor, tensor.detach().clone(), version

    def restore(self) -> None:
        """Put the values back, and how often they were written to."""
        with torch.no_grad():
            for tensor, before, version in self._kept.values():
                tensor.detach().copy_(before)
                if not tensor.is_inference():
                    torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))  # type: ignore[attr-defined]
