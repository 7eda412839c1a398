"""Running the recurrent modules of a PyTorch model on the engine, by swapping their classes.

An accelerated module keeps its attributes, parameters and hooks; its class is a subclass of its old one with another
`forward`.
"""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from unspool._reason import Reason
from unspool.backends import check_backend
from unspool.cells import Cell, check_probability
from unspool.layers._accelerated import Accelerated, AcceleratedGRU, AcceleratedLSTM, AcceleratedRNN
from unspool.layers._base import RecurrentLayer

_Model = TypeVar("_Model", bound=nn.Module)

_CLASSES: dict[type, type] = {cls.torch_class: cls for cls in (AcceleratedRNN, AcceleratedLSTM, AcceleratedGRU)}
"""By class, that of the accelerated module."""


def accelerate(
    model: _Model,
    *,
    copy: bool = False,
    recurrent_dropout: float | None = None,
    input_dropout: float | None = None,
    backend: str | None = None,
) -> _Model:
    """Let the `torch.nn.RNN`, `LSTM` and `GRU` of a model run on unspool's engine.

    Each such module gets a class that is a subclass of its own and has another `forward`, which takes `lengths`, `mask`
    and `resets` too. Parameters, state dict, attributes and hooks stay what they are, also for optimizers that hold
    them. Outputs and gradients are the same.

    Parameters
    ----------
    model : Module
        A model, or a recurrent module itself.
    copy : bool
        Accelerate a deep copy, and leave the model as it is.
    recurrent_dropout, input_dropout : float, optional
        Give the modules dropout inside of their layers, with one mask per sequence (Gal and Ghahramani, 2016): see
        `unspool.LSTM`. As they are by default.
    backend : str, optional
        `"auto"`, which is the default: whoever is fastest, PyTorch's own kernel among them, which is for batches
        without lengths of few steps. Or the name of a backend: see `unspool.info`.

    Returns
    -------
    Module
        The model, or its copy.

    Raises
    ------
    TypeError
        If the model is no module.
    ValueError
        If a probability is out of range, or there is no backend of that name.

    Warns
    -----
    UserWarning
        If something in the model stays as slow as it was: cells that a loop of the model's own calls step by step,
        subclasses with a `forward` of their own, scripted modules; or if there is nothing to accelerate.

    Examples
    --------
    >>> model = accelerate(nn.ModuleDict({"rnn": nn.LSTM(3, 5, batch_first=True)}))
    >>> output, (h_n, c_n) = model["rnn"](torch.randn(2, 4, 3), lengths=[4, 0])
    >>> isinstance(model["rnn"], nn.LSTM), output.shape
    (True, torch.Size([2, 4, 5]))
    """
    given = {"recurrent_dropout": recurrent_dropout, "input_dropout": input_dropout}
    options: dict[str, Any] = {name: check_probability(p, name) for name, p in given.items() if p is not None}
    if backend is not None:
        check_backend(backend)
        options["backend"] = backend
    model = _checked(model, copy)
    classes: dict[nn.Module, type] = {}
    left = []
    for name, module in _outside_of_layers(model):
        reason = reason_against(module)
        if reason:
            left.append(f"{name or 'the model'} ({type(module).__name__}) {reason}")
        elif isinstance(module, nn.RNNBase):
            classes[module] = _swapped(type(module), module, _faster)
    for module, cls in classes.items():  # now that none of them has failed
        module.__class__ = cls
        if options:
            vars(module)["_unspool_options"] = {**vars(module).get("_unspool_options", {}), **options}
    if left:
        warnings.warn("accelerate leaves as they are: " + "; ".join(left), stacklevel=2)
    elif not classes:
        warnings.warn(
            f"accelerate found no torch.nn.RNN, LSTM or GRU in {type(model).__name__}; it stays as it is.", stacklevel=2
        )
    return model


def decelerate(model: _Model, *, copy: bool = False) -> _Model:
    """Undo `accelerate`: the modules of a model are `torch.nn`'s again.

    Parameters
    ----------
    model : Module
        A model, or a recurrent module itself.
    copy : bool
        Change a deep copy, and leave the model as it is.

    Returns
    -------
    Module
        The model, or its copy. What is not accelerated stays as it is; what options `accelerate` gave goes.

    Raises
    ------
    TypeError
        If the model is no module.
    """
    model = _checked(model, copy)
    for module in model.modules():
        if isinstance(module, Accelerated):
            module.__class__ = _swapped(type(module), module, _slower)
            vars(module).pop("_unspool_options", None)
    return model


def _checked(model: Any, copy: bool) -> Any:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; expected a torch.nn.Module, such as a model or an nn.LSTM.")
    return copying.deepcopy(model) if copy else model


def _outside_of_layers(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a model with their names, but nothing inside of layers and cells of this library."""
    ours = (layer for layer in model.modules() if isinstance(layer, RecurrentLayer | Cell))
    inside = {id(part) for layer in ours for part in layer.modules()}
    for path, module in model.named_modules(prefix=name):
        if id(module) not in inside:
            yield path, module


def is_scripted(module: nn.Module) -> bool:
    """Tell whether a module is a scripted RNN, LSTM or GRU of `torch.nn`.

    Parameters
    ----------
    module : Module
    """
    return isinstance(module, torch.jit.ScriptModule) and module.original_name in ("RNN", "LSTM", "GRU")


def reason_against(module: nn.Module) -> Reason | None:
    """Return why a recurrent module stays as it is; None for one that can be accelerated, and for any other module.

    Parameters
    ----------
    module : Module
    """
    if isinstance(module, nn.RNNCellBase):
        return Reason(
            "is one step; where a loop of the model's own calls it, run unspool.RNN(cell) in place of the loop"
        )
    if is_scripted(module):
        return Reason("is scripted: accelerate the model in place of scripting it")
    if not isinstance(module, nn.RNNBase):
        return None
    kind = next((cls for cls in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(module, cls)), None)
    torchs = kind is not None and (isinstance(module, Accelerated) or type(module).forward is kind.forward)
    if not torchs or "forward" in vars(module):
        return Reason(
            "has a forward of its own, which may compute something else",
            f"let {type(module).__name__} hold a layer of torch.nn in place of being one, and accelerate that",
        )
    return None


def _swapped(cls: type, module: nn.Module, change: Callable[[type], type]) -> type:
    """Return the class that a module shall have in place of its own."""
    names: Any = getattr(module, "parametrizations", ())
    if not any(isinstance(vars(cls).get(name), property) for name in names):
        return change(cls)
    # PyTorch has made this class for the module, with a property for each parametrised tensor.
    (base,) = cls.__bases__
    own = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, (change(base),), own)


def _faster(cls: Any) -> type:
    if issubclass(cls, Accelerated):
        return cls
    if cls in _CLASSES:
        return _CLASSES[cls]
    if "_unspool_accelerated" not in vars(cls):  # a subclass of the user's, which keeps its own
        (kind,) = (_CLASSES[kind] for kind in (nn.RNN, nn.LSTM, nn.GRU) if issubclass(cls, kind))
        members = {"torch_class": cls, "__reduce_ex__": _reduce, "__doc__": cls.__doc__, "__module__": cls.__module__}
        type.__setattr__(cls, "_unspool_accelerated", type(f"Accelerated{cls.__name__}", (kind, cls), members))
    return vars(cls)["_unspool_accelerated"]


def _slower(cls: Any) -> type:
    return cls.torch_class


def _reduce(module: Any, protocol: Any) -> tuple[Any, ...]:
    """Pickle a module whose accelerated class no name leads to."""
    del protocol
    return _revive, (module.torch_class,), module.__getstate__()


def _revive(cls: type) -> nn.Module:
    faster: Any = _faster(cls)
    return faster.__new__(faster)
