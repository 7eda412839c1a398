"""The order in which tokens are computed.

Letters: B batch, T steps.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unspool.backends import Schedule, repeated

CPU = torch.device("cpu")


def schedule(live: list[str] | None, resets: list[str] | None = None, *, reverse: bool = False) -> Schedule:
    """Make a schedule from drawings, one row of the batch per line: `x` for a real step (or a reset)."""

    def read(rows: list[str] | None) -> Tensor | None:
        return None if rows is None else torch.tensor([[mark == "x" for mark in row] for row in rows]).t()

    drawing = live or resets or ["xxx"]
    return Schedule(len(drawing[0]), len(drawing), read(live), read(resets), reverse=reverse, device=CPU)


def rows_of(s: Schedule) -> list[list[int] | None]:
    return [None if rows is None else rows.tolist() for rows in map(s.rows, range(len(s.order)))]


def resets_of(s: Schedule) -> list[list[bool] | None]:
    """Return which of the rows of each computed step are reset; None where none is."""
    found = [s.resets[t] if rows is None else s.resets[t][rows] for t, rows in zip(s.order, rows_of(s), strict=True)]
    return [flags.tolist() if bool(flags.any()) else None for flags in found]


def test_steps_without_a_token_are_left_out():
    s = schedule(["x..x.", "..xx."])
    assert s.order == [0, 2, 3]
    assert rows_of(s) == [[0], [1], None]
    assert not s.dense
    assert s.positions.tolist() == [0, 5, 6, 7]
    assert s.last.tolist() == [6, 7]
    assert s.latest.tolist() == [[0, -1], [0, -1], [0, 2], [3, 3], [3, 3]]


def test_reverse_turns_the_order_of_computation():
    s = schedule(["x..x.", "..xx."], reverse=True)
    assert s.order == [3, 2, 0]
    assert rows_of(s) == [None, [1], [0]]
    assert s.positions.tolist() == [6, 7, 5, 0]
    assert s.last.tolist() == [0, 5]
    assert s.latest.tolist() == [[-1, -1], [1, 1], [1, 2], [1, 2], [4, 2]]  # steps in the order of computation


def test_a_full_batch_is_dense_whichever_way_it_is_told():
    for s in (schedule(["xxx", "xxx"]), Schedule(3, 2, None, None, reverse=False, device=CPU)):
        assert s.dense
        assert s.order == [0, 1, 2]
        assert rows_of(s) == [None, None, None]


@pytest.mark.parametrize(
    ("live", "resets", "reverse", "expected"),
    [
        (["xxx"], ["x.x"], False, [[True], None, [True]]),
        (["x.x"], [".x."], False, [None, [True]]),
        (["x.x"], ["xx."], False, [[True], [True]]),
        (["xx."], ["..x"], False, [None, None]),
        (["xxx", "xxx"], ["...", ".x."], False, [None, [False, True], None]),
        (["x.x", "xxx"], [".x.", "..."], False, [None, None, [True, False]]),
        (["x.x"], [".x."], True, [None, [True]]),
        (["xx."], ["..x"], True, [None, None]),  # in padding
        (["xx.", "xxx"], [".xx", "..x"], True, [[True], [True, False], None]),
        ([".xx"], ["x.."], True, [None, None]),
    ],
)
def test_resets_wait_for_the_next_token_in_the_order_of_computation(live, resets, reverse, expected):
    assert resets_of(schedule(live, resets, reverse=reverse)) == expected


def test_the_last_value_is_taken_and_zero_where_there_is_none():
    values = torch.arange(1.0, 9.0).view(4, 2)
    assert schedule(["xx..", "...."]).at_last(values).tolist() == [3, 0]
    assert schedule(["xxx.", ".x.x"], reverse=True).at_last(values).tolist() == [1, 4]
    assert schedule(["xxxx", "xxxx"]).at_last({"y": values})["y"].tolist() == [7, 8]
    assert schedule(["xxxx", "xxxx"], reverse=True).at_last(values).tolist() == [1, 2]
    assert schedule(["....", "...."]).at_last(values).tolist() == [0, 0]


def test_ragged_arrays_hold_rows_one_after_another():
    for reverse, last in ((False, [2, -1, 3, 5]), (True, [0, -1, 3, 4])):
        live = torch.arange(3).unsqueeze(1) < torch.tensor([3, 0, 1, 2])
        s = Schedule(3, 4, live, None, reverse=reverse, device=CPU, ragged=True)
        assert s.shape == (6, 1)
        assert s.starts.tolist() == [0, 3, 3, 4]
        assert s.positions.tolist() == ([2, 1, 5, 0, 3, 4] if reverse else [0, 3, 4, 1, 5, 2])
        assert s.last.tolist() == last
        values = torch.arange(1.0, 7.0).view(6, 1, 1)
        steps = list(s.cut({"x": values}))
        assert [step["x"].flatten().tolist() for step in steps][1] == [2, 6]
        assert torch.equal(s.scatter(steps, {"x": torch.zeros(4, 1)})["x"], values)
        assert repeated(s, values) is values
        assert s.at_last(values).flatten().tolist() == [place + 1 for place in last]


def test_ragged_arrays_of_rows_of_one_length_are_not_time_major():
    s = Schedule(2, 3, None, None, reverse=False, device=CPU, ragged=True)
    assert s.dense
    values = torch.arange(6.0).view(6, 1)
    assert [step.tolist() for step in s.cut(values)] == [[0, 2, 4], [1, 3, 5]]
    assert torch.equal(s.scatter(list(s.cut(values)), torch.zeros(3)), values)
    assert s.at_last(values).tolist() == [1, 3, 5]


@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_to_do_is_fine(reverse):
    for steps, batch in ((0, 3), (4, 0), (0, 0)):
        s = Schedule(steps, batch, None, torch.zeros(steps, batch).bool(), reverse=reverse, device=CPU)
        assert s.order == []
        assert s.latest.shape == (steps, batch)
        assert s.at_last(torch.zeros(steps, batch, 5)).shape == (batch, 5)
        scattered = s.scatter([], torch.zeros(batch, 5))
        assert scattered.shape == (steps, batch, 5)
        assert repeated(s, scattered).shape == (steps, batch, 5)
