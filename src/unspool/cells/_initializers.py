"""Initialise the parameters of the built-in cells: like PyTorch, like Keras, or with a user's function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

Initializer: TypeAlias = str | Callable[[str, nn.Parameter], None]
"""`"torch"`, `"keras"`, or a function that fills a parameter in place, given its name and itself."""


def initialize(cell: nn.Module, init: Initializer, hidden_size: int, forget_gate: slice | None = None) -> None:
    """Fill the parameters of a built-in cell.

    Parameters
    ----------
    cell : Module
        With parameters named as in `torch.nn` (`weight_ih`, `weight_hh`, `bias_ih`, ...).
    init : {"torch", "keras"} or callable
        `"torch"`: everything uniform in +-1/sqrt(H) (the default of `torch.nn.LSTM`).
        `"keras"`: Glorot uniform input kernel (Glorot and Bengio, 2010), orthogonal recurrent kernel (Saxe et al.,
        2014), zero biases and peepholes, and 1 for the forget gate's bias (Jozefowicz et al., 2015).
        A callable is called as `init(name, parameter)` for each parameter, without gradient recording.
    hidden_size : int
        Number of units H.
    forget_gate : slice, optional
        The forget gate's rows of `bias_ih`.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if not callable(init) and init not in ("torch", "keras"):
        raise ValueError(f"init is {init!r}; expected 'torch', 'keras' or a function init(name, parameter).")
    with torch.no_grad():
        for name, parameter in cell.named_parameters(recurse=False):
            if callable(init):
                init(name, parameter)
            elif init == "torch":
                bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0
                parameter.uniform_(-bound, bound)
            else:
                _keras(name, parameter, forget_gate)


def _keras(name: str, parameter: nn.Parameter, forget_gate: slice | None) -> None:
    if name == "weight_hh":
        # Orthogonal over the whole [H, G H] kernel, as Keras has it, not gate by gate. QR wants full precision.
        parameter.copy_(nn.init.orthogonal_(torch.empty(parameter.shape, device=parameter.device)))
    elif name.startswith("weight"):
        nn.init.xavier_uniform_(parameter)
    else:
        parameter.zero_()
        if name == "bias_ih" and forget_gate is not None:
            parameter[forget_gate] = 1.0
