"""Two layers, one in each direction of time, and their outputs merged (Keras's `Bidirectional`)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import Nest, describe
from unspool.execution import BoolArray, IntArray, Steps, map_values
from unspool.layers._base import RecurrentLayer

Merge = Callable[[Tensor, Tensor], Tensor]


def _elementwise(function: Merge) -> Merge:
    def merge(forward: Tensor, backward: Tensor) -> Tensor:
        if forward.shape != backward.shape:  # which PyTorch might broadcast
            raise ValueError(
                f"the outputs of layer and backward_layer have shapes {list(forward.shape)} and "
                f"{list(backward.shape)}; expected the same to merge them element by element. Build both layers "
                "with one size, or use merge_mode='concat', None or a function."
            )
        return function(forward, backward)

    return merge


MERGES: dict[str, Merge] = {
    "concat": lambda forward, backward: torch.cat([forward, backward], dim=-1),
    "sum": _elementwise(torch.add),
    "mul": _elementwise(torch.mul),
    "ave": _elementwise(lambda forward, backward: (forward + backward) / 2),
}
"""Ways of merging the outputs of the two directions, by Keras's names."""


class Bidirectional(nn.Module):
    """Runs a layer forward and another one backward in time.

    Parameters
    ----------
    layer : RecurrentLayer
        `RNN`, `SimpleRNN`, `LSTM` or `GRU`, in one direction. Decides the layout and what is returned.
    backward_layer : RecurrentLayer, optional
        The layer for the other direction, built with `reverse=True` (where `layer` is not), and with the same
        `batch_first` and `return_sequences`. By default a copy of `layer` with parameters of its own.
    merge_mode : {"concat", "sum", "mul", "ave"}, None or callable
        How to merge the two outputs; None returns them as a pair; a callable takes both.

    Returns
    -------
    output : Tensor of shape (T, B, F), or (B, T, F) with `batch_first`, or (B, F); or RaggedBatch; or a pair of them
        Merged outputs, in the order of the inputs.
    (state_fw, state_bw)
        Final states of the two layers, unless `layer` has `return_state=False`.

    Raises
    ------
    TypeError
        If a layer is not one of this library.
    ValueError
        If the merge mode is unknown, the two layers do not go together, or a copy of `layer` cannot be given
        parameters of its own because its cell has no `reset_parameters`.
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        backward_layer: RecurrentLayer | None = None,
        merge_mode: str | Merge | None = "concat",
    ) -> None:
        super().__init__()
        for name, value in {"layer": layer, "backward_layer": backward_layer}.items():
            if value is not None and not isinstance(value, RecurrentLayer):
                raise TypeError(
                    f"{name} is {type(value).__name__}; expected RNN, SimpleRNN, LSTM or GRU. Wrap a cell in RNN(cell)."
                )
        if not (merge_mode is None or callable(merge_mode) or (isinstance(merge_mode, str) and merge_mode in MERGES)):
            raise ValueError(f"merge_mode is {merge_mode!r}; expected one of {', '.join(MERGES)}, None or a function.")
        self.forward_layer = layer
        self.backward_layer = _mirrored(layer) if backward_layer is None else backward_layer
        self.merge_mode = merge_mode
        _check_pair(self.forward_layer, self.backward_layer)

    def forward(
        self,
        input: Nest,
        hx: tuple[Nest, Nest] | None = None,
        *,
        lengths: IntArray | None = None,
        mask: BoolArray | None = None,
        resets: BoolArray | None = None,
        reset_states: tuple[Nest, Nest] | None = None,
        constants: Nest | None = None,
    ) -> Any:
        """Run both layers over a batch of sequences.

        Parameters
        ----------
        input : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`; or RaggedBatch; or PackedSequence
        hx : pair of state, optional
            Initial states, forward and backward.
        reset_states : pair of states, optional
            Those to which resets return, forward and backward: see the layers.
        lengths, mask, resets, constants : optional
            See `unspool.dynamic_rnn`; mask and resets in the layout of the input. Both layers get the same constants.

        Returns
        -------
        output, (state_fw, state_bw)
            See the class.

        Raises
        ------
        TypeError, ValueError, BackendError
            See `unspool.dynamic_rnn`; also for outputs of different sizes that `merge_mode` cannot take.
        """
        hx_fw, hx_bw = _pair(hx, "hx")
        given_fw, given_bw = _pair(reset_states, "reset_states")
        hx_fw, hx_bw = self.forward_layer.resumed(input, hx_fw), self.backward_layer.resumed(input, hx_bw)
        about = Steps(lengths, mask, resets, given_fw)
        forward, state_fw = self.forward_layer.run_with(None, input, hx_fw, about, constants)
        about = about._replace(reset_states=given_bw)
        backward, state_bw = self.backward_layer.run_with(None, input, hx_bw, about, constants)
        if self.merge_mode is None:
            output = (forward, backward)
        else:
            merge = MERGES[self.merge_mode] if isinstance(self.merge_mode, str) else self.merge_mode
            output = _merge(merge, forward, backward)
        self.forward_layer.keep(input, state_fw)
        self.backward_layer.keep(input, state_bw)
        return (output, (state_fw, state_bw)) if self.forward_layer.return_state else output

    def reset_states(self, states: tuple[Nest, Nest] | None = None) -> None:
        """Forget the states that both layers have kept, or set them: see `RNN.reset_states`.

        Parameters
        ----------
        states : pair of state, optional
            Forward and backward.

        Raises
        ------
        ValueError, TypeError
            If a layer is not stateful, or the states are not a pair of those of the layers.
        """
        layers = (self.forward_layer, self.backward_layer)
        for layer, state in zip(layers, _pair(states, "states"), strict=True):
            layer.reset_states(state)

    def extra_repr(self) -> str:
        """Return the merge mode."""
        return f"merge_mode={self.merge_mode!r}"


def _pair(states: Any, name: str) -> tuple[Nest | None, Nest | None]:
    """Return states forward and backward, and refuse what is not a pair of them."""
    if states is None:
        return None, None
    if not (isinstance(states, tuple | list) and len(states) == 2):
        raise ValueError(f"{name} is {describe(states)}; expected a pair of states, forward and backward.")
    return states[0], states[1]


def _merge(merge: Merge, forward: Nest, backward: Nest) -> Nest:
    if isinstance(forward, PackedSequence) and isinstance(backward, PackedSequence):
        return forward._replace(data=merge(forward.data, backward.data))
    return map_values(merge, forward, backward)


def _mirrored(layer: RecurrentLayer) -> RecurrentLayer:
    """Return a copy that runs the other way, with parameters drawn anew."""
    mirrored = copy.deepcopy(layer)
    mirrored.reverse, mirrored._kept_state = not layer.reverse, None
    for module in mirrored.modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        reset = getattr(module, "reset_parameters", None)
        if not callable(reset):
            raise ValueError(
                f"Bidirectional cannot give a copy of {type(module).__name__} parameters of its own; expected a method "
                "reset_parameters(). Add it to the cell, or pass backward_layer."
            )
        reset()
    return mirrored


def _check_pair(forward: RecurrentLayer, backward: RecurrentLayer) -> None:
    for name, layer in {"layer": forward, "backward_layer": backward}.items():
        if getattr(layer, "bidirectional", False):
            raise ValueError(f"{name} is bidirectional itself; expected a layer in one direction.")
        if layer.go_backwards:
            raise ValueError(
                f"{name} has go_backwards=True, so its outputs are in another order than the inputs; "
                "expected reverse=True instead."
            )
    if forward.reverse == backward.reverse:
        raise ValueError(
            f"layer and backward_layer both have reverse={forward.reverse}; expected one of each. "
            "Build backward_layer with reverse=True."
        )
    for name in ("batch_first", "return_sequences"):
        if getattr(forward, name) != getattr(backward, name):
            raise ValueError(
                f"layer has {name}={getattr(forward, name)} and backward_layer {getattr(backward, name)}; "
                "expected the same for both."
            )
