"""When an accelerated module leaves a batch to PyTorch's own kernel: where that is the only one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import autocast_dtype, is_compiling, is_exporting, is_observed, is_tracing
from unspool._reason import Reason
from unspool.backends import TORCH, Decision, is_recording, note
from unspool.execution import Steps

if TYPE_CHECKING:
    from unspool.layers._accelerated import Accelerated, Options


def is_left_to_torch(module: Accelerated, options: Options, input: Any, about: Steps) -> bool:
    """Tell whether PyTorch's own kernel shall run a batch, and note that decision.

    Parameters
    ----------
    module : RNN, LSTM or GRU
    options : Options
        Of the module.
    input : Tensor of shape (T, B, I), (B, T, I) or (T, I), or PackedSequence
        Of anything else the engine says what is wrong with it.
    about : Steps
        With which PyTorch can do nothing.
    """
    if (
        options.backend != "auto"
        or about.given
        or (module.training and (options.recurrent_dropout or options.input_dropout))
        or is_compiling()
        or is_exporting()
        or is_observed()
    ):
        return False
    reason = _reason_for_torch(input)
    if reason is None:
        return False
    if is_recording():
        values = input.data if isinstance(input, PackedSequence) else input
        what = f"{module.torch_class.__name__} over {type(input).__name__} {list(values.shape)}"
        note(Decision(what, TORCH, {"cudnn" if values.is_cuda else "native": [Reason(reason)]}))
    return True


def _reason_for_torch(input: object) -> str | None:
    """Return why PyTorch's own kernel shall run a batch without lengths, mask or resets; None if it shall not."""
    values = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(values, Tensor) or values.dim() not in (2, 3):
        return None
    if is_tracing():
        return "torch.jit.trace is recording, which sees no operation of the engine"
    if values.is_cuda:
        return "on a CUDA device PyTorch runs all layers and directions at once"
    if values.is_meta:
        return "the input is on the device meta, where nothing is computed"
    if not values.is_cpu:
        return None
    if autocast_dtype("cpu") is not None:
        return "torch.autocast is on, under which the engine does not run"
    if values.dtype in (torch.bfloat16, torch.float16):
        return f"the input is {values.dtype}; the engine has float32 and float64"
    return None


def as_torch_can_take(module: nn.RNNBase, input: Any, hx: Any) -> tuple[Any, Any]:
    """Return the input and the state of a batch that is left to PyTorch, as its kernel for this processor takes them.

    Under `torch.autocast` PyTorch chooses oneDNN's LSTM by the dtype of the input, and casts the input after that. On a
    processor for which oneDNN has no such LSTM (bfloat16 needs AVX-512, say), the call then ends in "could not create a
    primitive descriptor". An input that is cast beforehand is given to PyTorch's other kernel.

    Parameters
    ----------
    module : RNN, LSTM or GRU
    input : Tensor of shape (T, B, I), (B, T, I) or (T, I), or PackedSequence
    hx : Tensor of shape (L D, B, H), or pair of them for an LSTM, or None
    """
    packed, dtype = isinstance(input, PackedSequence), autocast_dtype("cpu")
    values = input.data if packed else input
    if dtype is None or not (
        module.mode == "LSTM"
        and values.is_cpu
        and values.dtype == torch.float32
        and values.numel()
        and not (packed and (input.batch_sizes != input.batch_sizes[0]).any())  # for which PyTorch asks no oneDNN
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not module.proj_size
    ):
        return input, hx
    if _onednn_has_lstm_of(dtype):
        return input, hx
    return input.to(dtype), None if hx is None else tuple(leaf.to(dtype) for leaf in hx)


def _onednn_has_lstm_of(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN has an LSTM of a dtype on this processor: what PyTorch asks of inputs that are of it."""
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported() and not torch.is_grad_enabled()
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
