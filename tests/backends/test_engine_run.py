"""Tensors as they come: in any strides, and with values that PyTorch negates only when they are read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import unspool as US
from tests.conformance.oracle import assert_close


@pytest.mark.parametrize("strides", ["row by row", "column by column", "one value for all"])
def test_a_gradient_of_the_final_state_in_any_strides(strides):
    cell, x = US.GRUCell(3, 4).double(), torch.randn(2, 5, 3).double()
    gradient = {
        "row by row": torch.randn(2, 4).double(),
        "column by column": torch.randn(4, 2).double().t(),
        "one value for all": torch.tensor(0.5).double().expand(2, 4),
    }[strides]
    found = []
    for backend in ("native", "reference"):
        h = torch.linspace(-1, 1, 8).double().view(2, 4).requires_grad_()
        _, state = US.dynamic_rnn(cell, x, initial_state=h, backend=backend)
        names = ["h", *dict(cell.named_parameters())]
        gradients = torch.autograd.grad(state, [h, *cell.parameters()], gradient)
        found.append(dict(zip(names, gradients, strict=True)))
    assert_close(found[0], found[1], torch.float64)


def _lazily_negated(shape: tuple[int, ...]) -> Tensor:
    """Return the imaginary part of a conjugate: its memory holds the negative of its values."""
    tensor = torch.randn(shape, dtype=torch.complex128).conj().imag
    assert tensor.is_neg()
    return tensor


@pytest.mark.parametrize("features", [1, 3])
def test_values_that_are_negated_when_they_are_read(features):
    cell = US.SimpleRNNCell(features, 1).double()
    x, h, gradient = _lazily_negated((2, 5, features)), _lazily_negated((2, 1)), _lazily_negated((2, 5, 1))
    found = []
    for backend in ("native", "reference"):
        outputs, state = US.dynamic_rnn(cell, x, initial_state=h, backend=backend)
        gradients = torch.autograd.grad(outputs, list(cell.parameters()), gradient)
        named = dict(zip(dict(cell.named_parameters()), gradients, strict=True))
        found.append({"outputs": outputs, "state": state, **named})
    assert_close(found[0], found[1], torch.float64)
