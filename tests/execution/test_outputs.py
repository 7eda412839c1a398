"""What comes out where nothing is computed: small examples to be read.

The cell adds its inputs up, so that numbers tell where they come from: output and state are running sums.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.runs import time_first
from unspool import RNN, Cell, GRUCell, dynamic_rnn, static_rnn


class AddCell(Cell):
    def __init__(self) -> None:
        super().__init__(())

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.zeros(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state + x
        return 10 * state, state


NAN = float("nan")
X = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


def run(x: Tensor, *args: Any, **options: Any) -> tuple[list[float], float, list[float]]:
    outputs, final, states = dynamic_rnn(AddCell(), x, *args, return_all_states=True, **options)
    steps, static_final = static_rnn(AddCell(), list(x.unbind(1)), *args, **time_first(options))
    assert torch.equal(torch.stack(steps, 1), outputs)
    assert torch.equal(static_final, final)
    return outputs[0].tolist(), final[0].item(), states[0].tolist()


def start(value: float) -> dict[str, Tensor]:
    return {"initial_state": torch.tensor([value])}


def test_zeros_and_the_carried_state_stand_in_padding():
    assert run(X, [2]) == ([10, 30, 0, 0], 3, [1, 3, 3, 3])
    assert run(X, [2], pad_output="repeat") == ([10, 30, 30, 30], 3, [1, 3, 3, 3])


def test_zeros_and_the_initial_state_stand_before_the_first_real_step():
    mask = [[False, True, False, True]]
    assert run(X, mask=mask, **start(5.0)) == ([0, 70, 0, 110], 11, [5, 7, 7, 11])
    assert run(X, mask=mask, pad_output="repeat", **start(5.0)) == ([0, 70, 70, 110], 11, [5, 7, 7, 11])


def test_a_row_of_length_zero_keeps_its_initial_state():
    assert run(X, [0], **start(5.0)) == ([0, 0, 0, 0], 5, [5, 5, 5, 5])
    assert run(X, [0], pad_output="repeat", **start(5.0)) == ([0, 0, 0, 0], 5, [5, 5, 5, 5])


def test_reverse_runs_from_the_last_real_step_and_repeats_in_the_order_of_computation():
    assert run(X, [3], reverse=True) == ([60, 50, 30, 0], 6, [6, 5, 3, 0])
    mask = [[True, False, True, False]]
    assert run(X, mask=mask, reverse=True, pad_output="repeat", **start(1.0)) == ([50, 40, 40, 0], 5, [5, 4, 4, 1])


def test_lengths_and_mask_must_both_hold():
    assert run(X, [3], mask=[[True, False, True, True]]) == ([10, 0, 40, 0], 4, [1, 1, 4, 4])


def test_a_reset_returns_to_the_cells_own_initial_state_before_the_step():
    assert run(X, resets=[[False, False, True, False]], **start(5.0)) == ([60, 80, 30, 70], 7, [6, 8, 3, 7])
    assert run(X, resets=[[True, False, False, False]], **start(5.0)) == ([10, 30, 60, 100], 10, [1, 3, 6, 10])


def test_a_reset_in_a_gap_waits_and_one_in_padding_never_acts():
    options: dict[str, Any] = {"mask": [[True, False, True, True]], "resets": [[False, True, False, False]]}
    assert run(X, **options) == ([10, 0, 30, 70], 7, [1, 1, 3, 7])
    padding: dict[str, Any] = {"resets": [[False, False, True, True]], **start(5.0)}
    assert run(X, [2], **padding) == ([60, 80, 0, 0], 8, [6, 8, 8, 8])
    backward = ([80, 70, 0, 0], 8, [8, 7, 5, 5])
    assert run(X, [2], reverse=True, **padding) == backward
    assert run(X, mask=[[True, True, False, False]], reverse=True, **padding) == backward


def test_a_reset_acts_before_the_step_in_the_direction_of_the_run():
    assert run(X, resets=[[False, True, False, False]], reverse=True) == ([30, 20, 70, 40], 3, [3, 2, 7, 4])


@pytest.mark.parametrize("filling", [NAN, float("inf")])
def test_what_stands_in_padding_reaches_nothing(filling):
    x = torch.tensor([[1.0, filling, 3.0, filling]])
    assert run(x, [3], mask=[[True, False, True, True]]) == ([10, 0, 40, 0], 4, [1, 1, 4, 4])


def test_nan_in_a_real_step_propagates():
    outputs, final = dynamic_rnn(AddCell(), torch.tensor([[1.0, NAN, 3.0], [1.0, 2.0, 3.0]]))
    assert outputs.isnan().tolist() == [[False, True, True], [False, False, False]]
    assert final.isnan().tolist() == [True, False]


def test_the_outputs_have_all_steps_and_no_uninitialised_memory():
    for pad in ("zero", "repeat"):
        outputs, _ = dynamic_rnn(GRUCell(2, 3), torch.randn(4, 50, 2), [1, 0, 2, 1], pad_output=pad)
        assert outputs.shape == (4, 50, 3)
        assert outputs.isfinite().all()
        assert not outputs[1].any()


@pytest.mark.parametrize(
    ("options", "call", "expected"),
    [
        ({}, {"lengths": [2, 4, 0]}, [30, 100, 0]),
        ({"reverse": True}, {"lengths": [2, 4, 0]}, [30, 100, 0]),
        ({"go_backwards": True}, {"lengths": [2, 4, 0]}, [30, 100, 0]),
        ({"pad_output": "repeat"}, {"lengths": [2, 4, 0]}, [30, 100, 0]),
        ({}, {"mask": [[False, True, True, False], [True] * 4, [False] * 4]}, [50, 100, 0]),
        ({}, {}, [100, 100, 100]),
        ({"reverse": True}, {}, [100, 100, 100]),
    ],
)
def test_the_last_output_is_that_of_the_last_real_step(options, call, expected):
    layer = RNN(AddCell(), batch_first=True, return_sequences=False, return_state=False, **options)
    assert layer(X.expand(3, 4), **call).tolist() == expected


def test_reverse_returns_the_output_of_the_first_real_step():
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    layer = RNN(AddCell(), batch_first=True, return_sequences=False, reverse=True)
    output, state = layer(x, lengths=[3], mask=[[False, True, True, True]])
    assert output.tolist() == [60]
    assert state.tolist() == [6]


def test_go_backwards_gives_the_outputs_in_the_order_of_computation():
    layer = RNN(AddCell(), batch_first=True, go_backwards=True)
    assert layer(X)[0].tolist() == [[40, 70, 90, 100]]
    assert layer(X, lengths=[3])[0].tolist() == [[0, 30, 50, 60]]
    assert RNN(AddCell(), go_backwards=True)(X.t())[0].tolist() == [[40], [70], [90], [100]]
