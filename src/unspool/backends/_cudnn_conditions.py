"""What cuDNN can run: the published conditions, and those that follow from how a call is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspool._nest import describe, leaves_of
from unspool.backends.base import UNLISTED, Call
from unspool.cells import GRUCell, LSTMCell, ResetCell, SimpleRNNCell, WithStates, activation, around, inside
from unspool.cells._activations import activation_name
from unspool.program.hooks import hook_reason

CELLS = (LSTMCell, GRUCell, SimpleRNNCell)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def missing() -> str:
    """Return why there is no cuDNN to call, or nothing."""
    if torch.version.hip is not None or not torch.backends.cudnn.is_available():
        return "this PyTorch is built without cuDNN"
    return "" if torch.backends.cudnn.enabled else "cuDNN is switched off (torch.backends.cudnn.enabled is False)"


def reasons_of_cell(cell: Any) -> Iterator[str]:
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
        yield f"the recurrent activation is {activation_name(cell.recurrent_activation)}; cuDNN has sigmoid"
    if phi not in known:
        yield f"the activation is {activation_name(cell.activation)}; cuDNN has {' and '.join(known.values())}"
    if not cell.bias:
        yield "the cell has no bias; cuDNN has biases"
    if type(cell) is GRUCell and not cell.reset_after:
        yield "reset_after is False; cuDNN resets after the recurrent product"
    if type(cell) is LSTMCell:
        for name in ("peephole", "coupled", "cell_clip", "proj_clip", "forget_bias"):
            if getattr(cell, name):
                yield f"{name} is {getattr(cell, name)}; cuDNN has none"
        if cell.proj_size >= cell.hidden_size:
            yield f"proj_size is {cell.proj_size}; cuDNN projects to less than hidden_size ({cell.hidden_size})"


def reasons_of_call(call: Call) -> Iterator[str]:
    """Yield why cuDNN cannot run one of its cells in this way.

    Parameters
    ----------
    call : Call
        Of a cell among `CELLS`.
    """
    if call.row_inputs is not None and "hidden" in call.row_inputs:
        yield f"recurrent_dropout is {inside(call.cell).recurrent_dropout}, in training"
    if call.static:
        yield "the call is unrolled (static)"
    if not call.schedule.right_padded:
        yield "the mask is not right-padded"
    if isinstance(call.cell, WithStates) and type(inside(call.cell)) is LSTMCell:
        yield "all states are wanted, and cuDNN gives the last c alone"


def reasons_of(call: Call, device_type: str) -> Iterator[str]:
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
        yield "there are resets"
        return
    if type(cell) not in CELLS:  # a subclass, too, may have another step
        yield f"the cell is {type(cell).__name__}; cuDNN has LSTMCell, GRUCell and SimpleRNNCell"
        return
    if not (isinstance(x, Tensor) and x.shape[2:] == (cell.input_size,)):
        yield f"the input is {describe(x)}; expected {cell.input_size} features"
    yield from reasons_of_cell(cell)
    yield from reasons_of_call(call)


def _tensors(call: Call) -> Iterator[Tensor]:
    yield from leaves_of(call.inputs)
    yield from leaves_of(call.initial_state)
    yield from (p for p in inside(call.cell)._parameters.values() if p is not None)


def reasons_of_tensors(call: Call, device_type: str) -> Iterator[str]:
    """Yield why cuDNN cannot run a call on its tensors, or in the surroundings that it is made in.

    Parameters
    ----------
    call : Call
    device_type : str
        Where the tensors should be.
    """
    away = next((t.device for t in _tensors(call) if t.device.type != device_type), None)
    if away is not None:
        yield f"tensors are on {away}, not on a CUDA device"
    if why := missing():
        yield why
    dtypes = {t.dtype for t in _tensors(call)}
    if not dtypes <= {*DTYPES}:
        yield f"there are tensors of {', '.join(sorted(map(str, dtypes - {*DTYPES})))}; cuDNN has float16 to float64"
    elif len(dtypes) > 1 and (torch.float64 in dtypes or not torch.is_autocast_enabled(device_type)):
        yield "inputs, state and parameters have several dtypes"
    if torch._C._functorch.maybe_current_level() is not None:  # type: ignore[attr-defined]
        yield "a torch.func transform is active"
    hooks = hook_reason(call.cell)
    if hooks:
        yield hooks
