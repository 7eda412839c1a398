"""Convert from and to the parameter trees of Flax's cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unspool.cells import BuiltinCell
from unspool.interop._conventions import (
    CELLS,
    ORDERS,
    PLAIN_LSTM,
    as_array,
    as_tensor,
    builtin_cell_of,
    joined_bias,
    kind_of,
    require,
    to_ours,
    to_theirs,
    with_parameters,
)

Tree = Mapping[str, Any]


def from_flax(params: Tree, *, activation: str = "tanh", recurrent_activation: str = "sigmoid") -> BuiltinCell:
    """Convert the parameters of one Flax cell; their names tell the kind of cell.

    | cell | tree |
    | --- | --- |
    | `linen.LSTMCell`, `OptimizedLSTMCell`; `nnx.LSTMCell` | `ii if ig io hi hf hg ho`, a bias in each `h.` |
    | `linen.GRUCell` | `ir iz in hr hz hn`, a bias in each `i.` and in `hn` |
    | `linen.SimpleCell` | `i h`, a bias in `i` |
    | `nnx.OptimizedLSTMCell`, `GRUCell`, `SimpleCell` | `dense_i dense_h`, all gates in one kernel |

    Every entry has a `kernel` [I, H] or [H, H], and possibly a `bias`. Flax's LSTM state is (c, h); here it is (h, c).
    A residual `SimpleCell` cannot be distinguished from a plain one, and has no counterpart here.

    Parameters
    ----------
    params : mapping
        The tree of the cell alone: `variables["params"]` of a linen cell, `variables["params"]["cell"]` of a
        `linen.RNN`, `nnx.state(cell, nnx.Param)`.
    activation, recurrent_activation : str
        The cell's `activation_fn` and `gate_fn`, which are not in the tree.

    Returns
    -------
    LSTMCell, GRUCell or SimpleRNNCell

    Raises
    ------
    ValueError
        If the names are not those of a cell above, or the shapes do not match.
    TypeError
        If an array does not hold floating-point numbers.
    """
    tree = {name.rstrip("_"): entry for name, entry in params.items()}  # nnx writes `if_`
    kind = next((kind for kind in CELLS if tree.keys() == set(_names(kind, "i") + _names(kind, "h"))), None)
    if kind is not None:
        sides = {side: _merge([_entry(tree, name) for name in _names(kind, side)]) for side in "ih"}
    elif tree.keys() == {"dense_i", "dense_h"}:
        sides = {side: _entry(tree, f"dense_{side}") for side in "ih"}
        kind = _kind_of_kernel(sides["h"]["kernel"])
    else:
        raise ValueError(
            f"received a tree with {sorted(params)}; expected the names of one cell: ii if ig io hi hf hg ho (LSTM), "
            "ir iz in hr hz hn (GRU), i h (SimpleCell), or dense_i dense_h. Pass the part of the tree below the cell."
        )
    converted = {side: {name: to_ours("flax", kind, value) for name, value in sides[side].items()} for side in "ih"}
    parameters = {f"weight_{side}h": converted[side]["kernel"] for side in "ih"}
    # Two biases stay two, as in a GRU; one of them is ours with the input, wherever it stands.
    biases = [converted[side]["bias"] for side in "ih" if "bias" in converted[side]]
    parameters |= dict(zip(("bias_ih", "bias_hh"), biases, strict=False))
    options = {} if kind == "rnn" else {"recurrent_activation": recurrent_activation}
    return with_parameters(
        lambda: CELLS[kind](
            parameters["weight_ih"].shape[1],
            parameters["weight_hh"].shape[1],
            bool(biases),
            activation=activation,
            recurrent_bias=len(biases) == 2,
            **options,
        ),
        parameters,
    )


def to_flax(module: nn.Module) -> dict[str, dict[str, np.ndarray]]:
    """Return the parameters of a cell as the tree of the linen cell of its kind, `nnx.LSTMCell`'s but for `if_`.

    Where Flax has one bias, both are added, and `forget_bias` is added to the forget gate's.

    Parameters
    ----------
    module : LSTMCell, GRUCell or SimpleRNNCell, or a layer of one of them
        One layer, one direction.

    Returns
    -------
    dict
        NumPy arrays by the names in `from_flax`, for `cell.apply({"params": tree}, carry, x)`.

    Raises
    ------
    TypeError
        If it is another module, or the weights are bfloat16.
    ValueError
        If it has options that Flax's cells lack: a peephole, a projection, `reset_after=False`, ...
    """
    cell = builtin_cell_of(module)
    kind = kind_of(cell)
    require(cell, "Flax", reset_after=True, **PLAIN_LSTM)
    kernels = _by_name(kind, "i", cell.weight_ih) | _by_name(kind, "h", cell.weight_hh)
    biases = _by_name(kind, "h" if kind == "lstm" else "i", joined_bias(cell))
    if kind == "gru":
        # The candidate's second bias is multiplied by the reset gate, so it stays apart.
        for name, bias in {"in": cell.bias_ih, "hn": cell.bias_hh}.items():
            absent = cell.weight_ih.new_zeros(3 * cell.hidden_size)
            biases[name] = _by_name(kind, name[0], absent if bias is None else bias)[name]
    return {
        name: {"kernel": as_array(kernel)} | ({"bias": as_array(biases[name])} if name in biases else {})
        for name, kernel in kernels.items()
    }


def _names(kind: str, side: str) -> list[str]:
    """Return linen's names of a cell's input ("i") or hidden ("h") part, in the order of the gates."""
    return [side] if kind == "rnn" else [side + gate for gate in ORDERS["flax"][kind]]


def _by_name(kind: str, side: str, parameter: Tensor) -> dict[str, Tensor]:
    """Cut a parameter of ours, [G H, ...], into Flax's entries, [..., H]."""
    names = _names(kind, side)
    return dict(zip(names, to_theirs("flax", kind, parameter).chunk(len(names), -1), strict=True))


def _entry(tree: Tree, name: str) -> dict[str, Tensor]:
    """Return the kernel, and the bias if there is one, of an entry of a tree."""
    entry = tree[name]
    if not isinstance(entry, Mapping) or not {"kernel"} <= entry.keys() <= {"kernel", "bias"}:
        received = sorted(entry) if isinstance(entry, Mapping) else type(entry).__name__
        raise ValueError(f"{name} holds {received}; expected a kernel, and a bias or none.")
    return {part: as_tensor(array, f"{name}/{part}") for part, array in entry.items()}


def _merge(entries: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join the entries of all gates; gates without a bias get zeros if others have one."""
    merged = {"kernel": torch.cat([entry["kernel"] for entry in entries], -1)}
    if any("bias" in entry for entry in entries):
        zeros = entries[0]["kernel"].new_zeros(entries[0]["kernel"].shape[-1])
        merged["bias"] = torch.cat([entry.get("bias", zeros) for entry in entries], -1)
    return merged


def _kind_of_kernel(kernel: Tensor) -> str:
    """Infer the kind of a cell from its recurrent kernel, [H, G H]."""
    hidden_size, columns = kernel.shape if kernel.dim() == 2 else (0, 0)
    for kind, gates in ORDERS["flax"].items():
        if columns == len(gates) * hidden_size > 0:
            return kind
    raise ValueError(
        f"dense_h has a kernel of shape {list(kernel.shape)}; expected [H, H] (SimpleCell), [H, 3 H] (GRU) or "
        "[H, 4 H] (LSTM)."
    )
