"""Checking what users pass, before anything is computed, and bringing it into one form.

Letters: B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import Nest, describe, leaves_of, map_leaves, named_leaves, require_tensors
from unspool._ragged import RaggedBatch
from unspool.backends import Schedule, TracedSchedule
from unspool.cells import autocasts, initial_state_of, require_constants_taken
from unspool.execution._tracing import is_batched

IntArray: TypeAlias = Tensor | np.ndarray | Sequence[int]
BoolArray: TypeAlias = Tensor | np.ndarray | Sequence[Sequence[bool]]


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


def time_major_inputs(inputs: Nest, time_major: bool) -> Nest:
    """Check inputs and return them as `[T, B, ...]`.

    Parameters
    ----------
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
    time_major : bool

    Raises
    ------
    TypeError
        If a leaf is not a tensor.
    ValueError
        If a leaf lacks a batch or a time axis, or leaves differ in them or in their device.
    """
    if isinstance(inputs, PackedSequence):
        raise TypeError(
            "inputs is a PackedSequence; expected padded tensors and their lengths. Unpack it with "
            "torch.nn.utils.rnn.pad_packed_sequence and pass sequence_length (or use a layer, which takes it as it is)."
        )
    require_tensors(inputs, "inputs")
    layout = "[T, B, ...] (time_major=True)" if time_major else "[B, T, ...] (time_major=False)"
    leaves = named_leaves(inputs, "inputs")
    if not leaves:
        raise ValueError(f"inputs is {inputs!r}, which holds no tensor; expected at least one of shape {layout}.")
    first_name, first = leaves[0]
    for name, leaf in leaves:
        if leaf.is_nested:
            raise TypeError(
                f"{name} is a nested tensor; expected padded tensors and their lengths, or a RaggedBatch. Take "
                "torch.nested.to_padded_tensor(inputs, 0.0), and pass the rows' lengths as sequence_length."
            )
        if leaf.dim() < 2:
            raise ValueError(f"{name} has shape {list(leaf.shape)}; expected {layout}. Add the missing axis.")
        if leaf.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"{name} has shape {list(leaf.shape)} and {first_name} {list(first.shape)}; "
                f"expected the same first two axes, {layout}."
            )
        if leaf.device != first.device:
            raise ValueError(f"{name} is on {leaf.device} and {first_name} on {first.device}; expected one device.")
    return in_form_of(None, inputs, time_major)  # the first two axes change places both ways


def in_form_of(inputs: Nest, values: Nest, time_major: bool) -> Nest:
    """Return what a run gives in the form in which the user has passed the inputs.

    Parameters
    ----------
    inputs : nesting of Tensor, or RaggedBatch
        As they were passed.
    values : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where the inputs are a ragged batch
    time_major : bool
        Whether padded values stay as they are.
    """
    if isinstance(inputs, RaggedBatch):
        return map_leaves(lambda leaf: inputs._replace(values=leaf.squeeze(1)), values)
    if time_major:
        return values
    if isinstance(values, Tensor):
        return values.transpose(0, 1)
    return map_leaves(lambda leaf: leaf.transpose(0, 1), values)


def make_schedule(
    inputs: Nest,
    sequence_length: IntArray | None,
    mask: BoolArray | None,
    resets: BoolArray | None,
    reverse: bool,
    time_major: bool,
    lengths_name: str = "sequence_length",
) -> Schedule:
    """Check lengths, mask and resets against time-major inputs and return when which row is computed.

    Parameters
    ----------
    inputs : nesting of Tensor of shape (T, B, ...)
    sequence_length : integers of shape (B,), optional
    mask, resets : booleans of shape (B, T), or (T, B) with `time_major`, optional
    reverse : bool
        See `dynamic_rnn`.
    time_major : bool
        Whether the user has passed the inputs, and so mask and resets, with time before batch.
    lengths_name : str
        What the user calls the lengths, for errors.

    Returns
    -------
    Schedule

    Raises
    ------
    TypeError
        If lengths are not integers, or mask or resets not booleans.
    ValueError
        If a shape does not fit, or a length lies outside [0, T].
    """
    first = inputs if isinstance(inputs, Tensor) else leaves_of(inputs)[0]
    (steps, batch), device = first.shape[:2], first.device
    exporting = torch.compiler.is_exporting()
    if sequence_length is None and mask is None and resets is None and not exporting and steps * batch <= SMALL:
        return _whole(steps, batch, reverse, device, torch.is_inference_mode_enabled())
    if exporting or any(map(is_batched, (sequence_length, mask, resets))):
        lengths = None if sequence_length is None else _integers(sequence_length, batch, steps, lengths_name).to(device)
        masked, reset = (
            None if value is None else _bools(value, name, batch, steps, time_major).to(device)
            for name, value in {"mask": mask, "resets": resets}.items()
        )
        return TracedSchedule(steps, batch, lengths, masked, reset, reverse=reverse, device=device)
    lengths = None if sequence_length is None else _lengths(sequence_length, batch, steps, lengths_name)
    live = None if mask is None else _bools(mask, "mask", batch, steps, time_major).cpu()
    reset = None if resets is None else _bools(resets, "resets", batch, steps, time_major).cpu()
    schedule = Schedule(steps, batch, live, reset, lengths=lengths, reverse=reverse, device=device)
    if schedule.dense and steps * batch <= SMALL:
        schedule.layouts = _whole(steps, batch, reverse, device, torch.is_inference_mode_enabled()).layouts
    return schedule


@lru_cache(maxsize=64)
def _whole(steps: int, batch: int, reverse: bool, device: torch.device, inference: bool) -> Schedule:
    """Return the schedule of sequences that are all of T steps, and keep it with what backends make of it.

    Tensors that are made in inference mode are of no use outside of it.
    """
    del inference
    return Schedule(steps, batch, None, None, reverse=reverse, device=device)


SMALL = 1 << 18
"""Steps of all sequences up to which a schedule without lengths is kept for the next call."""


def _what_lengths(batch: int, steps: int) -> str:
    return f"integers of shape [{batch}] (batch), each in [0, {steps}]"


def _integers(value: IntArray, batch: int, steps: int, name: str) -> Tensor:
    """Return lengths as `[B]`, whatever their values are."""
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


def _lengths(value: IntArray, batch: int, steps: int, name: str) -> Tensor:
    lengths = _integers(value, batch, steps, name).cpu()
    wrong = ((lengths < 0) | (lengths > steps)).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{name}[{wrong[0]}] is {int(value[wrong[0]])}; expected {_what_lengths(batch, steps)}. "
            "A length counts the real steps of a row; cut the row or pad the batch to fit."
        )
    return lengths


def _bools(value: BoolArray, name: str, batch: int, steps: int, time_major: bool) -> Tensor:
    """Return a mask, which the user has passed in the layout of the inputs, as `[T, B]`."""
    mask = as_tensor(value, name)
    shape, axes = ((steps, batch), "time, batch") if time_major else ((batch, steps), "batch, time")
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
        If there is no leaf, or one does not have the rows as its first axis or is elsewhere.
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


def own_initial_state(cell: Any, inputs: Nest, batch: int) -> Nest:
    """Return the state in which the cell starts by itself, for so many rows of checked inputs.

    Raises
    ------
    TypeError, ValueError
        If a leaf of it is not a tensor, or has no batch axis.
    """
    first = leaves_of(inputs)[0]
    # Token ids have no dtype to hand on, and under autocast inputs may be narrower than states should be.
    own_dtype = not first.is_floating_point() or autocasts(first.device)
    like = initial_state_of(cell, batch, None if own_dtype else first.dtype, first.device)
    require_tensors(like, f"{type(cell).__name__}.initial_state({batch})")
    for path, leaf in named_leaves(like, "state"):
        if leaf.dim() == 0 or leaf.shape[0] != batch:
            raise ValueError(
                f"{path} of {type(cell).__name__}.initial_state({batch}) has shape {list(leaf.shape)}; expected "
                f"[{batch}, ...]: every leaf needs the batch as its first axis, so that each row can keep its own. "
                "Give counters and other scalars a batch axis too."
            )
    return like


def check_pad_output(pad_output: str) -> None:
    """Refuse an unknown way of padding outputs.

    Parameters
    ----------
    pad_output : str
        `"zero"` and `"repeat"` are known.

    Raises
    ------
    ValueError
        If it is unknown.
    """
    if pad_output not in ("zero", "repeat"):
        raise ValueError(f"pad_output is {pad_output!r}; expected 'zero' or 'repeat'.")


def stacked_inputs(inputs: Sequence[Nest]) -> Nest:
    """Check a list of T inputs `[B, ...]`, one per step, and return them as `[T, B, ...]`.

    Raises
    ------
    TypeError
        If it is not a list or tuple.
    ValueError
        If it is empty, or its elements differ in shape, dtype or device.
    """
    if not isinstance(inputs, list | tuple) or isinstance(inputs, RaggedBatch | PackedSequence):
        raise TypeError(
            f"inputs is {describe(inputs)}; expected a list with one input [B, I] per step. "
            "Cut a tensor with list(inputs.unbind(1)), or use dynamic_rnn."
        )
    if not inputs:
        raise ValueError("inputs is an empty list; expected one input [B, I] per step, at least one step.")
    require_tensors(inputs[0], "inputs[0]")
    first, devices = describe(inputs[0]), [leaf.device for leaf in leaves_of(inputs[0])]
    for t, x in enumerate(inputs):
        require_tensors(x, f"inputs[{t}]")
        if describe(x) != first:
            raise ValueError(
                f"inputs[{t}] is {describe(x)} and inputs[0] is {first}; "
                "expected the same structure, shapes and dtypes at every step."
            )
        if [leaf.device for leaf in leaves_of(x)] != devices:
            here, there = (", ".join(str(leaf.device) for leaf in leaves_of(step)) for step in (x, inputs[0]))
            raise ValueError(f"inputs[{t}] is on {here} and inputs[0] on {there}; expected one device at every step.")
    return time_major_inputs(map_leaves(lambda *leaves: torch.stack(leaves), *inputs), time_major=True)
