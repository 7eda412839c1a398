"""Sequences of a stream come and go by key, each with its own state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.streaming.models import Counting, I
from unspool._nest import map_leaves


def model() -> nn.Module:
    return nn.Sequential(us.LSTM(I, 4, 2, return_state=False), us.RNN(Counting(), return_state=False), nn.Linear(4, 2))


def test_clients_that_come_and_go_get_what_each_would_get_alone():
    """Any history of attaching, detaching, resetting and stepping gives each the numbers of a stream of its own."""
    chosen, served = random.Random(0), us.stream(net := model(), 0)
    alone: dict[Any, us.Stream] = {}
    done: list[int] = []
    for turn in range(120):
        what = chosen.choice(["attach", "detach", "reset", "all", "all", "some", "some", "chunk"])
        keys = list(served.rows)
        assert keys == list(alone)
        if what == "attach" and len(keys) < 6:
            key = chosen.choice([None, f"client {turn}", ("a", turn)])
            alone[served.rows.attach(key)] = us.stream(net)
        elif what == "detach" and keys:
            key = chosen.choice(keys)
            state = served.rows.detach(key)
            want = alone.pop(key).state
            map_leaves(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=1e-6), state, want)
            if chosen.random() < 0.5:  # and comes back with it
                back = served.rows.attach(f"{key} again", state)
                alone[back] = us.stream(net)
                alone[back].state = want
        elif what == "reset" and keys:
            some = chosen.sample(keys, chosen.randint(0, len(keys)))
            served.reset(some if chosen.random() < 0.5 else [key in some for key in keys])
            for key in some:
                alone[key].reset()
        elif what in ("all", "some", "chunk") and keys:
            some = keys if what == "all" else chosen.sample(keys, chosen.randint(1, len(keys)))
            rows = None if what == "all" else some
            x = torch.randn(3, len(some), I)
            y = served(x, rows=rows) if what == "chunk" else served.step(x[0], rows=rows)
            for k, key in enumerate(some):
                one = alone[key](x[:, k : k + 1]) if what == "chunk" else alone[key].step(x[0, k : k + 1])
                torch.testing.assert_close(y.narrow(-2, k, 1), one, rtol=0, atol=1e-6)
            done.append(len(some))
    assert sum(done) > 100


@pytest.mark.parametrize(
    "rows", [[True, False, True], np.array([True, False, True]), torch.tensor([True, False, True]), [2, 0], (0, 2),
             torch.tensor([0, 2]), np.array([0, 2]), {0, 2}],
    ids=repr,
)  # fmt: skip
def test_rows_can_be_told_in_any_form(rows):
    stream, start = us.stream(us.GRU(I, 4), 3), torch.randn(1, 3, 4)
    stream.state = start
    stream.reset(rows)
    assert not bool(stream.state[:, [0, 2]].any())
    assert torch.equal(stream.state[:, 1], start[:, 1])


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([0, 0], ValueError, "each key once"),
        ([True, False], ValueError, "expected 3"),
        (["b"], KeyError, "no sequence of key 'b'"),
        ("b", TypeError, "a list of keys"),
        (1, TypeError, "a list of keys"),
        (torch.tensor([[True, False, True]]), (TypeError, KeyError), "unhashable"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, error, says):
    stream = us.stream(us.GRU(I, 4), 3)
    stream.state = before = torch.randn(1, 3, 4)
    for use in (lambda: stream.reset(rows), lambda: stream.step(torch.randn(3, I), rows=rows)):
        with pytest.raises(error, match=says):
            use()
    assert torch.equal(stream.state, before)


def test_keys_are_never_given_twice_and_an_unknown_one_is_refused():
    stream = us.stream(us.GRU(I, 4), 2)
    stream.rows.detach(1)
    assert stream.rows.attach() == 2
    assert stream.rows.attach(7) == 7
    assert stream.rows.attach() == 8
    assert list(stream.rows) == [0, 2, 7, 8]
    assert len(stream.rows) == 4
    assert 7 in stream.rows
    with pytest.raises(ValueError, match="is attached"):
        stream.rows.attach(7)
    with pytest.raises(KeyError, match="no sequence of key 1"):
        stream.rows.detach(1)
    before = stream.state
    with pytest.raises((TypeError, ValueError)):
        stream.rows.attach("x", torch.randn(1, 2, 4))
    with pytest.raises(TypeError, match="unhashable"):
        stream.rows.attach([1])  # type: ignore[arg-type]
    assert list(stream.rows) == [0, 2, 7, 8]
    assert torch.equal(stream.state, before)


def test_a_start_that_is_drawn_is_drawn_anew_for_each():
    class Drawn(us.Cell):
        def __init__(self) -> None:
            super().__init__(I)

        def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
            return torch.randn(batch_size, I, dtype=dtype, device=device)

        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return state, state + x

    stream = us.stream(Drawn(), 2)
    before = stream.state
    assert not torch.equal(before[0], before[1])
    stream.reset([1])
    assert torch.equal(stream.state[0], before[0])
    assert not torch.equal(stream.state[1], before[1])
