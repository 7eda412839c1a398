"""The table of rules, and what a rule sees of the recorder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from unspool.program.ir import Program, Value

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""For values with a batch."""

BROADCASTS: dict[str, Rule] = {}
"""For parameters alone, which else stay calls to PyTorch."""


class Recorder(Protocol):
    """What records a step: see `unspool.program.recorder`.

    Attributes
    ----------
    batch : int
        The number of sequences of the recording.
    program : Program
    """

    batch: int
    program: Program

    def value(self, thing: Any) -> Value:
        """Return the value that a tensor or number stands for."""
        ...

    def uniform(self, tensor: Tensor) -> Value | None:
        """Return a constant for a tensor of one value throughout."""
        ...


_TORCH_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def rule(*names: str, table: dict[str, Rule] = RULES) -> Callable[[Rule], Rule]:
    """Register a rule under names, which have none so far."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in table, f"{name} has two rules"
            table[name] = function
        return function

    return register


def apply(function: Rule, rec: Recorder, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a rule makes of a call, or None where the call is beyond it.

    PyTorch's names of the first arguments may be written out; NumPy's names stand for PyTorch's, its numbers
    for Python's.
    """
    args = tuple(map(_plain, args))
    kwargs = {_TORCH_NAMES.get(name, name): _plain(value) for name, value in kwargs.items() if value is not None}
    for place, name in enumerate(("condition",) * ("condition" in kwargs) + ("input", "other")):
        if len(args) == place and name in kwargs:
            args = (*args, kwargs.pop(name))
    return function(rec, result, *args, **kwargs) if _takes(function, len(args), tuple(kwargs)) else None


def _plain(argument: Any) -> Any:
    return argument.item() if isinstance(argument, np.generic) else argument


@cache
def _takes(function: Rule, count: int, names: tuple[str, ...]) -> bool:
    """Tell whether a rule has so many arguments behind its first two, and others of these names."""
    try:
        inspect.signature(function).bind(None, None, *[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True
