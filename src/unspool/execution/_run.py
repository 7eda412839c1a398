"""The two runs: a loop over time, and a list of steps, unrolled. In one place they become a backend's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unspool._modes import autocast_dtype, is_exporting, is_tracing
from unspool._nest import Nest, leaves_of, map_leaves, named_leaves, require_tensors
from unspool._ragged import RaggedBatch
from unspool.backends import Call, Schedule, check_backend, repeated, run
from unspool.cells import (
    ResetCell,
    Restart,
    WithStates,
    beside,
    in_form,
    initial_state_of,
    match_state,
    require_cell,
    row_inputs_of,
    state_sizes,
)
from unspool.compiled import Layout, in_graphs, tensors_of, with_tensors
from unspool.execution._again import again, remember, repeat_cell
from unspool.execution._arguments import BoolArray, IntArray, checked_constants
from unspool.execution._batch import (
    Steps,
    in_form_of,
    make_schedule,
    ragged_inputs,
    ragged_schedule,
    refuse_in_traces,
    simplified,
    stacked_inputs,
    states_at_resets,
    time_major_inputs,
)


def dynamic_rnn(
    cell: Any,
    inputs: Nest,
    sequence_length: IntArray | None = None,
    initial_state: Nest | None = None,
    time_major: bool = False,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reset_states: Nest | None = None,
    reverse: bool = False,
    pad_output: str = "zero",
    return_all_states: bool = False,
    backend: str = "auto",
) -> Any:
    """Run a cell over a batch of sequences (TensorFlow 1's `tf.nn.dynamic_rnn`).

    Steps beyond a sequence's length are not computed: the output there is padding, the state is carried through, and
    what stands there in `inputs` (NaN, say) reaches no output, state or gradient. The loop ends with the longest one.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`: a module with `forward(x, state) -> (output, new_state)` and `initial_state`, or one of
        `torch.nn`'s cells.
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`; or RaggedBatch
        T = 0 and B = 0 are allowed. A ragged batch has its own lengths, and is read where it is.
    sequence_length : integers of shape (B,), optional
        Valid steps of each sequence, 0 to T, in any order, on any device, as tensor, array or list; T by default.
    initial_state : nesting of Tensor of shape (B, ...), optional
        In the structure of `cell.initial_state`, which is taken by default.
    time_major : bool
        Whether inputs and outputs have time before batch.
    constants : nesting of Tensor of shape (B, ...), optional
        What stays the same at every step (an encoder's outputs, a speaker's embedding): the cell is called as
        `cell(x, state, constants)`, with `row_inputs` of its own as `cell(x, state, rows, constants)`. Batch first,
        with time-major inputs too; in the order of a ragged batch's sequences. Gradients flow back to them.
    mask : booleans of shape (B, T), or (T, B) with `time_major`, optional
        True where a step is valid; may have gaps and padding on either side. Both `mask` and `sequence_length` must
        hold for a step to be valid.
    resets : booleans of shape (B, T), or (T, B) with `time_major`, optional
        True where the state returns to the cell's own initial state (not to `initial_state`, which may be carried over
        from an earlier chunk) *before* the step. Where that step is not valid, before the next valid one.
        With a ragged batch of shape (N,), one for each of its values.
    reset_states : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`, optional
        Where a reset holds, the state becomes the one that stands here for this sequence and step, in place of the
        cell's own initial state: an agent's stored states, say. In the structure of the state; what stands elsewhere
        (NaN, say) reaches nothing. Gradients flow back to what is used. Where a reset waits for the next valid step,
        the state of the reset's step counts; of several that wait, the last one computed. With a ragged batch of
        shape (N, ...).
    reverse : bool
        Run each sequence from its last valid step to its first. Outputs stay in the order of the inputs.
    pad_output : {"zero", "repeat"}
        What the output holds where nothing is computed: zeros, or the output of the step computed before it in that
        sequence (Keras's default), zeros where there is none.
    return_all_states : bool
        Return the state after every step too.
    backend : str
        `"auto"`, or the name of a backend: see `unspool.info`.

    Returns
    -------
    outputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        The cell's output at every step. For a ragged batch one of the same sequences, with values (N, ...).
    final_state : nesting of Tensor of shape (B, ...)
        The state after each sequence's last valid step (with `reverse`, its first).
    all_states : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        Only with `return_all_states`. For a ragged batch each leaf is one.

    Raises
    ------
    TypeError
        If an argument is not of the kind described, dtypes do not fit, or the cell takes no constants.
    ValueError
        If shapes, structures, devices or lengths do not fit, lengths or a mask come beside a ragged batch, or there is
        no backend of that name.
    BackendError
        If the backend asked for cannot run this call.
    RuntimeError
        If `torch.jit.trace` records a call with lengths, a mask or resets: use `torch.export`.

    Examples
    --------
    >>> cell = LSTMCell(3, 5)
    >>> outputs, state = dynamic_rnn(cell, torch.randn(2, 4, 3), sequence_length=[4, 1])
    >>> outputs.shape, state.h.shape, bool((outputs[1, 1:] == 0).all())
    (torch.Size([2, 4, 5]), torch.Size([2, 5]), True)
    """
    return run_dynamic(
        cell,
        None,
        inputs,
        initial_state,
        Steps(sequence_length, mask, resets, reset_states),
        constants,
        time_major=time_major,
        reverse=reverse,
        pad_output=pad_output,
        return_all_states=return_all_states,
        backend=backend,
    )


def static_rnn(
    cell: Any,
    inputs: Sequence[Nest],
    sequence_length: IntArray | None = None,
    initial_state: Nest | None = None,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reset_states: Nest | None = None,
    reverse: bool = False,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[list[Nest], Nest]:
    """Run a cell over a list of steps, unrolled (TensorFlow 1's `tf.nn.static_rnn`).

    The number of steps is part of the plan; the numbers are those of `dynamic_rnn`. No cell is called for steps that
    are valid in no sequence.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    inputs : non-empty list of nesting of Tensor of shape (B, ...)
        One input per step.
    mask, resets : booleans of shape (T, B), optional
        As a list of steps has it, time comes first. See `dynamic_rnn`.
    reset_states : nesting of Tensor of shape (T, B, ...), optional
        See `dynamic_rnn`.
    sequence_length, initial_state, constants, reverse, pad_output, backend
        See `dynamic_rnn`.

    Returns
    -------
    outputs : list of nesting of Tensor of shape (B, ...)
        One output per step.
    final_state : nesting of Tensor of shape (B, ...)

    Raises
    ------
    TypeError, ValueError, BackendError, RuntimeError
        See `dynamic_rnn`; also if the list is empty or its elements differ in shape.
    """
    outputs, final_state = run_static(
        cell,
        None,
        inputs,
        initial_state,
        Steps(sequence_length, mask, resets, reset_states),
        constants,
        reverse=reverse,
        pad_output=pad_output,
        backend=backend,
    )
    return steps_of(outputs, len(inputs)), final_state


def steps_of(values: Nest, steps: int) -> list[Nest]:
    """Cut time-major values into a list with one entry per step."""
    return [map_leaves(lambda leaf, t=t: leaf[t], values) for t in range(steps)]


def _padded(cell: Any, inputs: Any, *, time_major: bool, return_all_states: bool, **options: Any) -> Layout:
    """Describe a run of `run_dynamic` to a trace."""
    del inputs, options
    steps = "TB" if time_major else "BT"
    results = (steps, "B", steps) if return_all_states else (steps, "B")
    return Layout(tensors_of(cell), inputs=steps, state="B", results=results, steps=steps)


@in_graphs(_padded)
def run_dynamic(
    cell: Any,
    tensors: dict[str, Tensor] | None,
    inputs: Nest,
    initial_state: Nest | None,
    about: Steps,
    constants: Nest | None,
    *,
    time_major: bool,
    reverse: bool,
    pad_output: str,
    return_all_states: bool,
    backend: str,
) -> Any:
    """Do what `dynamic_rnn` does, with these tensors in place of the cell's own unless they are None."""
    options = (time_major, reverse, pad_output, backend)
    if about.given and tensors is None and not is_tracing():
        require_cell(cell)
        about, initial_state = simplified(inputs, about, initial_state, state_sizes(cell) is not None, time_major)
    simple = tensors is None and not (about.given or constants is not None or return_all_states)
    if simple:
        found = _repeated(cell, options, inputs, initial_state)
        if found is not None:
            return found
    require_cell(cell)
    check_backend(backend)
    refuse_in_traces(inputs, about)
    if isinstance(inputs, RaggedBatch):
        x = ragged_inputs(inputs, about)
        schedule = ragged_schedule(inputs, about, reverse)
    else:
        x = time_major_inputs(inputs, time_major)
        schedule = make_schedule(x, about, reverse, time_major)
    outputs, final, states = run_cell(
        cell,
        x,
        schedule,
        initial_state,
        reset_states=states_at_resets(about, inputs, time_major),
        constants=constants,
        pad_output=pad_output,
        all_states=return_all_states,
        backend=backend,
        tensors=tensors,
    )
    if simple and not isinstance(inputs, RaggedBatch):
        remember(cell, options, inputs, final, (cell,), (schedule,), backend)
    outputs = in_form_of(inputs, outputs, time_major)
    return (outputs, final, in_form_of(inputs, states, time_major)) if return_all_states else (outputs, final)


def _repeated(cell: Any, options: tuple[Any, ...], inputs: Any, state: Nest | None) -> tuple[Nest, Nest] | None:
    """Run a cell as in its last call of this form, if there was one and nothing has changed."""
    last = again(cell, options, inputs, state) if isinstance(cell, nn.Module) else None
    found = None if last is None else repeat_cell(last, cell, inputs if options[0] else inputs.transpose(0, 1), state)
    return None if found is None else (in_form_of(inputs, found.outputs, options[0]), found.final_state)


def _listed(cell: Any, inputs: Any, **options: Any) -> Layout:
    """Describe a run of `run_static` to a trace: the number of steps is that of the list, a constant."""
    del inputs, options
    return Layout(tensors_of(cell), inputs="B", state="B", results=(".B", "B"), steps=".B")


@in_graphs(_listed)
def run_static(
    cell: Any,
    tensors: dict[str, Tensor] | None,
    inputs: Sequence[Nest],
    initial_state: Nest | None,
    about: Steps,
    constants: Nest | None,
    *,
    reverse: bool,
    pad_output: str,
    backend: str,
) -> tuple[Nest, Nest]:
    """Do what `static_rnn` does, but return outputs of shape (T, B, ...); for tensors see `run_dynamic`."""
    require_cell(cell)
    check_backend(backend)
    refuse_in_traces(inputs, about)
    stacked = stacked_inputs(inputs)
    schedule = make_schedule(stacked, about, reverse, time_major=True)
    outputs, final, _ = run_cell(
        cell,
        stacked,
        schedule,
        initial_state,
        reset_states=states_at_resets(about, stacked, time_major=True),
        constants=constants,
        pad_output=pad_output,
        static=True,
        backend=backend,
        tensors=tensors,
    )
    return outputs, final


def run_cell(
    cell: Any,
    inputs: Nest,
    schedule: Schedule,
    initial_state: Nest | None,
    *,
    start: Nest | None = None,
    reset_states: Nest | None = None,
    constants: Nest | None = None,
    pad_output: str = "zero",
    all_states: bool = False,
    static: bool = False,
    backend: str = "auto",
    state_name: str = "initial_state",
    tensors: dict[str, Tensor] | None = None,
) -> tuple[Nest, Nest, Nest | None]:
    """Run a cell over checked inputs: here they become a backend's call, and its results get their padding.

    Parameters
    ----------
    cell : cell
    inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where the schedule's arrays are ragged
    schedule : Schedule
        Made for these inputs by `make_schedule` or `ragged_schedule`.
    initial_state, constants : nesting of Tensor of shape (B, ...), optional
    start : nesting of Tensor of shape (1, ...), optional
        Where sequences start, and start over, in place of the cell's own initial state.
    reset_states : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) as the inputs, optional
        See `dynamic_rnn`.
    pad_output, all_states, static, backend
        See `dynamic_rnn` and `Call`.
    state_name : str
        What the user calls the initial state, for errors.
    tensors : dict of str to Tensor, optional
        By name, all parameters and buffers of the cell that the run reads in place of the cell's own.

    Returns
    -------
    outputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) as the inputs
    final_state : nesting of Tensor of shape (B, ...)
    all_states : nesting of Tensor of shape (T, B, ...) or (N, 1, ...), or None
        The state after every step, carried through steps that are not computed.

    Raises
    ------
    TypeError, ValueError
        See `dynamic_rnn`.
    """
    if tensors is not None:
        options = {"start": start, "reset_states": reset_states, "constants": constants, "pad_output": pad_output}
        options |= {"all_states": all_states, "static": static, "backend": backend, "state_name": state_name}
        return with_tensors(cell, tensors, lambda: run_cell(cell, inputs, schedule, initial_state, **options))
    check_pad_output(pad_output)
    first = inputs if isinstance(inputs, Tensor) else leaves_of(inputs)[0]
    batch, device = schedule.batch, first.device
    state = None
    if initial_state is not None and not schedule.has_resets:
        state = _fitting(cell, initial_state, first, batch)
    own_state = None
    if state is None:
        own_state = own_initial_state(cell, inputs, batch) if start is None else _expanded(start, batch)
    if constants is not None:
        constants = checked_constants(cell, constants, batch, device)
    rows = row_inputs_of(cell, batch, first.dtype if first.is_floating_point() else None, device)
    if state is None:
        state = own_state if initial_state is None else match_state(initial_state, own_state, state_name)
    per_sequence = rows if constants is None else beside(rows, constants)
    if schedule.has_resets:
        cell, inputs = ResetCell(cell), (inputs, schedule.resets)
        if reset_states is not None:
            like = map_leaves(lambda leaf: leaf.new_empty(()).expand(*schedule.shape, *leaf.shape[1:]), own_state)
            inputs = (*inputs, schedule.at_resets(match_state(reset_states, like, "reset_states")))
        per_sequence = Restart(own_state, () if per_sequence is None else (per_sequence,))
    if all_states:
        cell = WithStates(cell)
    # A backend runs calls in this process; an exported program is run by whoever loads it.
    backend = "auto" if is_exporting() else backend
    outputs, final = run(Call(cell, inputs, state, per_sequence, schedule, static), backend)
    states = None
    if all_states:
        outputs, states = outputs
        states = repeated(schedule, states, before=state)
    if pad_output == "repeat":
        outputs = repeated(schedule, outputs)
    return outputs, final, states


def _fitting(cell: Any, state: Nest, first: Tensor, batch: int) -> Nest | None:
    """Return a state as `match_state` does, if that can be done without making the cell's own."""
    sizes = state_sizes(cell)
    if sizes is None or not first.is_floating_point() or autocast_dtype(first.device.type) is not None:
        return None
    return in_form(state, sizes, batch, dtype=first.dtype, device=first.device)


def _expanded(start: Nest, batch: int) -> Nest:
    return map_leaves(lambda leaf: leaf.expand(batch, *leaf.shape[1:]), start)


def own_initial_state(cell: Any, inputs: Nest, batch: int) -> Nest:
    """Return the state in which the cell starts by itself, for so many sequences of checked inputs.

    Raises
    ------
    TypeError, ValueError
        If a leaf of it is not a tensor, or has no batch axis.
    """
    first = leaves_of(inputs)[0]
    # Token ids have no dtype to hand on, and under autocast inputs may be narrower than states should be.
    own_dtype = not first.is_floating_point() or autocast_dtype(first.device.type) is not None
    return start_of(cell, batch, None if own_dtype else first.dtype, first.device)


def start_of(cell: Any, batch: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Nest:
    """Return the state in which a cell starts, checked.

    Parameters
    ----------
    cell : cell
    batch : int
    dtype, device : optional
        The cell's own by default.

    Raises
    ------
    TypeError, ValueError
        See `own_initial_state`.
    """
    like = initial_state_of(cell, batch, dtype, device)
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
