"""Convert to Keras 3's recurrent layers and cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from unspool.cells import BuiltinCell, StackedRNNCells
from unspool.interop._conventions import (
    PLAIN_LSTM,
    as_array,
    builtin_cell_of,
    joined_bias,
    kind_of,
    require,
    to_theirs,
)
from unspool.interop._from_keras import ACTIVATIONS, NAMES
from unspool.layers import GRU, LSTM, RNN, Bidirectional, RecurrentLayer, SimpleRNN


class KerasLayer(NamedTuple):
    """A Keras layer or cell as plain data.

    Attributes
    ----------
    config : dict
        The result of `keras.layers.serialize`, for `keras.layers.deserialize`.
    weights : list of array
        In the order of `layer.get_weights()` and `layer.set_weights()`.
    """

    config: dict[str, Any]
    weights: list[np.ndarray]


def to_keras(module: nn.Module) -> KerasLayer:
    """Return a layer or cell as a Keras 3 layer's configuration and weights.

    Where Keras has one bias, both are added, and `forget_bias` is added to the forget gate's. A missing second bias of
    a GRU with `reset_after` becomes zeros.

    Parameters
    ----------
    module : SimpleRNN, LSTM, GRU, RNN, Bidirectional, StackedRNNCells, SimpleRNNCell, LSTMCell or GRUCell
        With one layer; `bidirectional=True` becomes a `Bidirectional`.

    Returns
    -------
    KerasLayer
        `layer = keras.layers.deserialize(config)`, `layer.build((None, None, I))`, with the size of batches first for
        a stateful layer, `layer.set_weights(weights)`.

    Raises
    ------
    TypeError
        If it is another module, or the weights are bfloat16.
    ValueError
        If it has options that Keras lacks: a peephole, a projection, several layers, `reverse`, ...
    """
    if isinstance(module, StackedRNNCells):
        cells = [to_keras(cell) for cell in module.cells]
        return _joined("StackedRNNCells", {"cells": [cell.config for cell in cells]}, *cells)
    if isinstance(module, Bidirectional):
        return _bidirectional(module)
    if isinstance(module, RecurrentLayer):
        return _layer(module)
    cell = builtin_cell_of(module)
    return KerasLayer(_named(f"{NAMES[kind_of(cell)]}Cell", _cell_config(cell)), _cell_weights(cell))


def _named(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}


def _joined(class_name: str, config: dict[str, Any], *parts: KerasLayer) -> KerasLayer:
    return KerasLayer(_named(class_name, config), [array for part in parts for array in part.weights])


def _bidirectional(module: Bidirectional) -> KerasLayer:
    if callable(module.merge_mode):
        raise ValueError("received a Bidirectional with a function as merge_mode; expected a name that Keras has.")
    if module.forward_layer.reverse:
        raise ValueError("received a Bidirectional whose forward layer is reversed; expected the backward layer to be.")
    directions = [_layer(layer, within=True) for layer in (module.forward_layer, module.backward_layer)]
    return _both(directions, module.merge_mode)


def _layer(layer: RecurrentLayer, within: bool = False) -> KerasLayer:
    """Serialise a layer, `within` a Bidirectional or not."""
    if layer.reverse and not layer.go_backwards and layer.return_sequences and not within:
        raise ValueError("received a layer with reverse=True; expected go_backwards=True, whose outputs Keras has.")
    require(layer, "Keras", learn_initial_state=False)
    options = {name: getattr(layer, name) for name in ("return_sequences", "return_state", "unroll", "stateful")}
    options["zero_output_for_mask"] = layer.pad_output == "zero" and layer.return_sequences
    if isinstance(layer, RNN):
        cell = to_keras(layer.cell)
        return _joined("RNN", {"cell": cell.config, "go_backwards": layer.reverse, **options}, cell)
    assert isinstance(layer, SimpleRNN | LSTM | GRU)
    if layer.num_layers > 1:
        raise ValueError(
            f"received {type(layer).__name__} with num_layers={layer.num_layers}; expected 1, as a Keras layer has. "
            "Build a layer for each."
        )
    directions = [
        KerasLayer(
            _named(NAMES[kind_of(cell)], {**_cell_config(cell), "go_backwards": backwards, **options}),
            _cell_weights(cell),
        )
        for cell, backwards in zip(layer.bound_cells(), layer._directions, strict=True)
    ]
    return directions[0] if len(directions) == 1 else _both(directions, "concat")


def _both(directions: list[KerasLayer], merge_mode: str | None) -> KerasLayer:
    forward, backward = directions
    config = {"layer": forward.config, "backward_layer": backward.config, "merge_mode": merge_mode}
    return _joined("Bidirectional", config, forward, backward)


def _cell_config(cell: BuiltinCell) -> dict[str, Any]:
    kind = kind_of(cell)
    require(cell, "Keras", shared_over_batch=False, **PLAIN_LSTM)
    names = ["activation"] if kind == "rnn" else ["activation", "recurrent_activation"]
    for name in names:
        if getattr(cell, name) not in ACTIVATIONS:
            raise ValueError(
                f"{type(cell).__name__} has {name}={getattr(cell, name)!r}; expected one of {', '.join(ACTIVATIONS)}, "
                "which mean the same in Keras."
            )
    config = {name: getattr(cell, name) for name in (*names, "dropout", "recurrent_dropout")}
    config |= {"units": cell.hidden_size, "use_bias": _has_bias(cell)}
    config |= {"reset_after": cell.reset_after} if kind == "gru" else {}
    return config | {"dtype": str(cell.weight_ih.dtype).removeprefix("torch.")}


def _cell_weights(cell: BuiltinCell) -> list[np.ndarray]:
    kind = kind_of(cell)
    weights = [to_theirs("keras", kind, weight) for weight in (cell.weight_ih, cell.weight_hh)]
    if _has_bias(cell) and getattr(cell, "reset_after", False):
        # The second bias is multiplied by the reset gate, so it stays apart.
        zeros = cell.weight_ih.new_zeros(3 * cell.hidden_size)
        rows = [zeros if bias is None else bias for bias in (cell.bias_ih, cell.bias_hh)]
        weights.append(torch.stack([to_theirs("keras", kind, row) for row in rows]))
    elif _has_bias(cell):
        weights.append(to_theirs("keras", kind, joined_bias(cell)))
    return [as_array(weight) for weight in weights]


def _has_bias(cell: BuiltinCell) -> bool:
    return cell.bias or bool(getattr(cell, "forget_bias", 0.0))
