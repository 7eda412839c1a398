"""Store modules in safetensors files: the parameters, and in the header the class and its arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unspool._extra import needed
from unspool._reading import damage_as, parsed_json
from unspool._writing import write_whole
from unspool.interop._conventions import with_parameters
from unspool.interop._describe import build_module, describe_module

VERSION = "1"


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a layer or cell to a safetensors file, for `load`.

    Any reader of safetensors finds the state dict in it, under PyTorch's names. The file is written next to its
    destination and then moved, so it appears whole or not at all.

    Parameters
    ----------
    module : SimpleRNN, LSTM, GRU, RNN, Bidirectional, or a cell
        Cells: SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells, ResidualCell, HighwayCell.
    path : path
        The file. Its directory must exist.

    Raises
    ------
    TypeError
        If the module, or one inside it, is of another class (PyTorch makes one for parametrisations), or an argument is
        a function.
    ValueError
        If two parameters are the same, or the module is pruned.
    ImportError
        If safetensors is not installed: it is in the extra `interop`.
    """
    safetensors = needed("safetensors.torch", "saving a module", "interop")
    description = describe_module(module)
    parameters = list(module.named_parameters(remove_duplicate=False))
    shared = [name for name, one in parameters if sum(one is other for _, other in parameters) > 1]
    if shared:
        raise ValueError(
            f"{', '.join(shared)} are one parameter under several names, which a file does not keep; expected "
            "parameters that are not shared. Save the part that is shared, and put it in its places after loading."
        )
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with_parameters(lambda: build_module(description), tensors)  # what `load` will do
    data = safetensors.save(tensors, {"unspool": VERSION, "module": json.dumps(description)})
    write_whole(Path(path), data)


def load(path: str | os.PathLike[str]) -> nn.Module:
    """Load a layer or cell from a file written by `save`.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    Module
        On the CPU, in training mode, with the parameters bit for bit.

    Raises
    ------
    ValueError
        If the file is damaged, was not written by `save`, or was written by a later version of it.
    TypeError
        If it holds a parameter that is not floating-point.
    FileNotFoundError
        If there is no such file.
    ImportError
        If safetensors is not installed: it is in the extra `interop`.
    """
    safetensors = needed("safetensors", "loading a module", "interop")
    name = os.fspath(path)
    with (
        damage_as(
            ValueError,
            f"{name!r} is not a whole safetensors file",
            "expected one that save() wrote",
            passing=(FileNotFoundError,),
        ),
        safetensors.safe_open(name, framework="pt") as file,
    ):
        metadata: dict[str, Any] = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is not a mapping)
    if metadata.get("unspool") != VERSION:
        raise ValueError(
            f"{name!r} has the format {metadata.get('unspool', 'of another program')!r}; expected {VERSION!r}, which "
            "save() writes. Read other files with safetensors.torch.load_file and load_state_dict."
        )
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name!r}: {key} is of {tensor.dtype}; expected floating-point numbers.")
    with damage_as(ValueError, f"{name!r} does not describe a module"), torch.device("meta"):
        description = parsed_json(metadata["module"])
        _check_count(description, len(tensors))
        build_module(description)
    with damage_as(ValueError, f"{name!r} does not describe a module", passing=(TypeError,)):
        return with_parameters(lambda: build_module(description), tensors)


def _check_count(description: Any, tensors: int) -> None:
    """Refuse a description of more layers than the file has tensors, before any is built."""
    layers, parts = 0, [description]
    while parts and layers <= tensors:
        part = parts.pop()
        if isinstance(part, dict):
            arguments = part["arguments"]
            layers += arguments.get("num_layers", 1)
            parts += arguments.values()
        elif isinstance(part, list):
            parts += part
    if layers > tensors:
        raise ValueError(f"it is of more than {tensors:,} layers and cells, and there are {tensors:,} tensors")
