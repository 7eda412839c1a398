"""Cells, weights and states of TensorFlow 1 and Keras 3 as this library's.

The weights are moved by `unspool.interop`, whose functions on them only move entries, so that they take the gradient of
a weight to that of the parameter just as they take the weight to the parameter.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import unspool
from unspool import LSTMState
from unspool.interop import _from_keras, _tensorflow1

Weights = Mapping[str, Tensor]
Description = Mapping[str, Any]
"""A cell in the meta of a golden case: kind, hidden_size, options, direction, scope."""


# --- TensorFlow 1 ---


def tensorflow_parameters(cell: Description, weights: Weights) -> dict[str, Tensor]:
    """Weights, or their gradients, under the names of the parameters."""
    return _tensorflow1.parameters_of(cell["kind"], weights, cell["options"].get("num_proj", cell["hidden_size"]))


def tensorflow_cell(cell: Description, parameters: Weights, dtype: torch.dtype, place: int) -> nn.Module:
    """Return the cell with the parameters: one for all that are alike and have the same place, which is read once."""
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
    sizes = parameters["weight_ih"].shape[1], cell["hidden_size"]
    made = _tensorflow_cell(cell["kind"], *sizes, tuple(keywords.items()), place)
    made.load_state_dict(dict(parameters))
    return made


@cache
def _tensorflow_cell(kind: str, input_size: int, hidden_size: int, keywords: tuple[Any, ...], place: int) -> nn.Module:
    kinds: dict[str, Any] = {"rnn": unspool.SimpleRNNCell, "lstm": unspool.LSTMCell, "gru": unspool.GRUCell}
    return kinds[kind](input_size, hidden_size, **dict(keywords))


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
    """Weights, or their gradients, under the names of the parameters."""
    kernels = weights["kernel"], weights["recurrent_kernel"]
    return _from_keras.parameters_of(_from_keras.KINDS[cell["kind"]], *kernels, weights.get("bias"))


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
