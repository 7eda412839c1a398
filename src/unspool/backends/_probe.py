"""Checking a new program once, before its first use: against the cell itself, forward, backward and row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unspool._nest import leaves_of, map_leaves
from unspool.backends._schedule import Schedule
from unspool.backends.base import Backend, Call
from unspool.backends.reference import ReferenceBackend

STEPS, ROWS = 3, 3
LENGTHS = (3, 1, 2)


def probe(backend: Backend, call: Call) -> str:
    """Run a small batch on a backend and on the reference backend, and compare values and gradients.

    Parameters
    ----------
    backend : Backend
        Whose `run` is checked.
    call : Call
        Gives the cell and the form of its inputs and states, and its notes the program.

    Returns
    -------
    str
        What differs; empty if nothing does.
    """
    generator = torch.Generator().manual_seed(7)

    def sample(leaf: Tensor, *batch: int, skip: int) -> Tensor:
        shape = (*batch, *leaf.shape[skip:])
        if not leaf.is_floating_point():
            return torch.zeros(shape, dtype=leaf.dtype)
        return torch.randn(shape, generator=generator, dtype=leaf.dtype).requires_grad_()

    live = torch.arange(STEPS).unsqueeze(1) < torch.tensor(LENGTHS)
    states = map_leaves(lambda leaf: sample(leaf, ROWS, skip=1), call.initial_state)
    small = replace(
        call,
        inputs=map_leaves(lambda leaf: sample(leaf, STEPS, ROWS, skip=2), call.inputs),
        initial_state=states,
        reset_state=states,
        row_inputs=None
        if call.row_inputs is None
        else map_leaves(lambda leaf: sample(leaf, ROWS, skip=1), call.row_inputs),
        schedule=Schedule(STEPS, ROWS, live, None, reverse=False, device=torch.device("cpu")),
        pad_output="zero",
        all_states=True,
        static=False,
    )
    if any(parameter._backward_hooks or parameter.is_inference() for parameter in call.cell.parameters()):
        small = replace(small, cell=_view(call.cell, {}))
    sources = [t for t in leaves_of((small.inputs, states, small.row_inputs)) if isinstance(t, Tensor)]
    sources = [t for t in [*sources, *small.cell.parameters()] if t.requires_grad]
    with torch.enable_grad():
        got, want = (
            _values_and_gradients(backend, small, sources),
            _values_and_gradients(ReferenceBackend(), small, sources),
        )
    for (name, a), (_, b) in zip(got, want, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"the program that was read from the cell gives {name} {list(a.shape)} for {list(b.shape)}"
        scale = float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()) if b.numel() else 0.0
        tolerance = (1e-9 if b.dtype == torch.float64 else 1e-3) * max(scale, 1e-3)
        if not torch.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True):
            worst = float((a - b).abs().max())
            return f"the program that was read from the cell differs from it: {name} by {worst:.2g}"
    return ""


def _view(module: nn.Module, seen: dict[object, Any]) -> nn.Module:
    """Return a module that computes as another one, with parameters of its own.

    No hook of the user's sees their gradients, and they have gradients where the module was built in inference mode.
    """
    if module not in seen and not isinstance(module, torch.jit.ScriptModule):
        view = seen[module] = object.__new__(type(module))
        vars(view).update(vars(module))
        parameters: dict[str, Tensor | None] = dict(module._parameters)
        for name, own in parameters.items():
            if own is not None:
                fresh = own.clone() if own.is_inference() else own
                parameters[name] = seen.setdefault(own, fresh.detach().requires_grad_(own.requires_grad))
        children = {name: None if child is None else _view(child, seen) for name, child in module._modules.items()}
        vars(view).update(_parameters=parameters, _modules=children)
    return seen.get(module, module)


def _values_and_gradients(backend: Backend, call: Call, sources: list[Tensor]) -> list[tuple[str, Tensor]]:
    result = backend.run(call)
    named = {"outputs": result.outputs, "final states": result.final_state, "states": result.all_states}
    values = [(name, leaf) for name, tree in named.items() for leaf in leaves_of(tree)]
    generator = torch.Generator().manual_seed(11)
    terms = [(leaf * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)).sum() for _, leaf in values]
    grads: Iterable[Tensor | None] = [None] * len(sources)
    loss = torch.stack(terms).sum()
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, sources, allow_unused=True)
    found = [(name, leaf.detach()) for name, leaf in values]
    return found + [
        (f"the gradient of {list(s.shape)}", torch.zeros_like(s) if g is None else g)
        for s, g in zip(sources, grads, strict=True)
    ]
