"""Read the recurrent layers of a `.keras` file without Keras."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from unspool._extra import needed
from unspool._reading import damage_as, open_archive, parsed_json
from unspool.interop._from_keras import NAMES, Activations, from_keras
from unspool.interop._hdf5 import Arrays

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
RECURRENT = (*NAMES.values(), "RNN", "Bidirectional")
MODELS = ("Sequential", "Functional")
VARIABLES = 3
"""What a cell has at most: two kernels and a bias."""


class KerasFile(NamedTuple):
    """The result of `load_keras`.

    Attributes
    ----------
    layers : dict of str to Module
        The recurrent layers by name, in the order of the model. A layer of a nested model is prefixed with that model's
        name: `"encoder/lstm"`.
    left_out : dict of str to str
        The kinds of all other layers, by name.
    """

    layers: dict[str, nn.Module]
    left_out: dict[str, str]


def load_keras(
    path: str | os.PathLike[str], names: Collection[str] | None = None, *, activations: Activations | None = None
) -> KerasFile:
    """Convert every recurrent layer of a Sequential or functional model saved by Keras 3.

    A `.keras` file is an archive of a configuration, which is read and never run, and an HDF5 file with the weights.
    References from the HDF5 file to other files are refused, as are archives and arrays of more than 64 times the size
    of the file (and 64 MiB).

    Parameters
    ----------
    path : path
        The file.
    names : collection of str, optional
        Convert only these layers, for example to skip one that cannot be converted.
    activations : mapping of str to callable, optional
        See `from_keras`, which lists how each option is converted.

    Returns
    -------
    KerasFile

    Raises
    ------
    ValueError
        If it is not such a file or is damaged, a name is missing, weights are stored in another file, or a recurrent
        layer cannot be converted: see `from_keras`.
    TypeError
        If weights are not floating-point numbers.
    FileNotFoundError
        If there is no such file.
    ImportError
        If h5py is not installed: it is in the extra `interop`.
    """
    h5py = needed("h5py", "reading a .keras file", "interop")
    called = repr(os.fspath(path))
    damage = f"{called} cannot be read as a .keras file"
    remedy = f"expected an archive of {CONFIG} and {WEIGHTS}, as model.save('name.keras') of Keras 3 writes it"
    with Path(path).open("rb") as file, damage_as(ValueError, damage, remedy):
        with open_archive(file) as archive:
            model, weights = parsed_json(archive.read(CONFIG)), archive.read(WEIGHTS)
        _check_class(model)
        found = {name: (layer, group) for name, layer, group in _layers(model, "", "layers")}
    recurrent = [name for name, (layer, _) in found.items() if layer["class_name"] in RECURRENT]
    missing = sorted(set(names or ()) - set(recurrent))
    if missing:
        raise ValueError(f"there is no recurrent layer {', '.join(missing)}; expected some of {', '.join(recurrent)}.")
    layers = {}
    with damage_as(ValueError, damage, remedy):
        opened = h5py.File(io.BytesIO(weights), "r")
    with opened:
        stored = Arrays(h5py, opened, len(weights))
        for name in recurrent if names is None else names:
            layer, group = found[name]
            try:
                with damage_as(ValueError, "its description is damaged", passing=(ValueError, TypeError)):
                    _check_name(stored, group, layer["config"]["name"])
                    arrays = [array for cell in _cells(layer, group) for array in _variables(stored, cell)]
                    layers[name] = from_keras(layer, arrays, activations=activations)
            except ValueError as error:
                raise ValueError(f"{called}, layer {name!r}: {error}") from error
    return KerasFile(layers, {name: layer["class_name"] for name, (layer, _) in found.items() if name not in recurrent})


def _check_class(model: Mapping[str, Any]) -> None:
    if model["class_name"] not in MODELS:
        raise ValueError(
            f"the model is a {model['class_name']}; expected one of {', '.join(MODELS)}. The layers of a model with a "
            "class of its own do not stand in its configuration: pass them to from_keras one by one."
        )


def _layers(model: Mapping[str, Any], prefix: str, group: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield name, configuration and HDF5 group of every layer of a model and of its nested models."""
    # Operations on tensors stand among the layers, and have no weights and no group.
    layers = [layer for layer in model["config"]["layers"] if not str(layer.get("module")).startswith("keras.src.ops")]
    for layer, key in zip(layers, _keys(layers), strict=True):
        name = prefix + layer["config"]["name"]
        if layer["class_name"] in MODELS:
            yield from _layers(layer, f"{name}/", f"{group}/{key}/layers")
        else:
            yield name, layer, f"{group}/{key}"


def _cells(layer: Mapping[str, Any], group: str) -> Iterator[str]:
    """Yield the HDF5 group of every cell in a layer, in the order of the layer's weights."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "Bidirectional":
        yield from _cells(config["layer"], f"{group}/forward_layer")
        yield from _cells(config.get("backward_layer") or config["layer"], f"{group}/backward_layer")
    elif kind == "RNN":
        yield from _cells(config["cell"], f"{group}/cell")
    elif kind == "StackedRNNCells":
        for cell, key in zip(config["cells"], _keys(config["cells"]), strict=True):
            yield from _cells(cell, f"{group}/cells/{key}")
    else:
        yield f"{group}/cell" if kind in RECURRENT else group


def _keys(layers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys under which Keras stores a list of layers: their kinds in snake case, numbered when repeated."""
    used: dict[str, int] = {}
    keys = []
    for layer in layers:
        kind = re.sub(r"\W+", "", layer["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
        count = used[kind] = used.get(kind, -1) + 1
        keys.append(f"{kind}_{count}" if count else kind)
    return keys


def _check_name(arrays: Arrays, group: str, name: str) -> None:
    """Refuse the weights of another layer: newer files store the names with the weights."""
    variables = arrays.find(f"{group}/vars")
    stored = name if variables is None else variables.attrs.get("name", name)
    if stored != name:
        raise ValueError(f"the weights at {group!r} are those of {stored!r}; expected {name!r}. Save the model again.")


def _variables(arrays: Arrays, group: str) -> list[np.ndarray]:
    """Return the variables of a cell in their order."""
    names = arrays.names(f"{group}/vars", most=VARIABLES)
    if not names:
        raise ValueError(f"there are no weights at {group!r}. Save the model after it has been built.")
    return [arrays.array(f"{group}/vars/{name}") for name in names]
