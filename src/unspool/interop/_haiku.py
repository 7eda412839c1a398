"""Convert from and to the parameters of Haiku's recurrent cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unspool.cells import BuiltinCell
from unspool.interop._conventions import (
    CELLS,
    PLAIN_LSTM,
    as_array,
    as_tensor,
    builtin_cell_of,
    joined_bias,
    kind_of,
    require,
    split_joint,
    to_ours,
    to_theirs,
    with_parameters,
)

RUN_TIME_FORGET_BIAS = 1.0


def from_haiku(params: Mapping[str, Mapping[str, Any]], name: str) -> BuiltinCell:
    """Convert the parameters of one Haiku core; the names of its modules tell the kind of core.

    | core | modules | how it differs |
    | --- | --- | --- |
    | `hk.LSTM` | `{name}/linear`: w [I + H, 4H], b | gates i, g, f, o; adds 1 to f at run time: so does the cell here |
    | `hk.GRU` | `{name}`: w_i [I, 3H], w_h [H, 3H], b | gates z, r, a; its z is our 1 - z, so z's weights are negated |
    | `hk.VanillaRNN` | `{name}/linear`, `{name}/linear_1` | the activation is relu |

    Parameters
    ----------
    params : mapping
        All parameters, as `hk.transform(...).init` returns them.
    name : str
        The core's module, such as `"lstm"` or `"agent/~/gru"`.

    Returns
    -------
    LSTMCell with `forget_bias=1.0`, GRUCell with `reset_after=False`, or SimpleRNNCell with relu

    Raises
    ------
    ValueError
        If there is no such core, or the shapes do not fit.
    TypeError
        If an array does not hold floating-point numbers.
    """
    modules = {
        path.removeprefix(name): {key: as_tensor(array, f"{path}/{key}") for key, array in entry.items()}
        for path, entry in params.items()
        if path in (name, f"{name}/linear", f"{name}/linear_1")
    }
    found = {path: modules[path].keys() for path in modules}
    if found == {"": {"w_i", "w_h", "b"}}:
        return _gru(modules[""])
    if found == {"/linear": {"w", "b"}}:
        return _lstm(modules["/linear"])
    if found.keys() == {"/linear", "/linear_1"} and found["/linear"] == {"w", "b"} and "w" in found["/linear_1"]:
        return _vanilla(modules["/linear"], modules["/linear_1"])
    raise ValueError(
        f"{name!r} is not the name of an LSTM, a GRU or a VanillaRNN in these parameters. Received the modules "
        f"{', '.join(sorted(params))}; expected {name}/linear with w and b, or {name} with w_i, w_h and b."
    )


def _lstm(linear: Mapping[str, Tensor]) -> BuiltinCell:
    hidden_size = linear["b"].shape[0] // 4
    w_i, w_h = split_joint(linear["w"], hidden_size)
    parameters = {
        "weight_ih": to_ours("haiku", "lstm", w_i),
        "weight_hh": to_ours("haiku", "lstm", w_h),
        "bias_ih": to_ours("haiku", "lstm", linear["b"]),
    }
    options = {"recurrent_bias": False, "forget_bias": RUN_TIME_FORGET_BIAS}
    return with_parameters(lambda: CELLS["lstm"](w_i.shape[0], hidden_size, **options), parameters)


def _gru(core: Mapping[str, Tensor]) -> BuiltinCell:
    parameters = {
        "weight_ih": to_ours("haiku", "gru", core["w_i"]),
        "weight_hh": to_ours("haiku", "gru", core["w_h"]),
        "bias_ih": to_ours("haiku", "gru", core["b"]),
    }
    options = {"recurrent_bias": False, "reset_after": False}
    return with_parameters(lambda: CELLS["gru"](*core["w_i"].shape[:1], *core["w_h"].shape[:1], **options), parameters)


def _vanilla(inputs: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> BuiltinCell:
    parameters = {"weight_ih": inputs["w"].T, "weight_hh": hidden["w"].T, "bias_ih": inputs["b"]}
    parameters |= {"bias_hh": hidden["b"]} if "b" in hidden else {}
    options = {"recurrent_bias": "b" in hidden, "activation": "relu"}
    return with_parameters(lambda: CELLS["rnn"](*inputs["w"].shape, **options), parameters)


def to_haiku(module: nn.Module, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Return the parameters of a cell as those of the Haiku core of its kind.

    Where Haiku has one bias, both are added, and so is any `forget_bias` beyond Haiku's 1.

    Parameters
    ----------
    module : LSTMCell, GRUCell or SimpleRNNCell, or a layer of one of them
        One layer, one direction.
    name : str
        The core's module: see `from_haiku`.

    Returns
    -------
    dict
        NumPy arrays by module and parameter, as in `from_haiku`.

    Raises
    ------
    TypeError
        If it is another module, or the weights are bfloat16.
    ValueError
        If it has options that Haiku's cores lack: other activations, a peephole, `reset_after=True`, ...
    """
    cell = builtin_cell_of(module)
    kind = kind_of(cell)
    activation = "relu" if kind == "rnn" else "tanh"
    require(cell, "Haiku", activation=activation, recurrent_activation="sigmoid", reset_after=False, **PLAIN_LSTM)
    if kind == "rnn":
        zeros = cell.weight_ih.new_zeros(cell.hidden_size)
        linear = {"w": cell.weight_ih.T, "b": zeros if cell.bias_ih is None else cell.bias_ih}
        linear_1 = {"w": cell.weight_hh.T} | ({} if cell.bias_hh is None else {"b": cell.bias_hh})
        modules = {f"{name}/linear": linear, f"{name}/linear_1": linear_1}
    else:
        w_i, w_h = (to_theirs("haiku", kind, weight) for weight in (cell.weight_ih, cell.weight_hh))
        b = to_theirs("haiku", kind, joined_bias(cell, RUN_TIME_FORGET_BIAS))
        joint = {f"{name}/linear": {"w": torch.cat([w_i, w_h]), "b": b}}
        modules = joint if kind == "lstm" else {name: {"w_i": w_i, "w_h": w_h, "b": b}}
    return {path: {key: as_array(value) for key, value in entry.items()} for path, entry in modules.items()}
