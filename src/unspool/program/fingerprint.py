"""Telling whether a cell still means what it meant when it was read.

A program holds what the step did when it was traced: numbers that stood in attributes, branches taken on flags. So
programs are kept by everything in the cell that can change this: the form of its tensors, which of them are one, and
the values of attributes. What a step reads from elsewhere, globals say, cannot be noticed, nor what is written into a
tensor past PyTorch's count of versions, as `.data` does.
"""

from __future__ import annotations

from copyreg import _slotnames  # type: ignore[reportAttributeAccessIssue]
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdRef

_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)
_OF_MODULES = frozenset(nn.Module().__dict__) | {"bound_from"}


def fingerprint(cell: nn.Module) -> tuple[Any, ...]:
    """Return something hashable that differs wherever the cell's step may differ.

    Objects with attributes count by these, other objects by identity, tensors that are no parameters also by their
    version. Whatever counts by identity is not kept alive by it, nor mistaken for what later has the same address.
    """
    first: dict[int, int] = {}
    return tuple(_of_module(module, first) for module in cell.modules())


def has_hooks(cell: nn.Module) -> bool:
    """Tell whether somebody listens to the calls of the cell or of a module in it."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in cell.modules()
    )


def _of_module(module: nn.Module, first: dict[int, int]) -> tuple[Any, ...]:
    found: list[Any] = [type(module), module.training]
    for group in (module._parameters, module._buffers):
        for name, t in group.items():
            found += (name, None) if t is None else (name, t.shape, t.dtype, first.setdefault(id(t), len(first)))
    for name, value in module.__dict__.items():
        if name not in _OF_MODULES:
            found += (name, type(value), value) if isinstance(value, _PLAIN) else (name, _of_value(value, ()))
    return tuple(found)


def _of_value(value: Any, inside: tuple[int, ...]) -> Any:
    if isinstance(value, _PLAIN):
        return (type(value), value)  # True and 1 differ
    if id(value) in inside:
        return "itself"
    inside = (*inside, id(value))
    if isinstance(value, tuple | list):
        return (type(value), *(_of_value(item, inside) for item in value))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(_of_value(item, inside) for item in value))
    if isinstance(value, dict):
        return (type(value), *((_of_value(k, inside), _of_value(v, inside)) for k, v in value.items()))
    if isinstance(value, torch.Tensor):
        # Inference tensors count no versions, so their contents tell.
        version = _contents(value) if value.is_inference() else value._version
        return (WeakIdRef(value), version, value.requires_grad)
    slots = _slotnames(type(value))
    if callable(value) or isinstance(value, nn.Module) or not (slots or hasattr(value, "__dict__")):
        return _Same.of(value)
    attributes = getattr(value, "__dict__", {}) | {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return (type(value), *((k, _of_value(v, inside)) for k, v in attributes.items()))


def _contents(tensor: torch.Tensor) -> bytes:
    return tensor.detach().flatten().view(torch.uint8).cpu().numpy().tobytes()


class _Same:
    """Equal to what was made of the very same object; holds one that can have no weak reference, such as a slice."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @staticmethod
    def of(value: Any) -> WeakIdRef | _Same:
        """Return something that stands for the object."""
        try:
            return WeakIdRef(value)
        except TypeError:
            return _Same(value)

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value
