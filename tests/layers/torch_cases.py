"""PyTorch's table of cases for its recurrent modules (`torch.testing._internal.common_modules`), and how they are run.

The table comes with every PyTorch. It is imported when a test asks for it, not when tests are collected: the import
takes seconds, and it changes the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import unspool as us
from tests.conformance.cases import pairs_of
from tests.conformance.oracle import RELATIVE

LAYERS = {"nn.RNN": nn.RNN, "nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU}
CELLS = {"nn.RNNCell": nn.RNNCell, "nn.LSTMCell": nn.LSTMCell, "nn.GRUCell": nn.GRUCell}
DTYPES = (torch.float32, torch.float64)
"""Those of the table; a test checks that there are no others."""


class Sample(NamedTuple):
    """One case: how the module is built and called, and PyTorch's own reference for the result, or None."""

    built: tuple[tuple[Any, ...], dict[str, Any]]
    called: tuple[tuple[Any, ...], dict[str, Any]]
    reference: Any

    def __str__(self) -> str:
        return f"{self.built[0]} {self.built[1]} on {shapes_of(self.called)}"


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what importing PyTorch's test utilities does to a process: they are made for a process of their own.

    They load a profile of Hypothesis, wrap the calls of scripted functions, and from then on PyTorch refuses every
    assignment to `torch.backends.mkldnn.enabled` and the like.
    """
    profile = settings.get_current_profile_name()
    scripted: tuple[Any, ...] = (torch._C.ScriptFunction, torch._C.ScriptMethod)
    calls = [kind.__call__ for kind in scripted]
    try:
        with patch.object(torch.backends, "disable_global_flags"):
            yield
    finally:
        settings.load_profile(profile)
        for kind, call in zip(scripted, calls, strict=True):
            kind.__call__ = call


@cache
def table() -> Any:
    """Return PyTorch's module of cases."""
    with unchanged_process():
        from torch.testing._internal import common_modules

    return common_modules


@cache
def infos() -> dict[str, Any]:
    """Return, by name, PyTorch's entries for recurrent modules and cells."""
    return {info.name: info for info in table().module_db if issubclass(info.module_cls, nn.RNNBase | nn.RNNCellBase)}


def samples(name: str, dtype: torch.dtype, requires_grad: bool = False) -> list[Sample]:
    """Return the cases of a module."""
    info = infos()[name]
    found = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=True)
    return [
        Sample(
            (f.constructor_input.args, f.constructor_input.kwargs), (f.forward_input.args, f.forward_input.kwargs), r
        )
        for f in found
        for r in [f.reference_fn]
    ]


def some(name: str, dtype: torch.dtype, requires_grad: bool = False) -> list[Sample]:
    """Return cases of a module in which any two options, and whether a state is given, meet in each of their values."""
    found = samples(name, dtype, requires_grad)
    pairs = [pairs_of({**sample.built[1], "inputs": len(sample.called[0])}) for sample in found]
    missing, chosen = set().union(*pairs), []
    while missing:
        best = max(range(len(found)), key=lambda k: len(pairs[k] & missing))
        missing -= pairs[best]
        chosen.append(found[best])
    return chosen


def errors(name: str, dtype: torch.dtype) -> list[Any]:
    """Return the cases of a module that PyTorch refuses."""
    info = infos()[name]
    return info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True)


def build(name: str, sample: Sample, dtype: torch.dtype) -> Any:
    """Return PyTorch's module of a case."""
    arguments, options = sample.built
    return infos()[name].module_cls(*arguments, **options).to(dtype)


def both(name: str, sample: Sample, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return an accelerated module that the engine runs, and PyTorch's with the same parameters."""
    theirs = build(name, sample, dtype)
    return us.accelerate(theirs, copy=True, backend="native"), theirs


def differentiated(module: Any, sample: Sample, parameters: list[Tensor] | None = None) -> list[Tensor]:
    """Call a module, or a function of parameters, with tensors of its own; return outputs, states and all gradients."""
    arguments, options = pytree.tree_map_only(
        Tensor, lambda leaf: leaf.detach().clone().requires_grad_(leaf.requires_grad), sample.called
    )
    outputs = pytree.tree_leaves(module(*arguments, **options))
    wanted = [leaf for leaf in pytree.tree_leaves((arguments, options)) if leaf.requires_grad]
    wanted += [p for p in (module.parameters() if parameters is None else parameters) if p.requires_grad]
    values = torch.cat([leaf.flatten() for leaf in outputs])
    loss = values @ torch.linspace(-1, 1, len(values), dtype=values.dtype)
    return [*outputs, *torch.autograd.grad(loss, wanted)]


def assert_near(actual: list[Tensor], expected: list[Tensor], sample: Sample) -> None:
    """Compare arrays, to a part of the largest value of each."""
    assert len(actual) == len(expected)
    for k, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{sample}: array {k}"
        error = (a - b).abs().max() if a.numel() else torch.zeros(())
        limit = RELATIVE[a.dtype] * max(b.abs().max().item() if b.numel() else 0.0, 1e-2)
        assert error <= limit, f"{sample}: array {k} differs by {error:.2e}; expected at most {limit:.2e}"


def shapes_of(tree: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda leaf: list(leaf.shape), tree)
