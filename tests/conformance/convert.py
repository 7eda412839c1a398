"""Cells, weights and states of TensorFlow 1 and Keras 3 as this library's.

The functions on weights only move entries, so they take the gradient of a weight to that of the parameter just as
they take the weight to the parameter. Neither library has a second bias but Keras's GRU with `reset_after`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import unspool
from unspool import LSTMState

Weights = Mapping[str, Tensor]
Description = Mapping[str, Any]
"""A cell in the meta of a golden case: kind, hidden_size, options, direction, scope."""


def gates(array: Tensor, order: Sequence[int]) -> Tensor:
    """Put the gates, which lie along the last axis, in another order, and that axis first."""
    blocks = array.chunk(len(order), -1)
    return torch.cat([blocks[k] for k in order], -1).movedim(-1, 0)


# --- TensorFlow 1 ---


def tensorflow_parameters(cell: Description, weights: Weights) -> dict[str, Tensor]:
    """Split the kernels, which multiply inputs and state joined, and order the gates."""
    hidden_size, options = cell["hidden_size"], cell["options"]
    if cell["kind"] == "gru":
        parts = [weights["gates/kernel"], weights["candidate/kernel"]]
        kernel, order = torch.cat(parts, -1), (0, 1, 2)  # r, u, candidate: u is z
        bias = torch.cat([weights["gates/bias"], weights["candidate/bias"]])
    else:
        kernel, bias = weights["kernel"], weights["bias"]
        order = (0, 2, 1, 3) if cell["kind"] == "lstm" else (0,)  # i, j, f, o: j is g
    input_size = kernel.shape[0] - options.get("num_proj", hidden_size)
    parameters = {
        "weight_ih": gates(kernel[:input_size], order),
        "weight_hh": gates(kernel[input_size:], order),
        "bias_ih": gates(bias, order),
    }
    if "projection/kernel" in weights:
        parameters["weight_hr"] = weights["projection/kernel"].T
    peepholes = {f"peephole_{gate}": f"w_{gate}_diag" for gate in "ifo"}
    return parameters | {ours: weights[theirs] for ours, theirs in peepholes.items() if theirs in weights}


def tensorflow_cell(cell: Description, parameters: Weights, dtype: torch.dtype) -> nn.Module:
    """Build the cell and give it the parameters."""
    options = dict(cell["options"])
    keywords: dict[str, Any] = {"dtype": dtype, "recurrent_bias": False, "init": "torch"}
    keywords["activation"] = options.pop("activation", "tanh")
    if cell["kind"] == "lstm":
        keywords["forget_bias"] = options.pop("forget_bias", 1.0)
        keywords["peephole"] = options.pop("use_peepholes", False)
        keywords["proj_size"] = options.pop("num_proj", 0)
        keywords |= {name: options.pop(name, None) for name in ("cell_clip", "proj_clip")}
    if cell["kind"] == "gru":
        keywords["reset_after"] = False
    assert not options, f"options without a counterpart: {options}"
    kinds = {"rnn": unspool.SimpleRNNCell, "lstm": unspool.LSTMCell, "gru": unspool.GRUCell}
    made = kinds[cell["kind"]](parameters["weight_ih"].shape[1], cell["hidden_size"], **keywords)
    made.load_state_dict(dict(parameters))
    return made


def tensorflow_states(cells: Iterable[Description], leaves: Iterable[Tensor]) -> list[Any]:
    """One state for each cell from TensorFlow's leaves: c comes before h."""
    remaining = iter(leaves)
    return [
        LSTMState(c=next(remaining), h=next(remaining)) if cell["kind"] == "lstm" else next(remaining) for cell in cells
    ]


def tensorflow_leaves(states: Iterable[Any]) -> Iterator[Tensor]:
    """The leaves of states in TensorFlow's order."""
    for state in states:
        yield from (state.c, state.h) if isinstance(state, LSTMState) else (state,)


# --- Keras 3 ---


def keras_parameters(cell: Description, weights: Weights) -> dict[str, Tensor]:
    """Transpose the kernels and order the gates."""
    orders = {"SimpleRNN": (0,), "LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2)}  # i, f, c, o: c is g; z, r, h: h is n
    order = orders[cell["kind"]]
    parameters = {
        "weight_ih": gates(weights["kernel"], order),
        "weight_hh": gates(weights["recurrent_kernel"], order),
    }
    if "bias" not in weights:
        return parameters
    biases = weights["bias"].view(-1, weights["bias"].shape[-1])  # GRU with reset_after has two rows
    return parameters | {name: gates(bias, order) for name, bias in zip(("bias_ih", "bias_hh"), biases, strict=False)}


def keras_keywords(cell: Description) -> dict[str, Any]:
    """The keywords of the cell, and of the layer that goes with it."""
    options = dict(cell["options"])
    keywords: dict[str, Any] = {"bias": options.pop("use_bias", True)}
    keywords["recurrent_bias"] = options.get("reset_after", False)
    assert options.keys() <= {"activation", "recurrent_activation", "reset_after"}
    return keywords | options


def keras_states(cells: Iterable[Description], leaves: Iterable[Tensor]) -> list[Any]:
    """One state for each cell from Keras's leaves: h comes before c."""
    remaining = iter(leaves)
    return [
        LSTMState(h=next(remaining), c=next(remaining)) if cell["kind"] == "LSTM" else next(remaining) for cell in cells
    ]


def keras_leaves(states: Iterable[Any]) -> Iterator[Tensor]:
    """The leaves of states in Keras's order."""
    for state in states:
        yield from state if isinstance(state, LSTMState) else (state,)
