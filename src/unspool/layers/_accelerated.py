"""`torch.nn`'s recurrent modules with a forward of ours: the classes that `accelerate` gives to modules.

What computes is a *delegate*: a layer of this library with the module's arguments and no parameters, which is lent the
module's tensors at every call. Delegates are shared by all modules of the same arguments, so nothing has to be copied,
pickled or kept in step with a module.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import is_compiling, is_exporting, unobserved
from unspool._nest import Nest
from unspool._ragged import RaggedBatch
from unspool.compiled import Layout, in_graphs, undisturbed
from unspool.execution import BoolArray, IntArray, Steps, again
from unspool.layers._base import RecurrentLayer, layer_layout
from unspool.layers._gru import GRU
from unspool.layers._left_to_torch import as_torch_can_take, is_left_to_torch
from unspool.layers._lstm import LSTM
from unspool.layers._simple_rnn import SimpleRNN
from unspool.layers._torch_like import TorchLikeLayer


class Options(NamedTuple):
    """What `accelerate` may be told about a module: see there."""

    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    backend: str = "auto"


def options_of(module: nn.RNNBase) -> Options:
    """Return what `accelerate` was told about a module; the defaults for one that it has not changed."""
    return Options(**(vars(module).get("_unspool_options") or {}))


class Accelerated(nn.RNNBase):
    """What the accelerated modules share.

    Attributes
    ----------
    torch_class : type
        The class before.
    """

    torch_class: type[nn.RNNBase]
    # Under a name that no subclass of the user's has.
    _unspool_options: dict[str, Any] | None = None

    @property
    def unspool_options(self) -> Options:
        """What `accelerate` was told."""
        return options_of(self)

    def forward(  # type: ignore[override]
        self,
        input: Tensor | PackedSequence | RaggedBatch,
        hx: Nest | None = None,
        *,
        lengths: IntArray | None = None,
        mask: BoolArray | None = None,
        resets: BoolArray | None = None,
        reset_states: Nest | None = None,
    ) -> tuple[Any, Any]:
        """Run the module over a batch of sequences, as its class in `torch.nn` does.

        Parameters
        ----------
        input : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`, or (T, I); PackedSequence; or RaggedBatch
        hx : Tensor of shape (L D, B, H), or pair of them for an LSTM, optional
            Initial state; zeros by default.
        lengths : integers of shape (B,), optional
            Valid steps of each sequence: any order, any device, 0 allowed.
        mask, resets : booleans of shape (T, B), or (B, T) with `batch_first`, optional
            In the layout of the input: see `unspool.dynamic_rnn`.
        reset_states : Tensor of shape (T, B, L D, H), or (B, T, L D, H) with `batch_first`, or pair of them, optional
            The states to which resets return: see `unspool.LSTM`.

        Returns
        -------
        output : Tensor of shape (T, B, D H), or (B, T, D H) with `batch_first`; PackedSequence; or RaggedBatch
            In the form of the input.
        state : Tensor of shape (L D, B, H), or pair of them for an LSTM
            After each sequence's last valid step.

        Raises
        ------
        ValueError, RuntimeError
            As `torch.nn` raises them for an input or a state that does not fit.
        TypeError, ValueError, BackendError
            For lengths, a mask or resets that do not fit: see `unspool.dynamic_rnn`.
        """
        hx = tuple(hx) if isinstance(hx, list) else hx  # which PyTorch takes too
        tensors: dict[str, Tensor] | None = None
        if type(input) is Tensor and lengths is mask is resets is reset_states is None and not is_compiling():
            delegate = known_delegate(self)
            last = None if delegate is None else again(delegate, delegate._options(delegate), input, hx)
            if last is not None:
                tensors = lent_tensors(self)
                found = delegate._rerun(last, tensors, input, hx)  # type: ignore[union-attr]
                if found is not None:
                    output, state = found
                    return output, tuple(state) if isinstance(state, tuple) else state
        options = self.unspool_options
        about = Steps(lengths, mask, resets, reset_states)
        if is_left_to_torch(self, options, input, about):
            return super().forward(*as_torch_can_take(self, input, hx))  # type: ignore[misc]
        # No attribute is read again: to read one may mean to compute it, and what is done at each reading in training,
        # such as a step of the power iteration of `spectral_norm`, would be done once more.
        tensors = lent_tensors(self) if tensors is None else tensors
        self._check(input, hx)
        # torch.compile breaks its graph at any torch.nn.LSTM, and would go on to compile what is called here.
        output, state = undisturbed(_run_delegate, self, tensors, input, hx, about, None)
        return output, tuple(state) if isinstance(state, tuple) else state

    __prepare_scriptable__ = RecurrentLayer.__prepare_scriptable__

    def _check(self, input: Any, hx: Any) -> None:
        """Refuse what `torch.nn` refuses, in its words."""
        if isinstance(input, RaggedBatch):
            return
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
        own = self._flat_weights[0].device  # type: ignore[union-attr]
        _check_device("parameter", own, values)
        for leaf in hx if isinstance(hx, tuple) else () if hx is None else (hx,):
            _check_device("hidden", leaf.device, values)


def _with_batch(hx: Any) -> Any:
    """Add a batch axis to the state of a single sequence."""
    leaves = hx if isinstance(hx, tuple) else (hx,)
    for leaf in leaves:
        if leaf.dim() != 2:
            raise RuntimeError(f"For unbatched 2-D input, hx should also be 2-D but got {leaf.dim()}-D tensor")
    return tuple(leaf.unsqueeze(1) for leaf in leaves) if isinstance(hx, tuple) else hx.unsqueeze(1)


def _check_device(name: str, device: torch.device, input: Tensor) -> None:
    """Refuse an input on another device, as PyTorch's kernels do."""
    if input.device != device:
        raise RuntimeError(
            f"Input and {name} tensors are not at the same device, found input tensor at {input.device} and {name} "
            f"tensor at {device}"
        )


class AcceleratedRNN(Accelerated, nn.RNN):
    """A `torch.nn.RNN` that runs as `unspool.SimpleRNN` does; `accelerate` makes it."""

    torch_class = nn.RNN
    __module__ = "unspool.layers"  # which pickles name


class AcceleratedLSTM(Accelerated, nn.LSTM):
    """A `torch.nn.LSTM` that runs as `unspool.LSTM` does; `accelerate` makes it."""

    torch_class = nn.LSTM
    __module__ = "unspool.layers"  # which pickles name


class AcceleratedGRU(Accelerated, nn.GRU):
    """A `torch.nn.GRU` that runs as `unspool.GRU` does; `accelerate` makes it."""

    torch_class = nn.GRU
    __module__ = "unspool.layers"  # which pickles name


def lent_tensors(module: nn.RNNBase) -> dict[str, Tensor]:
    """Return the module's tensors by name, read as PyTorch reads them."""
    names: list[str] = module._flat_weights_names
    if is_exporting():  # which warns of attributes that change
        return {name: getattr(module, name) for name in names}
    module._update_flat_weights()
    return dict(zip(names, module._flat_weights, strict=True))  # type: ignore[arg-type]


_ARGUMENTS = attrgetter(
    "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size",
    "training",
)  # fmt: skip


def _arguments(module: nn.RNNBase) -> tuple[Any, ...]:
    """Return what a delegate depends on; modules that were not accelerated have no options."""
    return *_ARGUMENTS(module), vars(module).get("_unspool_options")


_DELEGATES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], TorchLikeLayer]] = WeakKeyDictionary()
"""For each module the arguments that it had at its last call, and the layer that computes for it then."""


def known_delegate(module: nn.RNNBase) -> TorchLikeLayer | None:
    """Return the layer that has computed for a module whose arguments were what they are now."""
    last = _DELEGATES.get(module)
    return last[1] if last is not None and last[0] == _arguments(module) else None


def delegate_of(module: nn.RNNBase) -> TorchLikeLayer:
    """Return the layer that computes for a module: its arguments as they are now, without parameters."""
    found = known_delegate(module)
    if found is None:
        found = _find_delegate(module)
        _DELEGATES[module] = _arguments(module), found
    return found


def _find_delegate(module: nn.RNNBase) -> TorchLikeLayer:
    names = ("input_size", "hidden_size", "bias", "batch_first")
    arguments = {name: getattr(module, name) for name in names} | options_of(module)._asdict()
    # The types of these PyTorch does not check: 1 may stand for True, and NumPy's integers for Python's.
    arguments |= {"bidirectional": bool(module.bidirectional), "num_layers": int(module.num_layers)}
    if module.mode == "LSTM":
        arguments["proj_size"] = int(module.proj_size)
    found = _make_delegate(module.mode, module.training, **arguments)
    if module.dropout and module.num_layers > 1:  # it is no part of the cells, which may stay as it changes
        found = copy.copy(found)
        found.dropout = module.dropout
    return found


@lru_cache(maxsize=256)
def _make_delegate(mode: str, training: bool, **arguments: Any) -> TorchLikeLayer:
    kinds: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU}
    if mode not in kinds:
        arguments["nonlinearity"] = mode.removeprefix("RNN_").lower()
    # The modes of an exporter would see what is none of its business.
    with unobserved(), torch._C.DisableTorchFunction():  # type: ignore[attr-defined]
        layer: TorchLikeLayer = kinds.get(mode, SimpleRNN)(**arguments, device="meta", init=_left_alone)
    layer._parameters.clear()
    return layer.train(training)


def _left_alone(name: str, parameter: Tensor) -> None:
    """Fill a parameter that nobody will read; draws would be refused under `vmap`."""
    del name, parameter


def _layout(module: Accelerated, input: Any) -> Layout:
    without_batch = isinstance(input, Tensor) and input.dim() == 2
    settings = (module.training, module.dropout, module.unspool_options)
    return layer_layout({}, module.batch_first, without_batch, settings=settings)


@in_graphs(_layout)
def _run_delegate(
    module: Accelerated, tensors: dict[str, Tensor], input: Any, hx: Nest | None, about: Steps, constants: None
) -> tuple[Any, Any]:
    """Run an accelerated module with these tensors."""
    return delegate_of(module).run_with(tensors, input, hx, about, constants)
