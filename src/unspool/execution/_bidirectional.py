"""Both directions in time, with separate cells, states and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unspool._nest import Nest
from unspool.execution._arguments import BoolArray, IntArray
from unspool.execution._dynamic import dynamic_rnn
from unspool.execution._ragged import map_values
from unspool.execution._static import static_rnn


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Nest,
    sequence_length: IntArray | None = None,
    initial_state_fw: Nest | None = None,
    initial_state_bw: Nest | None = None,
    time_major: bool = False,
    *,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
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
    sequence_length, time_major, mask, resets, pad_output, backend
        See `dynamic_rnn`. Each row is reversed within its own length.

    Returns
    -------
    outputs : pair of nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`
        Forward and backward, both in the order of the inputs.
    final_states : pair
        Forward after each row's last real step, backward after its first.

    Raises
    ------
    TypeError, ValueError, BackendError
        See `dynamic_rnn`.
    """
    options: dict[str, Any] = {
        "time_major": time_major,
        "mask": mask,
        "resets": resets,
        "pad_output": pad_output,
        "backend": backend,
    }
    output_fw, state_fw = dynamic_rnn(cell_fw, inputs, sequence_length, initial_state_fw, **options)
    output_bw, state_bw = dynamic_rnn(cell_bw, inputs, sequence_length, initial_state_bw, reverse=True, **options)
    return (output_fw, output_bw), (state_fw, state_bw)


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Sequence[Nest],
    sequence_length: IntArray | None = None,
    initial_state_fw: Nest | None = None,
    initial_state_bw: Nest | None = None,
    *,
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[list[Nest], Nest, Nest]:
    """Run two cells over a list of steps in both directions (TensorFlow 1's `tf.nn.static_bidirectional_rnn`).

    Parameters
    ----------
    cell_fw, cell_bw : cell
    inputs : non-empty list of nesting of Tensor of shape (B, ...)
    sequence_length, initial_state_fw, initial_state_bw, mask, resets, pad_output, backend
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
    options: dict[str, Any] = {"mask": mask, "resets": resets, "pad_output": pad_output, "backend": backend}
    outputs_fw, state_fw = static_rnn(cell_fw, inputs, sequence_length, initial_state_fw, **options)
    outputs_bw, state_bw = static_rnn(cell_bw, inputs, sequence_length, initial_state_bw, reverse=True, **options)
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
    mask: BoolArray | None = None,
    resets: BoolArray | None = None,
    pad_output: str = "zero",
    backend: str = "auto",
) -> tuple[Nest, tuple[Nest, ...], tuple[Nest, ...]]:
    """Run a stack of bidirectional layers, each over both outputs of the one below.

    Parameters
    ----------
    cells_fw, cells_bw : sequence of cell
        One per layer, from the lowest; as many forward as backward.
    inputs : nesting of Tensor of shape (B, T, ...), or (T, B, ...) with `time_major`; or RaggedBatch
    initial_states_fw, initial_states_bw : sequence of state, optional
        One per layer.
    sequence_length, time_major, mask, resets, pad_output, backend
        See `bidirectional_dynamic_rnn`.

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
        See `dynamic_rnn`.
    """
    layers = len(cells_fw)
    given = {
        "cells_bw": cells_bw,
        "initial_states_fw": initial_states_fw,
        "initial_states_bw": initial_states_bw,
    }
    if layers == 0:
        raise ValueError("cells_fw is empty; expected one cell per layer.")
    for name, sequence in given.items():
        if sequence is not None and len(sequence) != layers:
            raise ValueError(f"{name} has {len(sequence)} entries; expected {layers}, one per layer, as in cells_fw.")
    states_fw, states_bw = [], []
    for k in range(layers):
        outputs, (state_fw, state_bw) = bidirectional_dynamic_rnn(
            cells_fw[k],
            cells_bw[k],
            inputs,
            sequence_length,
            None if initial_states_fw is None else initial_states_fw[k],
            None if initial_states_bw is None else initial_states_bw[k],
            time_major,
            mask=mask,
            resets=resets,
            pad_output=pad_output,
            backend=backend,
        )
        inputs = _on_features(*outputs)
        states_fw.append(state_fw)
        states_bw.append(state_bw)
    return inputs, tuple(states_fw), tuple(states_bw)


def _on_features(forward: Nest, backward: Nest) -> Nest:
    return map_values(lambda a, b: torch.cat([a, b], dim=-1), forward, backward)
