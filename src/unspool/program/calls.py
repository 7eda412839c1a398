"""PyTorch's functions by their names: what a program keeps of a call that it has no operation for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import GetSetDescriptorType
from typing import Any

import torch
from torch.overrides import resolve_name

from unspool._nest import Spec
from unspool.program.source import TraceError


def function_name(func: Callable[..., Any]) -> str:
    """Return a name by which `find_function` finds a function again, if there is one."""
    name = _NAMES.get(func)
    if name is None:
        name = resolve_name(func)
        if name is None:
            return f"torch.{getattr(func, '__name__', func)}"
        name = _NAMES[func] = name.removesuffix(".__get__")  # attributes such as `mT`
    return name


_NAMES: dict[Callable[..., Any], str] = {}
"""Of PyTorch's own functions: asking it takes long."""


@cache
def find_function(name: str) -> Callable[..., Any]:
    """Return the PyTorch function of a name such as `torch.nn.functional.embedding`.

    Raises
    ------
    TraceError
        If there is none.
    """
    found: Any = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    if isinstance(found, GetSetDescriptorType | property):
        found = found.__get__
    if not name.startswith("torch.") or not callable(found):
        raise TraceError(f"{name} is not a function that can be found by its name")
    return found


_SPECS: list[Spec] = []


def spec_of(index: int) -> Spec:
    """Return a structure of a call's arguments by its place in the table."""
    return _SPECS[index]


def remember(spec: Spec) -> int:
    """Keep the structure of a call's arguments in a table, so that programs hold plain numbers only."""
    if spec not in _SPECS:
        _SPECS.append(spec)
    return _SPECS.index(spec)  # another thread may have appended too
