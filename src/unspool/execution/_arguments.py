"""What users pass beside the inputs, checked and as tensors: lengths, masks, constants.

Letters: B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import Nest, describe, map_leaves, named_leaves, require_tensors
from unspool._ragged import RaggedBatch
from unspool.cells import require_constants_taken

IntArray: TypeAlias = Tensor | np.ndarray | Sequence[int]
BoolArray: TypeAlias = Tensor | np.ndarray | Sequence[Sequence[bool]]


def as_tensor(value: Any, name: str) -> Tensor:
    """Return what a user has passed for integers or booleans as a tensor.

    Parameters
    ----------
    value : tensor, array or list
    name : str
        What the user calls it, for errors.

    Raises
    ------
    TypeError
        If it cannot be read as one.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            kind = "meta" if value.is_meta else "nested" if value.is_nested else str(value.layout)
            raise TypeError(f"{name} is a {kind} tensor; expected a dense one that has values.")
        return value
    try:
        # A copy: PyTorch takes no negative strides and warns of read-only memory.
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} is {type(value).__name__}, which cannot be read as a tensor ({error}); "
            "expected a tensor, an array or a list."
        ) from error


def _what_lengths(batch: int, steps: int) -> str:
    return f"integers of shape [{batch}] (batch), each in [0, {steps}]"


def as_lengths(value: IntArray, batch: int, steps: int, name: str) -> Tensor:
    """Return lengths as a LongTensor of shape (B,), whatever their values are.

    Parameters
    ----------
    value : tensor, array or list
    batch, steps : int
        B and T.
    name : str
        What the user calls them, for errors.

    Raises
    ------
    TypeError, ValueError
        If they are not integers, or not one for each sequence.
    """
    what = _what_lengths(batch, steps)
    if isinstance(value, list | tuple) and any(isinstance(part, Tensor) and part.dim() > 1 for part in value):
        raise TypeError(f"{name} is {describe(value)}; expected {what}. A state is an argument of its own.")
    lengths = as_tensor(value, name)
    integral = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if not integral and not _is_empty_list(value, lengths):
        advice = "Convert it with .long()."
        if lengths.dim() > 1:
            advice = "Masks and states are arguments of their own."
        raise TypeError(f"{name} has dtype {lengths.dtype}; expected {what}. {advice}")
    if lengths.shape != (batch,):
        advice = "Give one length per row."
        if lengths.shape == (steps,):
            advice += " If the first axis of the inputs is meant to be the other one: batch_first=, time_major=."
        raise ValueError(f"{name} has shape {list(lengths.shape)}; expected {what}. {advice}")
    return lengths.detach().long()


def check_lengths(lengths: Tensor, value: IntArray, steps: int, name: str) -> None:
    """Refuse lengths outside of [0, T].

    Parameters
    ----------
    lengths : LongTensor of shape (B,)
    value : tensor, array or list
        The same as it was passed: its numbers may not fit into 64 bits.
    steps : int
        T.
    name : str
        What the user calls them, for errors.

    Raises
    ------
    ValueError
        If there are such lengths.
    """
    shortest, longest = lengths.aminmax() if len(lengths) else (0, 0)
    if shortest < 0 or longest > steps:
        wrong = int(((lengths < 0) | (lengths > steps)).nonzero()[0])
        raise ValueError(
            f"{name}[{wrong}] is {int(value[wrong])}; expected {_what_lengths(len(lengths), steps)}. "
            "A length counts the real steps of a row; cut the row or pad the batch to fit."
        )


def as_booleans(value: BoolArray, name: str, batch: int, steps: int, time_major: bool) -> Tensor:
    """Return a mask or resets, which the user has passed in the layout of the inputs, as `[T, B]`.

    Parameters
    ----------
    value : tensor, array or list
    name : str
        What the user calls it, for errors.
    batch, steps : int
        B and T.
    time_major : bool
        Whether the inputs have time before batch.

    Raises
    ------
    TypeError, ValueError
        If they are not booleans, or of another shape.
    """
    mask = as_tensor(value, name)
    shape = (steps, batch) if time_major else (batch, steps)
    if mask.dtype == torch.bool and mask.shape == shape:
        mask = mask.detach()
        return mask if time_major else mask.t()
    axes = "time, batch" if time_major else "batch, time"
    what = f"booleans of shape [{shape[0]}, {shape[1]}] ({axes}), the layout of the inputs"
    if mask.dtype != torch.bool and not _is_empty_list(value, mask):
        raise TypeError(f"{name} has dtype {mask.dtype}; expected {what}. Convert it with .bool().")
    if mask.shape != shape and not (0 in (batch, steps) and mask.numel() == 0):
        advice = "Give one value per row and step."
        if mask.shape == shape[::-1]:
            advice = (
                f"Transpose it: {name}.t(). (First versions took [batch, time] with time-major inputs too.)"
                if time_major
                else f"Transpose it: {name}.t()."
            )
        raise ValueError(f"{name} has shape {list(mask.shape)}; expected {what}. {advice}")
    mask = mask.detach().bool().reshape(shape)
    return mask if time_major else mask.t()


def _is_empty_list(value: Any, read: Tensor) -> bool:
    """Tell whether a dtype means nothing: an empty list is read as floating point."""
    return isinstance(value, list | tuple) and read.numel() == 0


def checked_constants(cell: Any, constants: Nest | None, batch: int, device: torch.device) -> Nest | None:
    """Return the constants of a run, and refuse what cannot be handed to its cell.

    Parameters
    ----------
    cell : cell
    constants : nesting of Tensor of shape (B, ...), or None
        As the user has passed them.
    batch : int
        B.
    device : torch.device
        That of the inputs.

    Raises
    ------
    TypeError
        If the cell takes none, or a leaf is not a tensor.
    ValueError
        If there is no leaf, or one does not have the sequences as its first axis or is elsewhere.
    """
    if constants is None:
        return None
    require_constants_taken(cell)
    map_leaves(_refuse_packed, constants, stop_at=lambda node: isinstance(node, RaggedBatch | PackedSequence))
    require_tensors(constants, "constants")
    leaves = named_leaves(constants, "constants")
    what = f"tensors [{batch}, ...] (batch first, with time-major inputs too)"
    if not leaves:
        raise ValueError(f"constants is {constants!r}, which holds no tensor; expected {what}, or None.")
    for name, leaf in leaves:
        if leaf.is_nested or leaf.layout != torch.strided:
            kind = "nested" if leaf.is_nested else str(leaf.layout)
            raise TypeError(f"{name} is a {kind} tensor; expected {what}, dense, and a mask where rows are padded.")
        if leaf.dim() == 0 or leaf.shape[0] != batch:
            raise ValueError(
                f"{name} has shape {list(leaf.shape)}; expected {what}: each row has its own. What all rows share, "
                f"repeat for them, without a copy: tensor.expand({batch}, *tensor.shape)."
            )
        if leaf.device != device:
            raise ValueError(
                f"{name} is on {leaf.device}; expected {device}, as the inputs. Move it with .to({str(device)!r})."
            )
    return constants


def _refuse_packed(leaf: Any) -> None:
    if isinstance(leaf, RaggedBatch | PackedSequence):
        raise TypeError(
            f"constants hold a {type(leaf).__name__}; expected tensors [B, ...]. Unpack it (RaggedBatch.to_padded, "
            "pad_packed_sequence with batch_first=True), and pass which steps are real beside it, as booleans [B, S]."
        )
