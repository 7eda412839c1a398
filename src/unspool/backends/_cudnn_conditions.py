"""What cuDNN can run: the published conditions, and those that follow from how a call is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspool._modes import autocast_dtype, is_transformed
from unspool._nest import describe, leaves_of
from unspool._reason import Reason
from unspool.backends.base import SEVERAL_DTYPES, TO_FLOAT, UNLISTED, Call
from unspool.cells import (
    GRUCell,
    LSTMCell,
    ResetCell,
    SimpleRNNCell,
    WithStates,
    activation,
    activation_name,
    around,
    inside,
)
from unspool.program.hooks import hook_reason

CELLS = (LSTMCell, GRUCell, SimpleRNNCell)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BUILD = "build {code} with what cuDNN has: tanh, sigmoid, biases, reset_after=True, nothing more"


def missing() -> str:
    """Return why there is no cuDNN to call, or nothing."""
    if torch.version.hip is not None or not torch.backends.cudnn.is_available():
        return "this PyTorch is built without cuDNN"
    return "" if torch.backends.cudnn.enabled else "cuDNN is switched off (torch.backends.cudnn.enabled is False)"


def reasons_of_cell(cell: Any) -> Iterator[Reason]:
    """Yield why cuDNN does not have the step of a cell.

    Parameters
    ----------
    cell : LSTMCell, GRUCell or SimpleRNNCell
    """
    phi = activation(cell.activation)
    known: dict[Any, str] = {torch.tanh: "tanh"}
    if type(cell) is SimpleRNNCell:
        known[torch.relu] = "relu"
    elif activation(cell.recurrent_activation) is not torch.sigmoid:
        name = activation_name(cell.recurrent_activation)
        yield Reason(f"the recurrent activation is {name}; cuDNN has sigmoid", _BUILD)
    if phi not in known:
        name = activation_name(cell.activation)
        yield Reason(f"the activation is {name}; cuDNN has {' and '.join(known.values())}", _BUILD)
    if not cell.bias:
        yield Reason("the cell has no bias; cuDNN has biases", _BUILD)
    if type(cell) is GRUCell and not cell.reset_after:
        yield Reason("reset_after is False; cuDNN resets after the recurrent product", _BUILD)
    if type(cell) is LSTMCell:
        for name in ("peephole", "coupled", "cell_clip", "proj_clip", "forget_bias"):
            if getattr(cell, name):
                yield Reason(f"{name} is {getattr(cell, name)}; cuDNN has none", _BUILD)
        if cell.proj_size >= cell.hidden_size:
            yield Reason(f"proj_size is {cell.proj_size}; cuDNN projects to less than hidden_size ({cell.hidden_size})")


def reasons_of_call(call: Call) -> Iterator[Reason]:
    """Yield why cuDNN cannot run one of its cells in this way.

    Parameters
    ----------
    call : Call
        Of a cell among `CELLS`.
    """
    if call.row_inputs is not None and "hidden" in call.row_inputs:
        dropout = inside(call.cell).recurrent_dropout
        yield Reason(f"recurrent_dropout is {dropout}, in training", "build {code} without recurrent_dropout")
    if call.static:
        yield Reason("the call is unrolled (static)", "build {code} with unroll=False")
    if not call.schedule.right_padded:
        yield Reason("the mask is not right-padded", "give {code} lengths in place of a mask with gaps")
    if isinstance(call.cell, WithStates) and type(inside(call.cell)) is LSTMCell:
        yield Reason("all states are wanted, and cuDNN gives the last c alone")


def reasons_of(call: Call, device_type: str) -> Iterator[Reason]:
    """Yield why cuDNN cannot run a call.

    Parameters
    ----------
    call : Call
    device_type : str
        Where the tensors should be.
    """
    resets = any(isinstance(cell, ResetCell) for cell in around(call.cell))
    cell, x = inside(call.cell), call.inputs[0] if resets else call.inputs
    yield from reasons_of_tensors(replace(call, inputs=x), device_type)
    if not call.schedule.listed:
        yield UNLISTED
        return
    if resets:
        yield Reason("there are resets")
        return
    if type(cell) not in CELLS:  # a subclass, too, may have another step
        yield Reason(f"the cell is {type(cell).__name__}; cuDNN has LSTMCell, GRUCell and SimpleRNNCell")
        return
    if not (isinstance(x, Tensor) and x.shape[2:] == (cell.input_size,)):
        yield Reason(f"the input is {describe(x)}; expected {cell.input_size} features")
    yield from reasons_of_cell(cell)
    yield from reasons_of_call(call)


def _tensors(call: Call) -> Iterator[Tensor]:
    yield from leaves_of(call.inputs)
    yield from leaves_of(call.initial_state)
    yield from (p for p in inside(call.cell)._parameters.values() if p is not None)


def reasons_of_tensors(call: Call, device_type: str) -> Iterator[Reason]:
    """Yield why cuDNN cannot run a call on its tensors, or in the surroundings that it is made in.

    Parameters
    ----------
    call : Call
    device_type : str
        Where the tensors should be.
    """
    away = next((t.device for t in _tensors(call) if t.device.type != device_type), None)
    if away is not None:
        yield Reason(f"tensors are on {away}, not on a CUDA device", of_device=True)
    if why := missing():
        yield Reason(why)
    dtypes = {t.dtype for t in _tensors(call)}
    if not dtypes <= {*DTYPES}:
        strange = ", ".join(sorted(map(str, dtypes - {*DTYPES})))
        yield Reason(f"there are tensors of {strange}; cuDNN has float16 to float64", TO_FLOAT)
    elif len(dtypes) > 1 and (torch.float64 in dtypes or autocast_dtype(device_type) is None):
        yield SEVERAL_DTYPES
    if is_transformed():
        yield Reason("a torch.func transform is active", "call {code} outside of torch.func's transforms")
    hooks = hook_reason(call.cell)
    if hooks:
        yield hooks
