"""The loop over time: any length, one call."""

from __future__ import annotations

from typing import Any

import torch

from unspool._nest import Nest, map_leaves
from unspool._ragged import RaggedBatch
from unspool.backends import check_backend
from unspool.cells import require_cell
from unspool.execution._arguments import BoolArray, IntArray, make_schedule, time_major_inputs
from unspool.execution._ragged import like_batch, ragged_inputs, ragged_schedule
from unspool.execution._run import run_cell
from unspool.execution._tracing import refuse_in_traces


def dynamic_rnn(
    cell: Any,
    inputs: Nest,
    sequence_length: IntArray | None = None,
    initial_state: Nest | None = None,
    time_major: bool = False,
    *,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reverse: bool = False,
    pad_output: str = "zero",
    return_all_states: bool = False,
    backend: str = "auto",
) -> Any:
    """Run a cell over a batch of sequences (TensorFlow 1's `tf.nn.dynamic_rnn`).

    Steps beyond a row's length are not computed: the output there is padding, the state is carried through, and
    what stands there in `inputs` (NaN, say) reaches no output, state or gradient. The loop ends at the longest row.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`: a module with `forward(x, state) -> (output, new_state)` and `initial_state`, or one of
        `torch.nn`'s cells.
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`; or RaggedBatch
        T = 0 and B = 0 are allowed. A ragged batch has its own lengths, and is read where it is.
    sequence_length : integers of shape (B,), optional
        Real steps of each row, 0 to T, in any order, on any device, as tensor, array or list. T for all by default.
    initial_state : nesting of Tensor of shape (B, ...), optional
        In the structure of `cell.initial_state`, which is taken by default.
    time_major : bool
        Whether inputs and outputs have time before batch.
    mask : booleans of shape (B, T), optional
        True where a step is real; may have gaps and padding on either side. Both `mask` and `sequence_length` must
        hold for a step to be real.
    resets : booleans of shape (B, T), optional
        True where the row's state returns to the cell's own initial state (not to `initial_state`, which may be carried
        over from an earlier chunk) *before* the step. Where that step is not real, before the row's next real step.
        With a ragged batch of shape (N,), one for each of its values.
    reverse : bool
        Run each row from its last real step to its first. Outputs stay in the order of the inputs.
    pad_output : {"zero", "repeat"}
        What the output holds where nothing is computed: zeros, or the output of the step computed before it in that
        row (Keras's default), zeros where there is none.
    return_all_states : bool
        Return the state after every step too.
    backend : str
        `"auto"`, or the name of a backend: see `unspool.info`.

    Returns
    -------
    outputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        The cell's output at every step. For a ragged batch one of the same rows, with values (N, ...).
    final_state : nesting of Tensor of shape (B, ...)
        The state after each row's last real step (with `reverse`, its first).
    all_states : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        Only with `return_all_states`. For a ragged batch each leaf is one.

    Raises
    ------
    TypeError
        If an argument is not of the kind described, or dtypes do not fit.
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
    options = {
        "mask": mask,
        "resets": resets,
        "time_major": time_major,
        "reverse": reverse,
        "pad_output": pad_output,
        "return_all_states": return_all_states,
        "backend": backend,
    }
    if torch.compiler.is_dynamo_compiling():
        from unspool.execution._traced import traced_dynamic_rnn

        return traced_dynamic_rnn(cell, inputs, sequence_length, initial_state, **options)
    return run_dynamic(cell, inputs, sequence_length, initial_state, **options)


def run_dynamic(
    cell: Any,
    inputs: Nest,
    sequence_length: IntArray | None,
    initial_state: Nest | None,
    *,
    mask: BoolArray | None,
    resets: BoolArray | None,
    time_major: bool,
    reverse: bool,
    pad_output: str,
    return_all_states: bool,
    backend: str,
) -> Any:
    """Do what `dynamic_rnn` does where nothing is traced; the arguments are its own."""
    require_cell(cell)
    check_backend(backend)
    refuse_in_traces(inputs, sequence_length, mask, resets)
    if isinstance(inputs, RaggedBatch):
        x = ragged_inputs(inputs, sequence_length, mask)
        schedule = ragged_schedule(inputs, resets, reverse)
    else:
        x = time_major_inputs(inputs, time_major)
        schedule = make_schedule(x, sequence_length, mask, resets, reverse)
    result = run_cell(
        cell,
        x,
        schedule,
        initial_state,
        pad_output=pad_output,
        all_states=return_all_states,
        backend=backend,
    )
    outputs = in_form_of(inputs, result.outputs, time_major)
    if return_all_states:
        return outputs, result.final_state, in_form_of(inputs, result.all_states, time_major)
    return outputs, result.final_state


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
        return like_batch(values, inputs)
    return values if time_major else map_leaves(lambda leaf: leaf.transpose(0, 1), values)
