"""The loop over time: any length, one call."""

from __future__ import annotations

from typing import Any

import torch

from unspool._nest import Nest
from unspool.execution._arguments import BoolArray, IntArray
from unspool.execution._run import run_dynamic


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
    constants : nesting of Tensor of shape (B, ...), optional
        What stays the same at every step (an encoder's outputs, a speaker's embedding): the cell is called as
        `cell(x, state, constants)`, with `row_inputs` of its own as `cell(x, state, rows, constants)`. Batch first,
        with time-major inputs too; in the order of a ragged batch's rows. Gradients flow back to them.
    mask : booleans of shape (B, T), or (T, B) with `time_major`, optional
        True where a step is real; may have gaps and padding on either side. Both `mask` and `sequence_length` must
        hold for a step to be real.
    resets : booleans of shape (B, T), or (T, B) with `time_major`, optional
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
    options = {
        "constants": constants,
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
