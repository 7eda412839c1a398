"""Plans of traced runs: what an operator runs, and the forms of what it takes and gives."""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor, nn

from unspool._nest import Nest, Spec, unflatten

Runner = Callable[..., Any]
"""A run over time: see `in_graphs`."""


@dataclass(frozen=True)
class Form:
    """What a tensor looks like: everything but its data.

    Attributes
    ----------
    dtype, device : str
    dims : tuple of str or int
        `"T"` and `"B"` stand for numbers of steps and sequences.
    """

    dtype: str
    device: str
    dims: tuple[str | int, ...]

    @property
    def order(self) -> list[int]:
        """The axes as they lie in memory: time first, so that no layout costs a copy."""
        axes = range(len(self.dims))
        return sorted(axes, key=lambda axis: self.dims[axis] != "T")

    def empty(self, shape: Sequence[int]) -> Tensor:
        """Return a tensor of this form without values."""
        order = self.order
        dtype = getattr(torch, self.dtype)
        memory = torch.empty([shape[axis] for axis in order], dtype=dtype, device=self.device)
        return memory.permute([order.index(axis) for axis in range(len(order))])


@dataclass(frozen=True)
class Forms:
    """The forms of what a run takes and gives; the text of it is an argument of the operators.

    Attributes
    ----------
    given, results : tuple of Form
        Of all tensors that are passed, and of all that come back.
    """

    given: tuple[Form, ...]
    results: tuple[Form, ...]

    def __str__(self) -> str:
        return json.dumps([[[f.dtype, f.device, f.dims] for f in group] for group in (self.given, self.results)])

    @staticmethod
    @lru_cache(maxsize=256)
    def read(text: str) -> Forms:
        """Return the forms that a text stands for."""
        given, results = ([Form(t, d, tuple(dims)) for t, d, dims in group] for group in json.loads(text))
        return Forms(tuple(given), tuple(results))

    def sizes(self, tensors: Sequence[Tensor]) -> dict[str, int]:
        """Return the numbers of steps and sequences of the tensors that are given."""
        found: dict[str, int] = {}
        for form, tensor in zip(self.given, tensors, strict=True):
            for axis, dim in enumerate(form.dims):
                if isinstance(dim, str):
                    found.setdefault(dim, tensor.shape[axis])
        return found


@dataclass(frozen=True)
class Plan:
    """The Python side of a run.

    Attributes
    ----------
    module : weak reference to Module
        The cell or the layer.
    title : str
        What it is, for errors.
    runner : callable
        See `Runner`.
    options : dict
        Its keyword arguments.
    arguments : Spec
        The structure of its positional arguments.
    constants : tuple
        The leaves of these that are no tensors; `TENSOR` stands for those that are.
    names : tuple of str
        Names of the module's tensors, which follow the arguments.
    autocast : (str, dtype or None)
        A device type and the dtype of `torch.autocast` there; None where it was off.
    count : int
        Number of results.
    structure : Spec
        Their structure.
    forms : str
        See `Forms`.
    """

    module: ReferenceType[nn.Module]
    title: str
    runner: Runner
    options: dict[str, Any]
    arguments: Spec
    constants: tuple[Any, ...]
    names: tuple[str, ...]
    autocast: tuple[str, torch.dtype | None]
    count: int = 0
    structure: Spec | None = None
    forms: str = ""

    def run(self, tensors: Sequence[Tensor]) -> Nest:
        """Run the plan on real tensors."""
        module = self.module()
        if module is None:
            raise RuntimeError(
                f"the {self.title} that this compiled code runs does not exist any more; expected it to live as long "
                "as the code. Keep a reference to it, or compile again."
            )
        values = iter(tensors)
        leaves = [next(values) if c is TENSOR else c for c in self.constants]
        device, dtype = self.autocast
        with nullcontext() if dtype is None else torch.autocast(device, dtype=dtype):
            own = dict(zip(self.names, values, strict=True))
            return self.runner(module, own, *unflatten(leaves, self.arguments), **self.options)


@dataclass(frozen=True)
class Failure:
    """In place of a plan: a function that raises what the run has raised."""

    fail: Callable[[], Any]


TENSOR = object()
"""Stands for a tensor among constants."""


class Plans:
    """All plans, one attribute for each: Dynamo guards an attribute, but all keys of a dict."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def add(self, module: nn.Module, plan: Plan | Failure) -> str:
        """Keep a plan as long as its module lives; return its name, which no other plan of this process has."""
        name = f"{type(module).__name__}_{next(self._numbers)}"
        setattr(self, name, plan)
        weakref.finalize(module, vars(self).pop, name, None).atexit = False
        return name


PLANS = Plans()
