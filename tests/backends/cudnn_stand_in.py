"""PyTorch's CPU kernels in the place of cuDNN's, so that all but these kernels is tested without a GPU."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import _VF, Tensor

from unspool.backends import _cudnn_conditions, dispatch
from unspool.backends.cudnn import CudnnBackend
from unspool.backends.reference import ReferenceBackend


def cudnn_rnn(
    input: Tensor, weight: list[Tensor], weight_stride0: int, weight_buf: Tensor, hx: Tensor, cx: Tensor | None,
    mode: int, hidden_size: int, proj_size: int, num_layers: int, batch_first: bool, dropout: float, train: bool,
    bidirectional: bool, batch_sizes: list[int], dropout_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute what cuDNN's kernel does, and require what it requires."""
    states = [hx] if cx is None else [hx, cx]
    assert len({t.dtype for t in (input, *weight, weight_buf, *states)}) == 1
    assert all(t.is_contiguous() for t in (*states, *weight))
    assert torch.equal(weight_buf, torch.cat([w.flatten() for w in weight]))
    # The backward pass "can only be called in training mode".
    assert train == (torch.is_grad_enabled() and any(t.requires_grad for t in (input, *weight, *states)))
    assert (num_layers, batch_first, dropout, bidirectional, dropout_state) == (1, False, 0.0, False, None)
    assert (cx is not None) == (mode == 2)
    assert len(weight) == weight_stride0 == (5 if proj_size else 4)
    rows = batch_sizes[0] if batch_sizes else input.shape[1]
    assert hx.shape == (1, rows, proj_size or hidden_size)
    assert cx is None or cx.shape == (1, rows, hidden_size)
    assert input.numel()
    assert not batch_sizes or (sorted(batch_sizes, reverse=True) == batch_sizes and min(batch_sizes) > 0)
    kernel = [_VF.rnn_relu, _VF.rnn_tanh, _VF.lstm, _VF.gru][mode]
    hidden = hx if cx is None else states
    options = weight, True, 1, 0.0, train, False
    # Packed in any case: PyTorch's kernel for batches of one length warns of projections.
    sizes = batch_sizes or [rows] * len(input)
    output, *finals = kernel(input.reshape(-1, input.shape[-1]), torch.tensor(sizes), hidden, *options)
    output = output if batch_sizes else output.view(len(input), rows, -1)
    h_n, c_n = finals if len(finals) > 1 else (finals[0], input.new_empty(0))
    return output, h_n, c_n, torch.empty(0, dtype=torch.uint8), weight_buf


def flatten_weight(
    weight_arr: list[Tensor], weight_stride0: int, input_size: int, mode: int, hidden_size: int, proj_size: int,
    num_layers: int, batch_first: bool, bidirectional: bool,
) -> Tensor:  # fmt: skip
    """Bring weights into one piece, and the tensors with them."""
    assert weight_arr[0].shape[1] == input_size
    assert weight_arr[1].shape[1] == (proj_size or hidden_size)
    assert (num_layers, batch_first, bidirectional) == (1, False, False)
    flat = torch.cat([w.flatten() for w in weight_arr])
    for weight, part in zip(weight_arr, flat.split([w.numel() for w in weight_arr]), strict=True):
        weight.set_(part.view_as(weight))  # type: ignore[call-overload]
    return flat


STAND_INS = {"_cudnn_rnn": cudnn_rnn, "_cudnn_rnn_flatten_weight": flatten_weight}


@pytest.fixture
def cudnn_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cuDNN backend take CPU tensors; beside it there is the reference backend alone."""
    for name, function in STAND_INS.items():
        monkeypatch.setattr(_VF, name, function)
    monkeypatch.setattr(_cudnn_conditions, "missing", lambda: "")
    monkeypatch.setattr(dispatch, "BACKENDS", (CudnnBackend("cpu"), ReferenceBackend()))


def parameters_of(function: object) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]
