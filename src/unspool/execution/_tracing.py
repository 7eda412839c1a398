"""Where a run is recorded or batched, so that nobody may ask for values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._ragged import RaggedBatch


def refuse_in_traces(inputs: Any, *about_steps: Any) -> None:
    """Refuse what cannot stand in a program that is being recorded.

    Parameters
    ----------
    inputs : nesting of Tensor, or RaggedBatch, or PackedSequence
    *about_steps
        Lengths, mask and resets; None where there are none.

    Raises
    ------
    TypeError
        If a program is being exported and the inputs are a ragged batch or a packed sequence.
    RuntimeError
        If `torch.jit.trace` records, and steps depend on data.
    """
    packed = isinstance(inputs, PackedSequence | RaggedBatch)
    if torch.jit.is_tracing() and (packed or any(value is not None for value in about_steps)):  # type: ignore[attr-defined]
        raise RuntimeError(
            "lengths, a mask, resets or a packed batch were met by torch.jit.trace, which records the steps of one "
            "batch for all others; expected torch.export.export, or torch.onnx.export with dynamo=True. See "
            "docs/export.md."
        )
    if torch.compiler.is_exporting() and packed:
        raise TypeError(
            f"inputs is a {type(inputs).__name__}, whose shapes depend on its data, in a program that is exported; "
            "expected padded inputs and lengths. Make them of it (RaggedBatch.to_padded, pad_packed_sequence) before "
            "the program, and pass both."
        )


def is_batched(value: Any) -> bool:
    """Tell whether `torch.func.vmap` gives each sample a value of its own, so that there is none to ask for.

    Parameters
    ----------
    value : object
        A tensor, perhaps inside of several transforms, or anything else.
    """
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    while isinstance(value, Tensor) and functorch.is_functorch_wrapped_tensor(value):
        if functorch.is_batchedtensor(value):
            return True
        value = functorch.get_unwrapped(value)
    return False
