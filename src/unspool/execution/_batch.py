"""What users pass for a batch, checked and brought into one form: inputs, and the schedule of their steps.

Letters: B batch, T steps, N valid steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import is_batched, is_exporting, is_inference, is_observed, is_tracing
from unspool._nest import Nest, describe, leaves_of, map_leaves, named_leaves, require_tensors
from unspool._ragged import RaggedBatch
from unspool.backends import Schedule, TracedSchedule
from unspool.execution._again import start_over
from unspool.execution._arguments import BoolArray, IntArray, as_booleans, as_lengths, as_tensor, check_lengths


class Steps(NamedTuple):
    """What a user has passed about the steps of a batch; None where nothing was.

    Attributes
    ----------
    lengths : integers of shape (B,), optional
    mask, resets : booleans of shape (B, T) or (T, B), the layout of the inputs, optional
        See `dynamic_rnn`.
    reset_states : nesting of Tensor of shape (B, T, ...) or (T, B, ...), optional
        See `dynamic_rnn`.
    """

    lengths: IntArray | None = None
    mask: BoolArray | None = None
    resets: BoolArray | None = None
    reset_states: Nest | None = None

    @property
    def given(self) -> bool:
        """Whether there is anything."""
        return not (self.lengths is self.mask is self.resets is self.reset_states is None)


SHORT = 64
"""Steps of all sequences up to which a call is looked at more closely, since it takes so little time otherwise."""


def simplified(
    inputs: Any,
    about: Steps,
    state: Nest | None,
    from_zero: bool,
    time_major: bool,
    lengths_name: str = "sequence_length",
) -> tuple[Steps, Nest | None]:
    """Return what is left to say of the steps of a short batch, and the state in which it begins.

    Lengths that are all T say nothing, and a reset before the only step is another initial state.

    Parameters
    ----------
    inputs : nesting of Tensor, or RaggedBatch, or PackedSequence
        As they were passed; only single plain tensors are looked at.
    about : Steps
    state : nesting of Tensor of shape (..., B, H), or None
        The initial one.
    from_zero : bool
        Whether the cells start at zero; what others start from is asked for once, where they are run.
    time_major, lengths_name
        See `make_schedule`.

    Returns
    -------
    about : Steps
    state : nesting of Tensor of shape (..., B, H), or None

    Raises
    ------
    TypeError, ValueError
        See `make_schedule`.
    """
    if about.mask is not None or type(inputs) is not Tensor or inputs.dim() < 2 or is_observed() or is_exporting():
        return about, state
    first, second = inputs.shape[:2]
    steps, batch = (first, second) if time_major else (second, first)
    if not 0 < steps * batch <= SHORT:
        return about, state
    if about.lengths is not None:
        lengths = as_lengths(about.lengths, batch, steps, lengths_name)
        check_lengths(lengths, about.lengths, steps, lengths_name)
        if any(length != steps for length in lengths.tolist()):
            return about, state
        about = about._replace(lengths=None)
    if about.resets is None or about.reset_states is not None or steps != 1 or not from_zero:
        return about, state
    resets = as_booleans(about.resets, "resets", batch, steps, time_major)[0].to(inputs.device)
    start = None if state is None else start_over(state, resets)
    return (about, state) if start is None and state is not None else (about._replace(resets=None), start)


def refuse_in_traces(inputs: Any, about: Steps) -> None:
    """Refuse what cannot stand in a program that is being recorded.

    Parameters
    ----------
    inputs : nesting of Tensor, or RaggedBatch, or PackedSequence
    about : Steps

    Raises
    ------
    TypeError
        If a program is being exported and the inputs are a ragged batch or a packed sequence.
    RuntimeError
        If `torch.jit.trace` records, and steps depend on data.
    """
    packed = isinstance(inputs, PackedSequence | RaggedBatch)
    if is_tracing() and (packed or about.given):
        raise RuntimeError(
            "lengths, a mask, resets or a packed batch were met by torch.jit.trace, which records the steps of one "
            "batch for all others; expected torch.export.export, or torch.onnx.export with dynamo=True. See "
            "docs/export.md."
        )
    if is_exporting() and packed:
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
    if type(inputs) is Tensor and inputs.dim() > 1 and not inputs.is_nested:  # which is all that there is to check
        return inputs if time_major else inputs.transpose(0, 1)
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


def ragged_inputs(batch: RaggedBatch, about: Steps) -> Tensor:
    """Check a ragged batch and return its values as `[N, 1, ...]`, which is how backends take them.

    Parameters
    ----------
    batch : RaggedBatch
    about : Steps
        What the user passed beside it: resets at most.

    Raises
    ------
    TypeError
        If values are not a tensor, or lengths not a tensor of integers.
    ValueError
        If lengths or a mask were passed too, or the lengths do not fit the values.
    """
    if about.lengths is not None or about.mask is not None:
        raise ValueError(
            "lengths or mask were given beside a RaggedBatch; expected the batch alone, which has its own lengths. "
            "To leave steps out, make the batch without them; or pass inputs, lengths = batch.to_padded() and the mask."
        )
    values, lengths = batch.values, batch.lengths
    if not isinstance(values, Tensor) or values.dim() == 0:
        raise TypeError(
            f"the values of a RaggedBatch are {describe(values)}; expected one tensor of shape [N, ...], the steps of "
            "all rows one after the other."
        )
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise TypeError(
            f"the lengths of a RaggedBatch are {describe(lengths)}; expected a tensor of integers of shape [B]. "
            "Convert them with torch.as_tensor(lengths)."
        )
    if lengths.dim() != 1 or bool((lengths < 0).any()) or int(lengths.sum()) != len(values):
        raise ValueError(
            f"a RaggedBatch has values {list(values.shape)} and lengths {lengths.tolist()}, {int(lengths.sum())} steps "
            f"in all; expected lengths of at least 0, one per row, {len(values)} in all. Make it with "
            "unspool.data.collate_ragged or ragged_from_padded, and change values token by token."
        )
    return values.unsqueeze(1)


def states_at_resets(about: Steps, inputs: Any, time_major: bool) -> Nest | None:
    """Check the states to which resets return, and return them as `[T, B, ...]`, or `[N, 1, ...]` for a ragged batch.

    Parameters
    ----------
    about : Steps
    inputs : nesting of Tensor of shape (T, B, ...) or (B, T, ...), or RaggedBatch
        As they were passed, and checked.
    time_major : bool
        Whether the user has passed inputs and states with time before batch.

    Raises
    ------
    TypeError
        If a leaf is not a tensor.
    ValueError
        If there are no resets, or the first axes are not those of the inputs. The others are checked with the cell's.
    """
    states = about.reset_states
    if states is None:
        return None
    if about.resets is None:
        raise ValueError(
            "reset_states was given without resets; expected both: resets says at which steps a sequence's state "
            "becomes the one that reset_states has there."
        )
    require_tensors(states, "reset_states")
    ragged = isinstance(inputs, RaggedBatch)
    axes = inputs.values.shape[:1] if ragged else leaves_of(inputs)[0].shape[:2]
    for name, leaf in named_leaves(states, "reset_states"):
        if leaf.shape[: len(axes)] != axes:
            layout = (
                "N, one for each step of the RaggedBatch" if ragged else "time, batch" if time_major else "batch, time"
            )
            raise ValueError(
                f"{name} has shape {list(leaf.shape)}; expected [{', '.join(map(str, axes))}, ...] ({layout}), the "
                "layout of the inputs: a state for each sequence and step. Steps without a reset may hold anything."
            )
    if ragged:
        return map_leaves(lambda leaf: leaf.unsqueeze(1), states)
    return in_form_of(None, states, time_major)  # the first two axes change places both ways


def make_schedule(
    inputs: Nest, about: Steps, reverse: bool, time_major: bool, lengths_name: str = "sequence_length"
) -> Schedule:
    """Check lengths, mask and resets against time-major inputs and return when which sequence is computed.

    Parameters
    ----------
    inputs : nesting of Tensor of shape (T, B, ...)
    about : Steps
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
    exporting = is_exporting()
    kept = not exporting and steps * batch <= SMALL
    if kept and not about.given:
        return _whole(steps, batch, reverse, device, is_inference())
    traced = exporting or any(map(is_batched, (about.lengths, about.mask, about.resets)))
    where = device if traced else torch.device("cpu")
    lengths, valid, resets = None, about.mask, about.resets
    if about.lengths is not None:
        lengths = as_lengths(about.lengths, batch, steps, lengths_name).to(where)
        if not traced:
            check_lengths(lengths, about.lengths, steps, lengths_name)
    if valid is not None:
        valid = as_booleans(valid, "mask", batch, steps, time_major).to(where)
    if resets is not None:
        resets = as_booleans(resets, "resets", batch, steps, time_major).to(where)
    if traced:
        return TracedSchedule(steps, batch, lengths, valid, resets, reverse=reverse, device=device)
    schedule = Schedule(steps, batch, valid, resets, lengths=lengths, reverse=reverse, device=device)
    if schedule.dense and kept:
        schedule.layouts = _whole(steps, batch, reverse, device, is_inference()).layouts
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


def ragged_schedule(batch: RaggedBatch, about: Steps, reverse: bool, num_steps: int | None = None) -> Schedule:
    """Return when which sequence of a checked ragged batch is computed.

    Parameters
    ----------
    batch : RaggedBatch
    about : Steps
        Its resets are booleans of shape (N,), one for each of the batch's values; there is nothing else.
    reverse : bool
        See `dynamic_rnn`.
    num_steps : int, optional
        T; the longest sequence's by default, and at least that.

    Raises
    ------
    TypeError
        If resets are not booleans.
    ValueError
        If there is not one of them for each of the values.
    """
    lengths = batch.lengths.detach().to("cpu", torch.long)
    steps = longest(batch) if num_steps is None else num_steps
    flags = None
    if about.resets is not None:
        flags = as_tensor(about.resets, "resets")
        what = f"booleans of shape [{len(batch.values)}], one for each step of the RaggedBatch's values"
        if flags.dtype != torch.bool:
            raise TypeError(f"resets has dtype {flags.dtype}; expected {what}. Convert it with .bool().")
        if flags.shape != batch.values.shape[:1]:
            raise ValueError(f"resets has shape {list(flags.shape)}; expected {what}.")
        flags = flags.detach().cpu()
    device = batch.values.device
    return Schedule(steps, len(lengths), None, flags, lengths=lengths, reverse=reverse, device=device, ragged=True)


def longest(batch: RaggedBatch) -> int:
    """Return the number of steps of the longest sequence.

    Parameters
    ----------
    batch : RaggedBatch
    """
    return int(batch.lengths.max()) if len(batch.lengths) else 0
