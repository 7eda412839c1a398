"""What the doctor asks about a layer of `torch.nn`: what runs it, and what would run it if it were accelerated."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool.backends import Decision, recording
from unspool.doctor._diagnosis import Timing
from unspool.layers import AcceleratedGRU, AcceleratedLSTM, AcceleratedRNN, accelerate, decelerate

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


@contextmanager
def _accelerated(layer: nn.RNNBase) -> Iterator[str]:
    """Accelerate a layer inside of the `with` block; yield why it cannot be, empty where it can."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        accelerate(layer)
    try:
        done = isinstance(layer, AcceleratedRNN | AcceleratedLSTM | AcceleratedGRU)
        yield "" if done else str(caught[-1].message)
    finally:
        decelerate(layer)


def would_run(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Decision] | str:
    """Run a layer as if it were accelerated.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of `torch.nn`
        It is itself again afterwards.
    args, kwargs
        Of its forward.

    Returns
    -------
    list of Decision, or str
        What decided who runs it; or why it cannot be accelerated.
    """
    with _accelerated(layer) as reason:
        if reason:
            return reason
        with recording() as decisions:
            layer(*args, **kwargs)
        return decisions


def timing_of(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timing | None:
    """Time a layer as it is and accelerated: forward, and in training mode backward too.

    Parameters
    ----------
    layer : RNN, LSTM or GRU of `torch.nn`
    args, kwargs
        Of its forward.

    Returns
    -------
    Timing or None
        None for a layer that cannot be accelerated.
    """
    before = _median(layer, args, kwargs)
    with _accelerated(layer) as reason:
        return None if reason else Timing(before, _median(layer, args, kwargs), layer.training)


def _median(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    times = []
    for _ in range(1 + REPETITIONS):
        start = time.perf_counter()
        _once(layer, args, kwargs)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _once(layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wanted = [p for p in layer.parameters() if p.requires_grad]
    with torch.set_grad_enabled(layer.training and bool(wanted)):
        output, _ = layer(*args, **kwargs)
        values = output.data if isinstance(output, PackedSequence) else output
        if values.requires_grad:
            torch.autograd.grad(values.sum(), wanted)
    if values.is_cuda:
        torch.cuda.synchronize()
