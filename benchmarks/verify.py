"""Is it right? Nothing is timed before the numbers agree with the reference backend.

Letters: B rows, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.configurations import Case
from benchmarks.contenders import Contender
from benchmarks.layers import same_weights
from unspool.comparison.peers.protocol import timed

TOLERANCE = 1e-4
"""Largest allowed difference as a share of the largest value; sums over thousands of tokens are in float32."""

STEPS = 40
"""Steps of a case when it is compared with the reference backend."""


def verify(case: Case) -> str:
    """Compare ours with the reference backend on a shorter sequence.

    Outputs, final states and, in training, the gradients of the inputs and of all parameters are compared.

    Returns
    -------
    str
        What differs; empty if nothing does.
    """
    case = case.shortened(STEPS)
    torch.manual_seed(1)
    shape = case.shape
    ours = case.kind.ours(shape.inputs, shape.hidden)
    x = torch.randn(shape.steps, shape.batch, shape.inputs)
    lengths = shape.lengths(case.lengths)[0] if case.lengths == "ragged" else None
    layers = (ours, same_weights(ours, case, backend="reference"))
    found, expected = (_everything(layer, x, lengths, case.mode == "train") for layer in layers)
    return difference(found, expected)


def verify_contenders(contenders: Sequence[Contender]) -> tuple[str, dict[str, float]]:
    """Compare each contender with the one before it that must compute the same, at the full size of a case.

    Parameters
    ----------
    contenders : sequence of Contender
        Ours first.

    Returns
    -------
    str
        What differs; empty if nothing does.
    dict of str to float
        By role, the seconds of this first run.
    """
    seconds: dict[str, float] = {}
    computed: dict[str, dict[str, Tensor]] = {}
    wanted = {contender.against for contender in contenders} | {"ours"}
    for contender in contenders:
        seconds[contender.role], results = timed(contender.results)
        if contender.role in wanted:
            computed[contender.role] = results
        if contender.against:
            text = difference(results, computed[contender.against])
            if text:
                return f"{contender.role} against {contender.against}: {text}", seconds
    return "", seconds


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Return in words where two sets of tensors differ; empty if they do not."""
    if found.keys() != expected.keys():
        return f"received {', '.join(found)}; expected {', '.join(expected)}"
    for name, right in expected.items():
        left = found[name]
        if left.shape != right.shape:
            return f"{name} is {tuple(left.shape)}; expected {tuple(right.shape)}"
        error = float((left - right).abs().max()) if right.numel() else 0.0
        largest = float(right.abs().max()) if right.numel() else 0.0
        if not error <= TOLERANCE * largest:  # written so that NaN is a difference
            return f"{name} is off by {error:.1e}; its largest value is {largest:.1e}"
    return ""


def _everything(layer: nn.Module, x: Tensor, lengths: Tensor | None, training: bool) -> dict[str, Tensor]:
    """Run a layer, return by name what it computes."""
    x = x.clone().requires_grad_(training)
    with torch.set_grad_enabled(training):
        outputs, state = layer(x) if lengths is None else layer(x, lengths=lengths)
    ends = [outputs, *_leaves(state)]
    names = ["outputs", *(f"final state {i}" for i in range(len(ends) - 1))]
    results = {name: end.detach() for name, end in zip(names, ends, strict=True)}
    if training:
        parameters = dict(layer.named_parameters())
        generator = torch.Generator().manual_seed(2)
        weights = [torch.randn(end.shape, generator=generator) for end in ends]
        grads = torch.autograd.grad(ends, [x, *parameters.values()], weights)
        results |= {f"gradient of {n}": g for n, g in zip(["inputs", *parameters], grads, strict=True)}
    return results


def _leaves(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in _leaves(part)]
