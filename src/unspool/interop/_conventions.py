"""Shared by the converters: the table of gate orders, and conversions between arrays and parameters.

Letters: I input size, H hidden size, G number of gates. Other libraries multiply inputs from the left, so their kernels
are [I, G H] where a parameter here is [G H, I].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unspool.cells import BuiltinCell, GRUCell, LSTMCell, SimpleRNNCell
from unspool.layers import GRU, LSTM, RNN, SimpleRNN

Module = TypeVar("Module", bound=nn.Module)

CELLS: dict[str, Any] = {"rnn": SimpleRNNCell, "lstm": LSTMCell, "gru": GRUCell}
"""The kinds of cells."""

ORDERS: dict[str, dict[str, str]] = {
    "unspool": {kind: cell.GATES for kind, cell in CELLS.items()},
    "keras": {"rnn": "h", "lstm": "ifgo", "gru": "zrn"},
    "tensorflow1": {"rnn": "h", "lstm": "igfo", "gru": "rzn"},
    "flax": {"rnn": "h", "lstm": "ifgo", "gru": "rzn"},
    "haiku": {"rnn": "h", "lstm": "igfo", "gru": "Zrn"},
}
"""The gates of each kind of cell in the order of each library, by the letters used here (PyTorch's).

A capital is a gate that stands for one minus ours: since 1 - sigmoid(a) = sigmoid(-a), its weights are negated.
"""


def to_ours(library: str, kind: str, array: Tensor) -> Tensor:
    """Convert a kernel or bias of another library, [..., G H], to the form of our parameters, [G H, ...]."""
    theirs = ORDERS[library][kind]
    if array.shape[-1] % len(theirs):
        raise ValueError(
            f"received a kernel or bias of shape {list(array.shape)}; expected a last axis that the {len(theirs)} "
            f"gates of a cell of kind {kind!r} divide. Check that these are the weights of such a cell."
        )
    parts = zip(theirs, array.chunk(len(theirs), -1), strict=True)
    blocks = {gate.lower(): -block if gate.isupper() else block for gate, block in parts}
    return torch.cat([blocks[gate] for gate in ORDERS["unspool"][kind]], -1).movedim(-1, 0)


def to_theirs(library: str, kind: str, parameter: Tensor) -> Tensor:
    """Undo `to_ours`."""
    ours = ORDERS["unspool"][kind]
    blocks = dict(zip(ours, parameter.detach().movedim(0, -1).chunk(len(ours), -1), strict=True))
    theirs = ORDERS[library][kind]
    return torch.cat([-blocks[gate.lower()] if gate.isupper() else blocks[gate] for gate in theirs], -1)


def as_tensor(array: Any, name: str) -> Tensor:
    """Copy an array of any library (or of none) to a tensor on the CPU."""
    if isinstance(array, Tensor):
        tensor = array.detach().cpu().clone()
    else:
        values = np.array(array)
        # NumPy has no bfloat16 of its own: JAX and TensorFlow bring one, which PyTorch does not know.
        brain = values.dtype.name == "bfloat16"
        try:
            tensor = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16) if brain else torch.from_numpy(values)
        except TypeError as error:
            raise TypeError(f"{name} is an array of {values.dtype}; expected floating-point numbers.") from error
    if not tensor.is_floating_point():
        raise TypeError(f"{name} is an array of {tensor.dtype}; expected floating-point numbers.")
    return tensor


def as_array(tensor: Tensor) -> np.ndarray:
    """Copy a tensor to a NumPy array."""
    if tensor.dtype == torch.bfloat16:
        raise TypeError("received bfloat16 weights, which NumPy has not; expected another dtype. Call .float() first.")
    return np.ascontiguousarray(tensor.detach().cpu().numpy()).copy()


def with_parameters(make: Callable[[], Module], parameters: Mapping[str, Tensor]) -> Module:
    """Build a module around copies of given parameters, with their dtype and device; nothing is drawn at random."""
    with torch.device("meta"):
        module = make()
    expected = {name: list(value.shape) for name, value in module.state_dict().items()}
    received = {name: list(value.shape) for name, value in parameters.items()}
    if received != expected:
        names = sorted(name for name in {*expected, *received} if expected.get(name) != received.get(name))
        different = ", ".join(
            f"{name} {received.get(name, 'missing')} (expected {expected.get(name, 'none')})" for name in names
        )
        raise ValueError(
            f"the weights do not make a {type(module).__name__}({module.extra_repr()}): received {different}. "
            "Check the kind of the cell, its sizes and options, and which weights are given."
        )
    dtypes = {value.dtype for value in parameters.values()}
    if len(dtypes) > 1:
        raise TypeError(f"the weights have the dtypes {sorted(map(str, dtypes))}; expected one. Convert them first.")
    copies = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in parameters.items()}
    module.load_state_dict(copies, assign=True)
    return module


def builtin_cell_of(module: nn.Module) -> BuiltinCell:
    """Return the single built-in cell of a layer, or the given cell."""
    require(module, "a cell", learn_initial_state=False)
    if isinstance(module, RNN):
        module = module.cell
    if isinstance(module, SimpleRNN | LSTM | GRU):
        cells = module.bound_cells()
        if len(cells) > 1:
            raise ValueError(
                f"received {type(module).__name__} with num_layers={module.num_layers} and bidirectional="
                f"{module.bidirectional}; expected one layer in one direction. Build a layer for each of them."
            )
        module = cells[0]
    if type(module) not in CELLS.values():
        raise TypeError(
            f"received {type(module).__name__}; expected SimpleRNNCell, LSTMCell or GRUCell, or a layer of one of them."
        )
    return module  # pyright: ignore[reportReturnType]


def kind_of(cell: BuiltinCell) -> str:
    """Return `"rnn"`, `"lstm"` or `"gru"`."""
    return next(kind for kind, made in CELLS.items() if type(cell) is made)


def require(cell: nn.Module, library: str, **expected: Any) -> None:
    """Refuse a module with options that another library lacks. Options that the module lacks are ignored."""
    for name, value in expected.items():
        if getattr(cell, name, value) != value:
            raise ValueError(
                f"{type(cell).__name__} has {name}={getattr(cell, name)!r}; expected {value!r}: {library} has nothing "
                "of that kind."
            )


PLAIN_LSTM: dict[str, Any] = {"peephole": False, "coupled": False, "proj_size": 0, "cell_clip": None}
"""Options of an LSTM that only TensorFlow 1 has, and `coupled`, which none has."""


def joined_bias(cell: BuiltinCell, added_at_run_time: float = 0.0) -> Tensor:
    """Return the sum of all biases of a cell: both vectors, and the forget bias minus what the other library adds."""
    parts = [bias.detach() for bias in (cell.bias_ih, cell.bias_hh) if bias is not None]
    bias = torch.stack(parts).sum(0) if parts else cell.weight_ih.new_zeros(cell.weight_ih.shape[0])
    if isinstance(cell, LSTMCell) and cell.forget_bias != added_at_run_time:
        bias[cell.forget_gate] += cell.forget_bias - added_at_run_time
    return bias


def split_joint(kernel: Tensor, output_size: int) -> tuple[Tensor, Tensor]:
    """Split a kernel that multiplies [x, h] into those of x and of h; the latter has `output_size` rows."""
    if kernel.dim() != 2 or kernel.shape[0] <= output_size:
        raise ValueError(
            f"received a kernel of shape {list(kernel.shape)}; expected one that multiplies inputs and "
            f"{output_size} hidden features joined. Check the kind of the cell."
        )
    inputs, hidden = kernel.split([kernel.shape[0] - output_size, output_size])
    return inputs, hidden
