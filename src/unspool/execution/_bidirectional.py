"""Both directions in time, with separate cells, states and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import is_compiling
from unspool._nest import Nest, describe, leaves_of
from unspool._ragged import RaggedBatch
from unspool.cells import match_state, require_cell
from unspool.execution._arguments import BoolArray, IntArray
from unspool.execution._ragged import map_values
from unspool.execution._run import dynamic_rnn, own_initial_state, static_rnn


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Nest,
    sequence_length: IntArray | None = None,
    initial_state_fw: Nest | None = None,
    initial_state_bw: Nest | None = None,
    time_major: bool = False,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reset_states_fw: Nest | None = None,
    reset_states_bw: Nest | None = None,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[tuple[Nest, Nest], tuple[Nest, Nest]]:
    """Run one cell forward and another backward in time (TensorFlow 1's `tf.nn.bidirectional_dynamic_rnn`).

    Parameters
    ----------
    cell_fw, cell_bw : cell
        Two cells with parameters of their own.
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`; or RaggedBatch
    initial_state_fw, initial_state_bw : nesting of Tensor of shape (B, ...), optional
    reset_states_fw, reset_states_bw : nesting of Tensor of shape (B, T, ...) or (T, B, ...), optional
        What resets return to in each direction: see `reset_states` of `dynamic_rnn`.
    sequence_length, time_major, constants, mask, resets, pad_output, backend
        See `dynamic_rnn`. Each sequence is reversed within its own length. Both cells get the same constants.

    Returns
    -------
    outputs : pair of nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        Forward and backward, both in the order of the inputs.
    final_states : pair
        Forward after each sequence's last valid step, backward after its first.

    Raises
    ------
    TypeError, ValueError, BackendError
        See `dynamic_rnn`.
    """
    options: dict[str, Any] = {
        "time_major": time_major,
        "constants": constants,
        "mask": mask,
        "resets": resets,
        "pad_output": pad_output,
        "backend": backend,
    }
    _check_direction("fw", cell_fw, initial_state_fw, inputs, 1 if time_major else 0)
    _check_direction("bw", cell_bw, initial_state_bw, inputs, 1 if time_major else 0)
    output_fw, state_fw = dynamic_rnn(
        cell_fw, inputs, sequence_length, initial_state_fw, reset_states=reset_states_fw, **options
    )
    output_bw, state_bw = dynamic_rnn(
        cell_bw, inputs, sequence_length, initial_state_bw, reset_states=reset_states_bw, reverse=True, **options
    )
    return (output_fw, output_bw), (state_fw, state_bw)


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Sequence[Nest],
    sequence_length: IntArray | None = None,
    initial_state_fw: Nest | None = None,
    initial_state_bw: Nest | None = None,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reset_states_fw: Nest | None = None,
    reset_states_bw: Nest | None = None,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[list[Nest], Nest, Nest]:
    """Run two cells over a list of steps in both directions (TensorFlow 1's `tf.nn.static_bidirectional_rnn`).

    Parameters
    ----------
    cell_fw, cell_bw : cell
    inputs : non-empty list of nesting of Tensor of shape (B, ...)
    mask, resets : booleans of shape (T, B), optional
        As a list of steps has it, time comes first. See `dynamic_rnn`.
    reset_states_fw, reset_states_bw : nesting of Tensor of shape (T, B, ...), optional
    sequence_length, initial_state_fw, initial_state_bw, constants, pad_output, backend
        See `bidirectional_dynamic_rnn`.

    Returns
    -------
    outputs : list of nesting of Tensor of shape (B, F_fw + F_bw)
        Forward and backward outputs of each step, concatenated on features.
    state_fw, state_bw
        Final states.

    Raises
    ------
    TypeError, ValueError, BackendError
        See `static_rnn`.
    """
    options: dict[str, Any] = {
        "constants": constants,
        "mask": mask,
        "resets": resets,
        "pad_output": pad_output,
        "backend": backend,
    }
    several = isinstance(inputs, list | tuple) and not isinstance(inputs, RaggedBatch | PackedSequence)
    first = inputs[0] if several and inputs else None
    _check_direction("fw", cell_fw, initial_state_fw, first, 0)
    _check_direction("bw", cell_bw, initial_state_bw, first, 0)
    outputs_fw, state_fw = static_rnn(
        cell_fw, inputs, sequence_length, initial_state_fw, reset_states=reset_states_fw, **options
    )
    outputs_bw, state_bw = static_rnn(
        cell_bw, inputs, sequence_length, initial_state_bw, reset_states=reset_states_bw, reverse=True, **options
    )
    both = zip(outputs_fw, outputs_bw, strict=True)
    return [_on_features(forward, backward) for forward, backward in both], state_fw, state_bw


def stack_bidirectional_dynamic_rnn(
    cells_fw: Sequence[Any],
    cells_bw: Sequence[Any],
    inputs: Nest,
    sequence_length: IntArray | None = None,
    initial_states_fw: Sequence[Nest] | None = None,
    initial_states_bw: Sequence[Nest] | None = None,
    time_major: bool = False,
    *,
    constants: Nest | None = None,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    reset_states_fw: Sequence[Nest] | None = None,
    reset_states_bw: Sequence[Nest] | None = None,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[Nest, tuple[Nest, ...], tuple[Nest, ...]]:
    """Run a stack of bidirectional layers, each over both outputs of the one below.

    Parameters
    ----------
    cells_fw, cells_bw : sequence of cell
        One per layer, from the lowest; as many forward as backward.
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`; or RaggedBatch
    initial_states_fw, initial_states_bw, reset_states_fw, reset_states_bw : sequence of state, optional
        One per layer.
    sequence_length, time_major, constants, mask, resets, pad_output, backend
        See `bidirectional_dynamic_rnn`. All cells get the same constants.

    Returns
    -------
    outputs : nesting of Tensor of shape (B, T, F_fw + F_bw), or (T, B, ...) with `time_major`
        Both outputs of the highest layer, concatenated on features.
    states_fw, states_bw : tuple
        Final states, one per layer.

    Raises
    ------
    ValueError
        If there are no cells, or the sequences differ in length.
    TypeError, BackendError
        See `dynamic_rnn`; also if cells or states do not come in sequences.
    """
    given = {"initial_states_fw": initial_states_fw, "initial_states_bw": initial_states_bw}
    given |= {"reset_states_fw": reset_states_fw, "reset_states_bw": reset_states_bw}
    _check_stack(cells_fw, cells_bw, given)
    layers = len(cells_fw)
    states_fw, states_bw = [], []
    for k in range(layers):
        outputs, (state_fw, state_bw) = bidirectional_dynamic_rnn(
            cells_fw[k],
            cells_bw[k],
            inputs,
            sequence_length,
            _of_layer(initial_states_fw, k),
            _of_layer(initial_states_bw, k),
            time_major,
            constants=constants,
            mask=mask,
            resets=resets,
            reset_states_fw=_of_layer(reset_states_fw, k),
            reset_states_bw=_of_layer(reset_states_bw, k),
            pad_output=pad_output,
            backend=backend,
        )
        inputs = _on_features(*outputs)
        states_fw.append(state_fw)
        states_bw.append(state_bw)
    return inputs, tuple(states_fw), tuple(states_bw)


def _check_direction(direction: str, cell: Any, state: Nest | None, inputs: Nest, batch_axis: int) -> None:
    """Refuse a cell or a state under the name that the user knows, before the other direction is run.

    Wrong inputs are left to the run itself.
    """
    if is_compiling():  # the runs in the graph check what they are given
        return
    require_cell(cell, f"cell_{direction}")
    if state is None or isinstance(inputs, PackedSequence):
        return
    first = inputs.values if isinstance(inputs, RaggedBatch) else next(iter(leaves_of(inputs)), None)
    if isinstance(first, Tensor) and not first.is_nested and first.dim() > batch_axis:
        batch = len(inputs.lengths) if isinstance(inputs, RaggedBatch) else first.shape[batch_axis]
        match_state(state, own_initial_state(cell, first, batch), f"initial_state_{direction}")


def _of_layer(states: Sequence[Nest] | None, layer: int) -> Nest | None:
    return None if states is None else states[layer]


def _check_stack(cells_fw: Any, cells_bw: Any, given: dict[str, Any]) -> None:
    """Refuse what is not one cell, or one state, per layer and direction."""
    for name, cells in (("cells_fw", cells_fw), ("cells_bw", cells_bw)):
        if not isinstance(cells, Sequence | nn.ModuleList | nn.Sequential):
            raise TypeError(f"{name} is {type(cells).__name__}; expected a list with one cell per layer.")
        for k, cell in enumerate(cells):
            require_cell(cell, f"{name}[{k}]")
    layers = len(cells_fw)
    if layers == 0:
        raise ValueError("cells_fw is empty; expected one cell per layer.")
    for name, states in given.items():
        if states is not None and not isinstance(states, Sequence):
            raise TypeError(f"{name} is {describe(states)}; expected a list with one state, or None, per layer.")
    for name, sequence in {"cells_bw": cells_bw, **given}.items():
        if sequence is not None and len(sequence) != layers:
            raise ValueError(f"{name} has {len(sequence)} entries; expected {layers}, one per layer, as in cells_fw.")


def _on_features(forward: Nest, backward: Nest) -> Nest:
    return map_values(lambda a, b: torch.cat([a, b], dim=-1), forward, backward)
