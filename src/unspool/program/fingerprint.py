"""Telling whether a cell still means what it meant when it was read.

A program holds what the step did when it was traced: numbers that stood in attributes, branches taken on flags. So
programs are kept by everything in the cell that can change this: the form of its tensors, which of them are one, and
the values of attributes. What a step reads from elsewhere, globals say, cannot be noticed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)
_OF_MODULES = frozenset(nn.Module().__dict__) | {"bound_from"}


def fingerprint(cell: nn.Module) -> tuple[Any, ...]:
    """Return something hashable that differs wherever the cell's step may differ.

    Objects with attributes count by these, other objects by identity, tensors that are no parameters also by their
    version.
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
        return (type(value), *((k if isinstance(k, _PLAIN) else id(k), _of_value(v, inside)) for k, v in value.items()))
    if isinstance(value, torch.Tensor):
        return (id(value), value._version)
    if callable(value) or isinstance(value, nn.Module) or not hasattr(value, "__dict__"):
        return id(value)
    return (type(value), *((k, _of_value(v, inside)) for k, v in vars(value).items()))
