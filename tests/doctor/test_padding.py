"""How much of a batch is padding: shares counted by hand.

Letters: B batch, T steps, F features.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from unspool.doctor import Padding
from unspool.doctor._padding import padding_of_input, trailing_padding

T, B, F = 6, 3, 2
LENGTHS = (6, 2, 3)
PADDED = 7  # 0 + 4 + 3


def padded(constant: float, lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    x = torch.arange(1.0, 1 + T * B * F).reshape(T, B, F)
    for row, length in enumerate(lengths):
        x[length:, row] = constant
    return x


@pytest.mark.parametrize("constant", [0.0, -2.5])
def test_trailing_steps_of_one_vector_look_like_padding(constant):
    assert trailing_padding(padded(constant)).tolist() == [0, 4, 3]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (padded(0.0, (6, 5, 6)), [0, 1, 0]),  # a single step of zeros
        (padded(7.5, (6, 5, 6)), [0, 0, 0]),  # a single step of another vector is like any other
        (padded(7.5, (6, 5, 4)), [0, 1, 2]),  # with a longer run of it elsewhere it is padding too
        (padded(0.0, (0, 2, 3)), [6, 4, 3]),  # a row of nothing
        (padded(0.0, (6, 6, 6)), [0, 0, 0]),
        (padded(0.0, (0, 0, 0)), [0, 0, 0]),  # nothing can be told of zeros alone
        (torch.zeros(0, 3, 2), [0, 0, 0]),
        (torch.zeros(4, 0, 2), []),
        (torch.tensor([[5, 3], [4, 0], [2, 0]]), [0, 2]),  # tokens
    ],
    ids=["one zero step", "one other step", "runs of one vector", "empty row", "none", "all zeros", "T0", "B0", "ids"],
)
def test_what_is_taken_for_padding(x, expected):
    assert trailing_padding(x).tolist() == expected


def test_repeats_of_different_vectors_are_not_padding_together():
    x = padded(9.5, (6, 2, 6))
    x[-3:, 2] = 4.5
    assert trailing_padding(x).tolist() == [0, 4, 0]


def test_layouts_of_torch_nn_give_the_same():
    x = padded(0.0)
    guess = Padding(steps=T * B, padding=PADDED, known=False, computed=True)
    assert padding_of_input(x, batch_first=False) == guess
    assert padding_of_input(x.transpose(0, 1), batch_first=True) == guess
    assert padding_of_input(x[:, 1], batch_first=True) == Padding(T, 4, known=False, computed=True)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    assert padding_of_input(packed, batch_first=False) == Padding(T * B, PADDED, known=True, computed=False)


def test_padding_adds_up_and_prints():
    first, second = Padding(10, 4, known=True, computed=False), Padding(30, 6, known=False, computed=True)
    assert first + second == Padding(40, 10, known=False, computed=True)
    assert first.share == 0.4
    assert Padding(0, 0, known=True, computed=False).share == 0.0
    assert str(first) == "40 % of 10 steps, none of it computed"
    assert str(second).startswith("looks like padding: 20 % of 30 steps, all of it computed (a guess")
    assert str(first + Padding(1000, 0, known=True, computed=True)) == "0 % of 1,010 steps, all of it computed"
    assert str(Padding(8, 0, known=True, computed=False)) == "none in 8 steps"
    assert str(Padding(8, 0, known=False, computed=True)) == "none to be seen in 8 steps"
