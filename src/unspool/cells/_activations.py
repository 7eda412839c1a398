"""Names of activation functions, as Keras and PyTorch write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Activation: TypeAlias = Callable[[Tensor], Tensor]


def _linear(x: Tensor) -> Tensor:
    return x


def _hard_sigmoid(x: Tensor) -> Tensor:
    # PyTorch's own has a gradient of single precision in every dtype.
    return (x / 6.0 + 0.5).clamp(0.0, 1.0)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": F.hardtanh,
    "linear": _linear,
}
"""Activations by name. `hard_sigmoid` is clip(x / 6 + 1/2, 0, 1), as in PyTorch and Keras 3 (Keras 2 had x / 5)."""


def activation(spec: str | Activation, argument: str = "activation") -> Activation:
    """Return the activation function of a name.

    Parameters
    ----------
    spec : str or callable
        One of `ACTIVATIONS`, or a function, which is returned unchanged.
    argument : str
        The argument's name, for the error.

    Returns
    -------
    callable
        From a tensor to a tensor of the same shape.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if callable(spec):
        return spec
    if not isinstance(spec, str) or spec not in ACTIVATIONS:
        raise ValueError(
            f"{argument} is {spec!r}; expected one of {', '.join(ACTIVATIONS)}, or a function of a tensor."
        )
    return ACTIVATIONS[spec]


def activation_name(spec: str | Activation) -> str:
    """Return how to print an activation.

    Parameters
    ----------
    spec : str or callable
    """
    return spec if isinstance(spec, str) else getattr(spec, "__name__", type(spec).__name__)


def unusual_activations(cell: object) -> list[str]:
    """Return how to print the non-default activations of a gated cell."""
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    found = {name: getattr(cell, name) for name in usual}
    return [f"{name}={activation_name(value)}" for name, value in found.items() if value != usual[name]]
