"""When an accelerated module leaves a batch to PyTorch's own kernel: where that is the faster one, or the only one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

_ALL = 1 << 62
_FEW_STEPS = {
    "LSTM": (_ALL, 48),
    "LSTM without oneDNN": (2, 2),
    "GRU": (5, 3),
    "RNN_TANH": (7, 5),
    "RNN_RELU": (7, 5),
}
"""The steps up to which PyTorch's own kernel is faster for a float32 batch without lengths: without gradients, and with
them. Measured by `python -m benchmarks.few_steps`; oneDNN's LSTM is the one that stays ahead."""


def reason_for_torch(module: nn.RNNBase, input: object) -> str | None:
    """Return why PyTorch's own kernel shall run a batch without lengths, mask or resets; None if it shall not.

    Parameters
    ----------
    module : RNN, LSTM or GRU
    input : Tensor of shape (T, B, I), (B, T, I) or (T, I), or PackedSequence
        Of anything else the engine says what is wrong with it.
    """
    values = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(values, Tensor) or values.dim() not in (2, 3):
        return None
    if torch.jit.is_tracing():  # type: ignore[reportPrivateImportUsage]
        return "torch.jit.trace is recording, which sees no operation of the engine"
    if values.is_cuda:
        return "on a CUDA device PyTorch runs all layers and directions at once"
    if values.is_meta:
        return "the input is on the device meta, where nothing is computed"
    if not values.is_cpu:
        return None
    if torch.is_autocast_enabled("cpu"):
        return "torch.autocast is on, under which the engine does not run"
    if values.dtype in (torch.bfloat16, torch.float16):
        return f"the input is {values.dtype}; the engine has float32 and float64"
    if isinstance(input, PackedSequence) or values.dtype != torch.float32:
        return None
    steps = values.shape[1 if module.batch_first and values.dim() == 3 else 0]
    vendor = module.mode != "LSTM" or (torch.backends.mkldnn.is_available() and not module.proj_size)
    few = _FEW_STEPS[module.mode if vendor else "LSTM without oneDNN"][torch.is_grad_enabled()]
    if not 0 < steps <= few:  # PyTorch refuses a batch of no steps
        return None
    bound = f" of at most {few} steps" if few < _ALL else ""
    return f"PyTorch's own kernel is faster for a float32 batch without lengths{bound}"
