"""What the doctor asks about a layer of `torch.nn`: what runs it, and what would run it if it were accelerated."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._reason import Reason
from unspool.backends import Decision, recording
from unspool.doctor._diagnosis import Timing
from unspool.doctor._padding import time_major, trailing_padding
from unspool.layers import accelerate, decelerate, reason_against

REPETITIONS = 5


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | PackedSequence:
    """Return what a layer of `torch.nn` was called with.

    Parameters
    ----------
    args, kwargs
        Of its forward.
    """
    return args[0] if args else kwargs["input"]


def kernel_of(layer: nn.RNNBase, x: Tensor | PackedSequence) -> str:
    """Return which of PyTorch's kernels runs a layer on an input, in words.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of `torch.nn`
    x : Tensor or PackedSequence
    """
    packed = isinstance(x, PackedSequence)
    values = x.data if packed else x
    form = "on a PackedSequence" if packed else "on padded input"
    if values.is_cuda:
        name = "cuDNN" if torch.backends.cudnn.is_acceptable(values) else "ATen"
    else:
        # As ATen's RNN.cpp has it: of the three only the LSTM has a oneDNN kernel.
        onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        float_lstm = isinstance(layer, nn.LSTM) and values.dtype == torch.float32 and not layer.proj_size
        name = "oneDNN" if onednn and float_lstm and not packed else "ATen"
    return f"PyTorch's own kernel ({name}), {form}"


@dataclass
class Examined:
    """What was found out about a layer of `torch.nn`.

    Attributes
    ----------
    args, kwargs
        What it was called with first.
    kernel : str
        What runs it, in words.
    refusal : Reason or None
        Why it cannot be accelerated.
    would_run : list of Decision
        What decides who runs it if it is changed; empty where it cannot be.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kernel: str
    refusal: Reason | None
    would_run: list[Decision]


def examine(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Examined:
    """Find out who runs a layer, and who would if it were changed, by running it once more.

    Changed means accelerated, with the lengths that its input seems to have.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of `torch.nn`
        It is itself again afterwards.
    args, kwargs
        Of its forward.
    """
    refusal = reason_against(layer)
    if refusal is not None:
        return Examined(args, kwargs, "PyTorch", refusal, [])
    x = input_of(args, kwargs)
    with _accelerated(layer), recording() as decisions:
        layer.forward(*args, **kwargs, **_lengths_of(layer, x))  # no hooks of the user's: they have been called
    return Examined(args, kwargs, kernel_of(layer, x), None, decisions)


@contextmanager
def _accelerated(layer: nn.RNNBase) -> Iterator[None]:
    """Accelerate a layer inside of the `with` block."""
    accelerate(layer)
    try:
        yield
    finally:
        decelerate(layer)


def _lengths_of(layer: nn.RNNBase, x: Tensor | PackedSequence) -> dict[str, Tensor]:
    """Return the argument `lengths` that an input seems to lack; nothing where no padding is to be seen."""
    if not isinstance(x, Tensor) or x.dim() != 3:
        return {}
    steps = time_major(x, layer.batch_first)
    padding = trailing_padding(steps)
    return {"lengths": len(steps) - padding} if bool(padding.any()) else {}


def time_layer(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timing:
    """Time a layer as it is, and accelerated with the lengths that its input seems to have.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of `torch.nn`
        One that can be accelerated. In training mode backward is timed too.
    args, kwargs
        Of its forward.
    """
    changed = kwargs | _lengths_of(layer, input_of(args, kwargs))
    before, after = [], []
    for _ in range(1 + REPETITIONS):  # by turns, so that what else the machine does meets both
        before.append(_seconds(layer, args, kwargs))
        with _accelerated(layer):
            after.append(_seconds(layer, args, changed))
    return Timing(statistics.median(before[1:]), statistics.median(after[1:]), layer.training)


def _seconds(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    start = time.perf_counter()
    _once(layer, args, kwargs)
    return time.perf_counter() - start


def _once(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wanted = [p for p in layer.parameters() if p.requires_grad]
    with torch.set_grad_enabled(layer.training and bool(wanted)):
        output, _ = layer.forward(*args, **kwargs)
        values = output.data if isinstance(output, PackedSequence) else output
        if values.requires_grad:
            torch.autograd.grad(values.sum(), wanted)
    if values.is_cuda:
        torch.cuda.synchronize()
