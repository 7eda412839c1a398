"""The reference backend's own promises; its numbers are checked by the conformance tests."""

import pytest
import torch
from torch import Tensor

import unspool as us
from tests.refusal import refused


class WritesIntoItsState(us.Cell):
    def __init__(self, size: int) -> None:
        super().__init__(state_size=size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h += x
        return h, h


class WritesIntoItsInput(us.Cell):
    def __init__(self, size: int) -> None:
        super().__init__(state_size=size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = h + x.relu_()
        return h, h


@pytest.mark.parametrize("lengths", [None, [4, 1]], ids=["dense", "ragged"])
def test_a_cell_that_writes_into_its_input_is_refused(lengths: list[int] | None) -> None:
    with refused(ValueError, "WritesIntoItsInput wrote into the input", "expected a new one", "in-place"):
        us.dynamic_rnn(WritesIntoItsInput(3), torch.zeros(2, 4, 3), lengths)


def test_a_cell_that_writes_into_its_state_is_refused() -> None:
    with (
        torch.no_grad(),
        refused(ValueError, "WritesIntoItsState wrote into the state", "expected a new one", "in-place"),
    ):
        us.dynamic_rnn(WritesIntoItsState(3), torch.zeros(2, 4, 3), backend="reference")
