"""Modules that act on each step by itself, so that a model may have them between its recurrent parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

_ALWAYS = (
    nn.Identity, nn.Linear, nn.Embedding, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink,
    nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Threshold,
)  # fmt: skip
_WITHOUT_DRAWS = (nn.Dropout, nn.AlphaDropout)
_OVER_AN_AXIS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU)
_NORMS = (nn.LayerNorm, nn.RMSNorm)


def _always(module: Any) -> str:
    del module
    return ""


def _draws(module: Any) -> str:
    if not (module.training and module.p):
        return ""
    return "is in training and draws at every call; call eval() on the model before it streams"


def _rrelu(module: Any) -> str:
    return "is in training and draws at every call; call eval() on the model before it streams" * module.training


def _axis(module: Any) -> str:
    return "" if module.dim == -1 else f"has dim={module.dim!r}; expected dim=-1, the features of one step"


def _norm(module: Any) -> str:
    shape = module.normalized_shape
    return "" if len(shape) == 1 else f"normalises {list(shape)}, several axes; expected the features of one step"


def _prelu(module: Any) -> str:
    if module.num_parameters == 1:
        return ""
    return "has a slope for each element of the second axis, which is no axis of features in a sequence"


_CONDITIONS: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys(_ALWAYS, _always),
    **dict.fromkeys(_WITHOUT_DRAWS, _draws),
    **dict.fromkeys(_OVER_AN_AXIS, _axis),
    **dict.fromkeys(_NORMS, _norm),
    nn.RReLU: _rrelu,
    nn.PReLU: _prelu,
}
"""For each class of PyTorch's, when not: a reason, or an empty one."""


def condition_of(module: nn.Module) -> Callable[[Any], str]:
    """Return what gives the reason why a module may not be part of a stream now, or "" where it may.

    Parameters
    ----------
    module : Module

    Returns
    -------
    callable

    Raises
    ------
    KeyError
        If the module is not known to act on each step by itself.
    """
    for known in type(module).__mro__:
        # A subclass, as a parametrised module has one, is known by the forward that it has inherited.
        if known in _CONDITIONS and type(module).forward is known.forward and "forward" not in vars(module):
            return _CONDITIONS[known]
    raise KeyError(type(module))
