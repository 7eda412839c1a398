"""Convert from and to the variables of TensorFlow 1's `rnn_cell.*`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unspool.cells import BuiltinCell, StackedRNNCells
from unspool.interop._conventions import (
    CELLS,
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
from unspool.layers import RNN

SCOPES = {
    "basic_rnn_cell": "rnn",
    "cudnn_compatible_lstm_cell": "lstm",
    "basic_lstm_cell": "lstm",
    "lstm_cell": "lstm",
    "gru_cell": "gru",
}
"""The scopes that TensorFlow gives its cells, and their kinds; the last one of a kind is the one that we write."""
FORGET_BIAS = {"cudnn_compatible_lstm_cell": 0.0}
"""What TensorFlow's cells add to the forget gate at run time where they were not told: 1, but for those here."""
OTHER_STEPS = {"coupled_input_forget_gate_lstm_cell": "the input gate is coupled to the forget gate, in 3 H columns"}
"""Cells whose variables have the names of another cell's, and mean something else."""
PEEPHOLES = {f"w_{gate}_diag": f"peephole_{gate}" for gate in "ifo"}
VARIABLES = (
    *("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"),
    *("projection/kernel", "kernel", "bias", *PEEPHOLES),
)


def from_tensorflow1(
    variables: Mapping[str, Any] | str | os.PathLike[str],
    scope: str,
    kind: str | None = None,
    *,
    forget_bias: float | None = None,
    activation: str = "tanh",
    cell_clip: float | None = None,
    proj_clip: float | None = None,
) -> nn.Module:
    """Convert the variables of a TensorFlow 1 cell, or of the cells of a `MultiRNNCell`.

    | cell | variables | how it differs |
    | --- | --- | --- |
    | `BasicRNNCell` | `kernel` [I + H, H], `bias` | |
    | `BasicLSTMCell`, `LSTMCell` | `kernel` [I + P, 4H], `bias`, `w_i_diag`, `projection/kernel` | gates i, j, f, o |
    | `CudnnCompatibleLSTMCell` | `kernel` [I + H, 4H], `bias` | adds no forget bias |
    | `GRUCell` | `gates/kernel` [I + H, 2H], `candidate/kernel` [I + H, H], biases | resets before the product |

    The kernels multiply the concatenation of inputs and state. `forget_bias` is not a variable: TensorFlow adds it at
    run time, and so does the cell here. TensorFlow's LSTM state is (c, h); here it is (h, c). Names below `scope` that
    no cell has are refused, except the slots of optimizers, `kernel/Adam`.

    Parameters
    ----------
    variables : mapping of str to array, or path
        By name, with or without `:0`; or a checkpoint, for which TensorFlow must be installed.
    scope : str
        The scope of the cell, `"rnn/lstm_cell"`, or a scope around it, `"rnn"`, `"bidirectional_rnn/fw"`,
        `"rnn/multi_rnn_cell"`.
    kind : {"rnn", "lstm", "gru"}, optional
        Inferred from TensorFlow's own scopes (`basic_lstm_cell`, ...); required for others.
    forget_bias : float, optional
        The value an LSTM was built with, which is not among the variables. TensorFlow's default by default: 1.0, and
        0.0 in a scope `cudnn_compatible_lstm_cell`.
    activation, cell_clip, proj_clip
        The values the cells were built with. Clips are for LSTMs.

    Returns
    -------
    SimpleRNNCell, LSTMCell or GRUCell; or StackedRNNCells
        Run it with `dynamic_rnn`, or as `RNN(cell)`.

    Raises
    ------
    ValueError
        If there is no cell in that scope, or more than one without a `MultiRNNCell`, or its kind is unknown or has no
        counterpart, or shapes do not match.
    TypeError
        If a variable does not hold floating-point numbers.
    ImportError
        If a checkpoint is given and TensorFlow is not installed.
    """
    if isinstance(variables, Mapping):
        names, read = list(variables), variables.__getitem__
    else:
        names, read = _open_checkpoint(variables)
    found = _cells_below(names, scope)
    cells = []
    for prefix, own in found.items():
        tensors = {variable: as_tensor(read(name), name) for variable, name in own.items()}
        theirs = _name_of_scope(prefix)
        if theirs in OTHER_STEPS:
            raise ValueError(
                f"{prefix!r} is the scope of a cell whose step is another one ({OTHER_STEPS[theirs]}); expected the "
                f"cells {', '.join(SCOPES)}. Fill the parameters of a cell of ours by hand."
            )
        bias = FORGET_BIAS.get(theirs, 1.0) if forget_bias is None else forget_bias
        lstm = {"forget_bias": bias, "cell_clip": cell_clip, "proj_clip": proj_clip}
        one = kind or _kind_of_scope(prefix, tensors)
        cells.append(_cell(one, tensors, activation, lstm if one == "lstm" else {}))
    return cells[0] if len(cells) == 1 else StackedRNNCells(cells)


def parameters_of(kind: str, weights: Mapping[str, Tensor], output_size: int) -> dict[str, Tensor]:
    """Return a cell's variables as our parameters; gradients convert the same way."""
    if kind == "gru":
        kernel = torch.cat([weights["gates/kernel"], weights["candidate/kernel"]], -1)
        bias = torch.cat([weights["gates/bias"], weights["candidate/bias"]])
    else:
        kernel, bias = weights["kernel"], weights["bias"]
    inputs, hidden = split_joint(kernel, output_size)
    parameters = {
        "weight_ih": to_ours("tensorflow1", kind, inputs),
        "weight_hh": to_ours("tensorflow1", kind, hidden),
        "bias_ih": to_ours("tensorflow1", kind, bias),
    }
    parameters |= {ours: weights[theirs] for theirs, ours in PEEPHOLES.items() if theirs in weights}
    return parameters | ({"weight_hr": weights["projection/kernel"].T} if "projection/kernel" in weights else {})


def _cell(kind: str, weights: Mapping[str, Tensor], activation: str, options: dict[str, Any]) -> BuiltinCell:
    if kind not in CELLS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(CELLS)}.")
    needed = (
        {"gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"} if kind == "gru" else {"kernel", "bias"}
    )
    optional = {"projection/kernel", *PEEPHOLES} if kind == "lstm" else set()
    if not needed <= weights.keys() <= needed | optional:
        raise ValueError(
            f"received the variables {', '.join(sorted(weights))} for a cell of kind {kind!r}; expected "
            f"{', '.join(sorted(needed))}{' and perhaps ' * bool(optional)}{', '.join(sorted(optional))}."
        )
    bias = weights["candidate/bias" if kind == "gru" else "bias"]
    hidden_size = bias.shape[0] // (4 if kind == "lstm" else 1)
    projection = weights.get("projection/kernel")
    output_size = hidden_size if projection is None else projection.shape[1]
    parameters = parameters_of(kind, weights, output_size)
    options = {"activation": activation, "recurrent_bias": False, **options}
    if kind == "lstm":
        options |= {"peephole": not PEEPHOLES.keys().isdisjoint(weights)}
        options |= {"proj_size": 0 if projection is None else output_size}
    if kind == "gru":
        options |= {"reset_after": False}
    return with_parameters(lambda: CELLS[kind](parameters["weight_ih"].shape[1], hidden_size, **options), parameters)


def _cells_below(names: Iterable[str], scope: str) -> dict[str, dict[str, str]]:
    """Return the names of each cell's variables below a scope, by the cell's own scope, lowest cell first."""
    clean = {name.removesuffix(":0"): name for name in names}
    below = [name for name in clean if name.startswith(f"{scope}/")]
    cells: dict[str, dict[str, str]] = {}
    for name in below:
        # Longer names come first: `gates/kernel` is no `kernel`.
        variable = next((variable for variable in VARIABLES if name.endswith(f"/{variable}")), None)
        if variable is not None:
            cells.setdefault(name.removesuffix(f"/{variable}"), {})[variable] = clean[name]
    known = [f"{prefix}/{variable}" for prefix, own in cells.items() for variable in own]
    strange = sorted(name for name in below if not any(name == one or name.startswith(f"{one}/") for one in known))
    places = {prefix: re.search(r"(?:^|/)cell_(\d+)(?:/|$)", prefix) for prefix in cells}
    layers = [int(place[1]) for place in places.values() if place]
    stacked = len(layers) == len(cells) and sorted(layers) == list(range(len(cells)))
    if not cells or strange or (len(cells) > 1 and not stacked):
        kernels = sorted(name.rpartition("/")[0] for name in clean if name.endswith("/kernel"))
        raise ValueError(
            f"{scope!r} is not the scope of one cell or one MultiRNNCell. Received the cells {sorted(cells)} and the "
            f"other variables {strange} below it; expected variables named {', '.join(VARIABLES)}. There are kernels "
            f"in the scopes {', '.join(kernels)}."
        )
    return dict(sorted(cells.items(), key=lambda item: int(place[1]) if (place := places[item[0]]) else 0))


def _name_of_scope(prefix: str) -> str:
    """Return the name that TensorFlow gave a cell's scope, without the number of a second one."""
    return re.sub(r"_\d+$", "", prefix.rpartition("/")[2])


def _kind_of_scope(prefix: str, weights: Iterable[str]) -> str:
    name = _name_of_scope(prefix)
    if "gates/kernel" in weights:
        return "gru"
    if name not in SCOPES:
        raise ValueError(
            f"the scope {prefix!r} does not tell the kind of its cell; expected a scope that ends in one of "
            f"{', '.join(SCOPES)}. Give it: kind='rnn', 'lstm' or 'gru'."
        )
    return SCOPES[name]


def _open_checkpoint(path: str | os.PathLike[str]) -> tuple[list[str], Callable[[str], Any]]:
    """Return the names of the variables in a checkpoint, and a function that reads one."""
    try:
        import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ModuleNotFoundError as error:
        raise ImportError(
            f"reading the checkpoint {os.fspath(path)!r} needs tensorflow, which is not installed. Install it, or turn "
            "the checkpoint into arrays where it is, and pass np.load('variables.npz') instead of the path:\n"
            "  reader = tf.train.load_checkpoint(path)\n"
            "  names = reader.get_variable_to_shape_map()\n"
            "  np.savez('variables.npz', **{name: reader.get_tensor(name) for name in names})"
        ) from error
    reader = tf.train.load_checkpoint(os.fspath(path))
    return list(reader.get_variable_to_shape_map()), reader.get_tensor


def to_tensorflow1(module: nn.Module, scope: str) -> dict[str, np.ndarray]:
    """Return the parameters of a cell, or of stacked cells, as TensorFlow 1's variables.

    Both biases are added; missing biases become zeros. Build TensorFlow's cell with the activation, the clips and the
    `forget_bias` of the cell here.

    Parameters
    ----------
    module : SimpleRNNCell, LSTMCell, GRUCell, or a layer of one of them; or StackedRNNCells, or RNN of it
    scope : str
        Of the cell, `"rnn/lstm_cell"`, or of the `MultiRNNCell`, `"rnn/multi_rnn_cell"`.

    Returns
    -------
    dict of array
        By name, without `:0`. Cell k of a stack is in `{scope}/cell_{k}/lstm_cell` (`gru_cell`, `basic_rnn_cell`).

    Raises
    ------
    TypeError
        If it is another module, or the weights are bfloat16.
    ValueError
        If it has options that TensorFlow's cells lack: `reset_after=True`, another recurrent activation, ...
    """
    require(module, "TensorFlow 1", learn_initial_state=False)
    stack = module.cell if isinstance(module, RNN) else module
    if isinstance(stack, StackedRNNCells):
        names = {kind: name for name, kind in SCOPES.items()}
        variables: dict[str, np.ndarray] = {}
        for index, cell in enumerate(stack.cells):
            variables |= to_tensorflow1(cell, f"{scope}/cell_{index}/{names[kind_of(builtin_cell_of(cell))]}")
        return variables
    cell = builtin_cell_of(module)
    kind = kind_of(cell)
    require(cell, "TensorFlow 1", recurrent_activation="sigmoid", reset_after=False, coupled=False)
    kernel = torch.cat([to_theirs("tensorflow1", kind, weight) for weight in (cell.weight_ih, cell.weight_hh)])
    bias = to_theirs("tensorflow1", kind, joined_bias(cell, getattr(cell, "forget_bias", 0.0)))
    if kind == "gru":
        gates = 2 * cell.hidden_size
        tensors = {"gates/kernel": kernel[:, :gates], "gates/bias": bias[:gates]}
        tensors |= {"candidate/kernel": kernel[:, gates:], "candidate/bias": bias[gates:]}
    else:
        tensors = {"kernel": kernel, "bias": bias}
        own = cell._parameters
        tensors |= {theirs: value for theirs, ours in PEEPHOLES.items() if (value := own.get(ours)) is not None}
        if (projection := own.get("weight_hr")) is not None:
            tensors["projection/kernel"] = projection.T
    return {f"{scope}/{name}": as_array(tensor) for name, tensor in tensors.items()}
