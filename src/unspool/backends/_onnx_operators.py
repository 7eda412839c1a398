"""ONNX's own operators LSTM, GRU and RNN, for the cells and options that they have.

Letters: B batch, T steps, I input size, H hidden size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from unspool._nest import leaves_of
from unspool.backends._traced_schedule import TracedSchedule
from unspool.backends.base import Call, Result
from unspool.cells import GRUCell, LSTMCell, LSTMState, SimpleRNNCell, activation
from unspool.program.hooks import hook_reason

OPERATORS: dict[type, str] = {
    LSTMCell: "LSTM",
    nn.LSTMCell: "LSTM",
    GRUCell: "GRU",
    nn.GRUCell: "GRU",
    SimpleRNNCell: "RNN",
    nn.RNNCell: "RNN",
}

ORDERS = {"LSTM": (LSTMCell.GATES, "iofg"), "GRU": (GRUCell.GATES, "zrn"), "RNN": (SimpleRNNCell.GATES, "h")}
"""For each operator its gates by our letters: in our order, which is PyTorch's, and in its own."""

_wanted: ContextVar[frozenset[str]] = ContextVar("unspool_onnx_operators", default=frozenset(ORDERS))

ACTIVATIONS: dict[Callable[..., Any], str] = {torch.tanh: "Tanh", torch.sigmoid: "Sigmoid", torch.relu: "Relu"}


@contextmanager
def onnx_operators(*names: str) -> Iterator[None]:
    """Use only these of ONNX's operators, in this thread, in what is exported inside of the `with` block.

    Parameters
    ----------
    *names : {"LSTM", "GRU", "RNN"}
        Other cells are exported as the operations of their step.
    """
    token = _wanted.set(frozenset(names))
    try:
        yield
    finally:
        _wanted.reset(token)


def has_operator(call: Call) -> bool:
    """Tell whether ONNX has an operator that does what a call asks for.

    Parameters
    ----------
    call : Call
    """
    cell, schedule = call.cell, call.schedule
    tensors = [*leaves_of(call.inputs), *leaves_of(call.initial_state), *cell.parameters()]
    return (
        OPERATORS.get(type(cell)) in _wanted.get()  # a subclass may compute anything, and resets stand around it
        and not hook_reason(cell)
        and not call.static  # promised: a graph without loops
        and call.row_inputs is None
        and isinstance(schedule, TracedSchedule)
        and (schedule.dense or schedule.right_padded_lengths is not None)
        and all(tensor.dtype == torch.float32 for tensor in tensors)  # ONNX Runtime has no other on the CPU
        and not (getattr(cell, "proj_size", 0) or getattr(cell, "cell_clip", None) or getattr(cell, "coupled", False))
        and all(function in ACTIVATIONS for function in _activations(cell))
    )


def _activations(cell: Any) -> list[Callable[..., Any]]:
    """Return the activations in ONNX's order: of the gates, of the candidate, and LSTM's of the memory cell."""
    if isinstance(cell, nn.RNNCell):
        return [activation(cell.nonlinearity)]
    phi = activation(getattr(cell, "activation", "tanh"))
    if isinstance(cell, SimpleRNNCell):
        return [phi]
    sigma = activation(getattr(cell, "recurrent_activation", "sigmoid"))
    return [sigma, phi, phi] if isinstance(cell, LSTMCell | nn.LSTMCell) else [sigma, phi]


def run_operator(call: Call) -> Result:
    """Put a call for which `has_operator` holds into the graph as one operator.

    Parameters
    ----------
    call : Call

    Returns
    -------
    Result
    """
    cell, schedule = call.cell, call.schedule
    assert isinstance(schedule, TracedSchedule)
    name = OPERATORS[type(cell)]
    lengths, size = schedule.right_padded_lengths, cell.hidden_size
    lstm = name == "LSTM"
    initial = leaves_of(call.initial_state)
    inputs = [
        call.inputs,
        _by_gate(cell, cell.weight_ih),
        _by_gate(cell, cell.weight_hh),
        _biases(cell),
        None if lengths is None else lengths.clamp(0, schedule.steps).to(torch.int32),
        *[leaf.unsqueeze(0) for leaf in initial],
    ]
    if getattr(cell, "peephole", False):
        inputs.append(torch.cat([cell.peephole_i, cell.peephole_o, cell.peephole_f]).unsqueeze(0))
    attributes: dict[str, Any] = {
        "hidden_size": size,
        "direction": "reverse" if schedule.reverse else "forward",
        "activations": [ACTIVATIONS[function] for function in _activations(cell)],
    }
    if name == "GRU":
        attributes["linear_before_reset"] = int(getattr(cell, "reset_after", True))
    shapes = [[schedule.steps, 1, schedule.batch, size], *[[1, schedule.batch, size]] * len(initial)]
    outputs, *final = torch.onnx.ops.symbolic_multi_out(
        name, inputs, attributes, dtypes=[torch.float32] * len(shapes), shapes=shapes
    )
    state = [leaf.squeeze(0) for leaf in final]
    if lengths is not None:  # ONNX Runtime gives zeros as the final state of sequences of length 0
        real = (lengths > 0).unsqueeze(1)
        state = [torch.where(real, leaf, start) for leaf, start in zip(state, initial, strict=True)]
    return Result(outputs.squeeze(1), LSTMState(*state) if lstm else state[0])


def _by_gate(cell: Any, weight: Tensor) -> Tensor:
    """Return a weight `[G H, ...]` as `[1, G H, ...]` with the gates in ONNX's order."""
    ours, theirs = ORDERS[OPERATORS[type(cell)]]
    size = len(weight) // len(ours)
    # Slices, and not chunks: ONNX's optimisers fold constants through operators of one output only.
    blocks = {gate: weight[k * size : (k + 1) * size] for k, gate in enumerate(ours)}
    return torch.cat([blocks[gate] for gate in theirs]).unsqueeze(0)


def _biases(cell: Any) -> Tensor:
    """Return both biases, zeros where there is none, as `[1, 2 G H]`."""
    zeros = cell.weight_hh.new_zeros(len(cell.weight_hh))
    of_input = zeros if cell.bias_ih is None else cell.bias_ih
    if getattr(cell, "forget_bias", 0.0):
        offset = torch.zeros_like(zeros)
        offset[cell.forget_gate] = cell.forget_bias
        of_input = of_input + offset
    of_state = zeros if cell.bias_hh is None else cell.bias_hh
    return torch.cat([_by_gate(cell, of_input), _by_gate(cell, of_state)], dim=1)
