"""The cuDNN backend: the built-in cells on a CUDA device, by the kernels that `torch.nn`'s layers use there.

Sequences are packed: nothing is computed for padding, in any order of lengths, and empty sequences stay out.

Letters: B batch, T steps, N valid steps, R sequences that have any, I input size, H hidden size, P size of the output.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import _VF, Tensor

from unspool._modes import autocast_dtype
from unspool._nest import leaves_of, same_kind
from unspool.backends._cudnn_conditions import reasons_of
from unspool.backends.base import Call, Refusal, Result, Run
from unspool.backends.reference import ReferenceBackend
from unspool.cells import GRUCell, LSTMCell, WithStates, activation

RELU, TANH, LSTM, GRU = range(4)
"""cuDNN's own numbers for its cells (`cudnnRNNMode_t`)."""


class CudnnBackend:
    """Runs `LSTMCell`, `GRUCell` and `SimpleRNNCell` with cuDNN, under its conditions.

    Parameters
    ----------
    device : str
        Where tensors have to be.
    """

    name = "cudnn"

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def prepare(self, call: Call) -> Run | Refusal:
        """Return what runs the call, or why this backend cannot."""
        reasons = reasons_of(call, self.device)
        first = next(reasons, None)
        return partial(self.run, call) if first is None else Refusal(chain([first], reasons))

    def run(self, call: Call) -> Result:
        """Run a call."""
        if isinstance(call.cell, WithStates):  # of a cell whose output is its state
            outputs, final = self.run(replace(call, cell=call.cell.cell))
            return Result((outputs, outputs), final)
        schedule = call.schedule
        if not schedule.order:
            return ReferenceBackend().run(call)  # no step to compute: zeros and the initial state, in the graph
        mask = None if call.row_inputs is None else call.row_inputs["input"]
        states = leaves_of(call.initial_state)
        if schedule.dense and not schedule.ragged:
            tokens = call.inputs.flip(0) if schedule.reverse else call.inputs
            outputs, *finals = _run_kernel(call.cell, tokens if mask is None else tokens * mask, states, [])
            outputs = outputs.flip(0) if schedule.reverse else outputs
        else:
            packing = schedule.packing
            tokens = call.inputs.flatten(0, 1).index_select(0, packing.positions)
            tokens = tokens if mask is None else tokens * mask.index_select(0, packing.row_of_token)
            starts = [state.index_select(0, packing.rows) for state in states]
            packed, *ends = _run_kernel(call.cell, tokens, starts, packing.batch_sizes)
            places, size = schedule.shape, packed.shape[1]
            empty = packed.new_zeros((places[0] * places[1], size))
            outputs = empty.index_copy(0, packing.positions, packed).view(*places, size)
            finals = [state.index_copy(0, packing.rows, end) for state, end in zip(states, ends, strict=True)]
        final_state = same_kind(tuple(finals), call.initial_state) if len(finals) > 1 else finals[0]
        return Result(outputs, final_state)


def _run_kernel(cell: Any, tokens: Tensor, states: list[Tensor], batch_sizes: list[int]) -> list[Tensor]:
    """Run cuDNN forward in time.

    Parameters
    ----------
    cell : LSTMCell, GRUCell or SimpleRNNCell
    tokens : Tensor of shape (T, B, I), or packed (N, I)
    states : list of Tensor of shape (B, size), or (R, size) where valid steps are packed
    batch_sizes : list of int
        See `Packing`; empty where valid steps are not packed.

    Returns
    -------
    list of Tensor
        Outputs in the form of the valid steps, then the final states.
    """
    own, device = states[0].dtype, tokens.device.type
    bias_hh = torch.zeros_like(cell.bias_ih) if cell.bias_hh is None else cell.bias_hh
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, bias_hh]
    proj_size = getattr(cell, "proj_size", 0)
    weights += [cell.weight_hr] if proj_size else []
    narrow = None if own == torch.float64 else autocast_dtype(device)  # which autocast leaves as it is
    dtype = own if narrow is None else narrow
    # As the states are kept in the dtype that they came in, so do the outputs, on this backend as on the others.
    with nullcontext() if narrow is None else torch.autocast(device, enabled=False), torch.cuda.device_of(tokens):
        h, *c = [state.unsqueeze(0).to(dtype).contiguous() for state in states]
        weights = [weight.to(dtype).contiguous() for weight in weights]
        tokens = tokens.to(dtype)
        sizes = cell.hidden_size, proj_size, 1, False  # one layer, time-major
        mode = _mode(cell)
        with torch.no_grad():  # cuDNN wants its weights in one piece; clones, since these tensors are moved there
            clones = [weight.clone() for weight in weights]
            flat = _VF._cudnn_rnn_flatten_weight(clones, len(weights), tokens.shape[-1], mode, *sizes, False)
        given = tokens, h, *c, *weights
        # Not whether the cell is in training: what the backward pass needs is kept where there may be one.
        training = torch.is_grad_enabled() and any(t.requires_grad for t in given)
        output, *finals = _VF._cudnn_rnn(
            tokens, weights, len(weights), flat, h, c[0] if c else None, mode, *sizes, 0.0, training, False,
            batch_sizes, None,
        )[: 2 + len(c)]  # fmt: skip
    return [output.to(own), *(final.squeeze(0).to(own) for final in finals)]


def _mode(cell: Any) -> int:
    if isinstance(cell, LSTMCell):
        return LSTM
    if isinstance(cell, GRUCell):
        return GRU
    return RELU if activation(cell.activation) is torch.relu else TANH
