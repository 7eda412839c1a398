"""Describe a module as plain data: its class and the arguments it was built with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from unspool.cells import (
    GRUCell,
    HighwayCell,
    LSTMCell,
    ResidualCell,
    SimpleRNNCell,
    StackedRNNCells,
)
from unspool.layers import GRU, LSTM, RNN, Bidirectional, RecurrentLayer, RunOptions, SimpleRNN

CLASSES: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells, ResidualCell, HighwayCell),
        *(SimpleRNN, LSTM, GRU, RNN, Bidirectional),
    )
}
"""What can be described, by name."""

# `activation` says what `nonlinearity` does; the parameters themselves have a dtype and a device.
NOT_DESCRIBED = ("nonlinearity", "device", "dtype", "options")
OTHER_NAMES = {"input_dropout": "dropout", "layer": "forward_layer"}


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return a module's class and arguments in a form that fits JSON and that `build_module` inverts.

    Raises
    ------
    TypeError
        If the module, or one inside it, is not one of `CLASSES`, or an argument is a function.
    """
    kind = type(module)
    if CLASSES.get(kind.__name__) is not kind:
        raise TypeError(
            f"received {kind.__name__}; expected {', '.join(CLASSES)}. Save the state dict of another module, and "
            "build the module in code."
        )
    names = [name for name in inspect.signature(kind).parameters if name not in NOT_DESCRIBED]
    names += getattr(kind, "CELL_OPTIONS", ())
    arguments = {name: _argument(module, name) for name in names}
    if isinstance(module, RecurrentLayer):
        arguments |= {name: getattr(module, name) for name in RunOptions.__annotations__}
    return {"class": kind.__name__, "arguments": {name: _plain(name, value) for name, value in arguments.items()}}


def _argument(module: nn.Module, name: str) -> Any:
    """Return an argument of a module, from its cells if the layer does not keep it."""
    if isinstance(module, SimpleRNN | LSTM | GRU) and (name == "input_dropout" or not hasattr(module, name)):
        return getattr(module._cells[0][1], OTHER_NAMES.get(name, name))
    return getattr(module, OTHER_NAMES.get(name, name) if isinstance(module, Bidirectional) else name)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, nn.ModuleList):
        return [describe_module(one) for one in value]
    if isinstance(value, nn.Module):
        return describe_module(value)
    if callable(value):
        raise TypeError(f"{name} is the function {value!r}, which cannot be written down; expected a name.")
    return value


def build_module(description: Mapping[str, Any]) -> nn.Module:
    """Build a module as described.

    Raises
    ------
    ValueError
        If the class is unknown, or does not take these arguments.
    """
    kind = description.get("class")
    if kind not in CLASSES:
        raise ValueError(f"received a description of the class {kind!r}; expected one of {', '.join(CLASSES)}.")
    arguments = {name: _built(value) for name, value in description["arguments"].items()}
    try:
        return CLASSES[kind](**arguments)
    except TypeError as error:
        raise ValueError(
            f"received arguments that {kind} does not take: {error}. Was it written by a later version?"
        ) from error


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [build_module(one) for one in value]
    return build_module(value) if isinstance(value, Mapping) else value
