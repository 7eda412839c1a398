"""Running the recurrent modules of a PyTorch model on the engine, by swapping their classes.

An accelerated module keeps its attributes, parameters and hooks; its class is a subclass of its old one with another
`forward`. What computes is a *stand-in*: a layer of this library with the module's arguments and no parameters, which
is lent the module's tensors at every call. Stand-ins are shared by all modules of the same arguments, so nothing has to
be copied, pickled or kept in step with a module.
"""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import Nest
from unspool._ragged import RaggedBatch
from unspool.cells import check_probability
from unspool.execution import BoolArray, IntArray
from unspool.layers._base import RecurrentLayer, trace_layer
from unspool.layers._gru import GRU
from unspool.layers._lstm import LSTM
from unspool.layers._simple_rnn import SimpleRNN
from unspool.layers._torch_like import TorchLikeLayer

_Model = TypeVar("_Model", bound=nn.Module)


class Accelerated(nn.RNNBase):
    """What the accelerated modules share.

    Attributes
    ----------
    recurrent_dropout, input_dropout : float
        See `unspool.LSTM`; 0 unless `accelerate` was told otherwise.
    """

    recurrent_dropout: float = 0.0
    input_dropout: float = 0.0
    torch_class: type[nn.RNNBase]

    def forward(  # type: ignore[override]
        self,
        input: Tensor | PackedSequence | RaggedBatch,
        hx: Nest | None = None,
        *,
        lengths: IntArray | None = None,
        mask: BoolArray | None = None,
        resets: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Run the module over a batch of sequences, as its class in `torch.nn` does.

        Parameters
        ----------
        input : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`, or (T, I); PackedSequence; or RaggedBatch
        hx : Tensor of shape (L D, B, H), or pair of them for an LSTM, optional
            Initial state; zeros by default.
        lengths : integers of shape (B,), optional
            Real steps of each row: any order, any device, 0 allowed.
        mask, resets : booleans of shape (B, T), optional
            See `unspool.dynamic_rnn`.

        Returns
        -------
        output : Tensor of shape (T, B, D H), or (B, T, D H) with `batch_first`; PackedSequence; or RaggedBatch
            In the form of the input.
        state : Tensor of shape (L D, B, H), or pair of them for an LSTM
            After each row's last real step.

        Raises
        ------
        ValueError, RuntimeError
            As `torch.nn` raises them for an input or a state that does not fit.
        TypeError, ValueError, BackendError
            For lengths, a mask or resets that do not fit: see `unspool.dynamic_rnn`.
        """
        self._check(input, hx)
        tensors = {name: tensor for name in self._flat_weights_names if (tensor := getattr(self, name)) is not None}
        if torch.compiler.is_compiling():
            output, state = trace_layer(
                self,
                tensors,
                _run_stand_in,
                (input, hx, lengths, mask, resets),
                batch_first=self.batch_first,
                without_batch=isinstance(input, Tensor) and input.dim() == 2,
                settings=(self.training, self.dropout, self.recurrent_dropout, self.input_dropout),
            )
        else:
            output, state = _stand_in(self).run_with(tensors, input, hx, lengths, mask, resets)
        return output, tuple(state) if isinstance(state, tuple) else state

    def _check(self, input: Any, hx: Any) -> None:
        """Refuse what `torch.nn` refuses, in its words."""
        if isinstance(input, RaggedBatch):
            return
        self._update_flat_weights()
        if isinstance(input, PackedSequence):
            values, sizes = input.data, input.batch_sizes
        else:
            values, sizes = input, None
            if values.dim() not in (2, 3):
                raise ValueError(
                    f"{self.torch_class.__name__}: Expected input to be 2D or 3D, got {values.dim()}D instead"
                )
            if values.dim() == 2:
                values = values.unsqueeze(0 if self.batch_first else 1)
                hx = None if hx is None else _with_batch(hx)
        if hx is None:
            self.check_input(values, sizes)
        else:
            self.check_forward_args(values, hx, sizes)


def _with_batch(hx: Any) -> Any:
    """Add a batch axis to the state of a single sequence."""
    leaves = hx if isinstance(hx, tuple) else (hx,)
    for leaf in leaves:
        if leaf.dim() != 2:
            raise RuntimeError(f"For unbatched 2-D input, hx should also be 2-D but got {leaf.dim()}-D tensor")
    return tuple(leaf.unsqueeze(1) for leaf in leaves) if isinstance(hx, tuple) else hx.unsqueeze(1)


class AcceleratedRNN(Accelerated, nn.RNN):
    """A `torch.nn.RNN` that runs as `unspool.SimpleRNN` does; `accelerate` makes it."""

    torch_class = nn.RNN


class AcceleratedLSTM(Accelerated, nn.LSTM):
    """A `torch.nn.LSTM` that runs as `unspool.LSTM` does; `accelerate` makes it."""

    torch_class = nn.LSTM


class AcceleratedGRU(Accelerated, nn.GRU):
    """A `torch.nn.GRU` that runs as `unspool.GRU` does; `accelerate` makes it."""

    torch_class = nn.GRU


_CLASSES: dict[type, type] = {cls.torch_class: cls for cls in (AcceleratedRNN, AcceleratedLSTM, AcceleratedGRU)}
"""By class, that of the accelerated module; users' subclasses are added when they are met."""

_STAND_INS: dict[tuple[Any, ...], TorchLikeLayer] = {}
"""By a module's arguments."""


def _stand_in(module: Accelerated) -> TorchLikeLayer:
    """Return the layer that computes for a module: its arguments as they are now, without parameters."""
    sizes = (module.input_size, module.hidden_size, module.num_layers)
    between = module.dropout if module.num_layers > 1 else 0.0
    layout = (module.bias, module.batch_first, between, module.bidirectional)
    inside = {"input_dropout": module.input_dropout, "recurrent_dropout": module.recurrent_dropout}
    key = (*sizes, *layout, *inside.values(), module.mode, module.proj_size, module.training)
    found = _STAND_INS.get(key)
    if found is None:
        options: dict[str, Any] = {**inside, "device": "meta"}
        if isinstance(module, nn.LSTM):
            found = LSTM(*sizes, *layout, module.proj_size, **options)
        elif isinstance(module, nn.GRU):
            found = GRU(*sizes, *layout, **options)
        else:
            found = SimpleRNN(*sizes, module.mode.removeprefix("RNN_").lower(), *layout, **options)
        found._parameters.clear()
        _STAND_INS[key] = found.train(module.training)
    return found


def _run_stand_in(module: Accelerated, tensors: dict[str, Tensor], *arguments: Any, settings: Any) -> tuple[Any, Any]:
    """Run an accelerated module as the operator of a traced graph does."""
    del settings
    return _stand_in(module).run_with(tensors, *arguments)


def accelerate(
    model: _Model,
    *,
    copy: bool = False,
    recurrent_dropout: float | None = None,
    input_dropout: float | None = None,
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

    Returns
    -------
    Module
        The model, or its copy.

    Raises
    ------
    TypeError
        If the model is no module.
    ValueError
        If a probability is out of range.

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
    options = {name: check_probability(value, name) for name, value in given.items() if value is not None}
    model = _checked(model, copy)
    done, left = 0, []
    for name, module in _outside_of_layers(model):
        reason = _reason_against(module)
        if reason:
            left.append(f"{name or 'the model'} ({type(module).__name__}) {reason}")
        elif isinstance(module, nn.RNNBase):
            module.__class__ = _swapped(type(module), module, _faster)
            vars(module).update(options)
            done += 1
    if left:
        warnings.warn("accelerate leaves as they are: " + "; ".join(left), stacklevel=2)
    elif not done:
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
        The model, or its copy. What is not accelerated stays as it is; dropout that `accelerate` gave goes.

    Raises
    ------
    TypeError
        If the model is no module.
    """
    model = _checked(model, copy)
    for module in model.modules():
        if isinstance(module, Accelerated):
            module.__class__ = _swapped(type(module), module, _slower)
            for name in ("recurrent_dropout", "input_dropout"):
                vars(module).pop(name, None)
    return model


def _checked(model: Any, copy: bool) -> Any:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; expected a torch.nn.Module, such as a model or an nn.LSTM.")
    return copying.deepcopy(model) if copy else model


def _outside_of_layers(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a model with their names, but nothing that a layer of this library runs over time."""
    inside = {id(part) for layer in model.modules() if isinstance(layer, RecurrentLayer) for part in layer.modules()}
    for path, module in model.named_modules(prefix=name):
        if id(module) not in inside:
            yield path, module


def _reason_against(module: nn.Module) -> str | None:
    """Return why a recurrent module stays as it is; None for one that can be accelerated, and for any other module."""
    if isinstance(module, nn.RNNCellBase):
        return "is one step, called by a loop of the model's own: run unspool.RNN(cell) in place of the loop"
    if isinstance(module, torch.jit.ScriptModule) and module.original_name in ("RNN", "LSTM", "GRU"):
        return "is scripted: accelerate the model in place of scripting it"
    if not isinstance(module, nn.RNNBase):
        return None
    kind = next((cls for cls in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(module, cls)), None)
    if kind is None or not (isinstance(module, Accelerated) or type(module).forward is kind.forward):
        return "has a forward of its own, which may compute something else"
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


def _faster(cls: type) -> type:
    if issubclass(cls, Accelerated):
        return cls
    if cls not in _CLASSES:
        (kind,) = (_CLASSES[kind] for kind in (nn.RNN, nn.LSTM, nn.GRU) if issubclass(cls, kind))
        members = {"torch_class": cls, "__reduce_ex__": _reduce, "__doc__": cls.__doc__, "__module__": cls.__module__}
        _CLASSES[cls] = type(f"Accelerated{cls.__name__}", (kind, cls), members)
    return _CLASSES[cls]


def _slower(cls: Any) -> type:
    return cls.torch_class


def _reduce(module: Any, protocol: Any) -> tuple[Any, ...]:
    """Pickle a module whose accelerated class no name leads to."""
    del protocol
    return _revive, (module.torch_class,), module.__getstate__()


def _revive(cls: type) -> nn.Module:
    faster: Any = _faster(cls)
    return faster.__new__(faster)
