"""Where tokens lie for the engine: every real token once, rows one after another in their own order.

Letters: B batch, T steps, N tokens.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unspool import _engine
from unspool.backends import Schedule
from unspool.backends._layout import TokenLayout, layout_of

CPU = torch.device("cpu")


@st.composite
def schedules(draw) -> Schedule:
    steps, batch = draw(st.integers(0, 6)), draw(st.integers(0, 7))
    cells = st.lists(st.booleans(), min_size=steps * batch, max_size=steps * batch)
    live = None if draw(st.booleans()) else torch.tensor(draw(cells), dtype=torch.bool).view(steps, batch)
    lengths = draw(st.one_of(st.none(), st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    if lengths is not None:
        live = torch.arange(steps).unsqueeze(1) < torch.tensor(lengths, dtype=torch.long)
    ragged = (live is None or lengths is not None) and draw(st.booleans())
    return Schedule(steps, batch, live, None, reverse=draw(st.booleans()), device=CPU, ragged=ragged)


def place_of(schedule: Schedule) -> dict[tuple[int, int], int]:
    """Return where the tokens (t, b) stand in flattened arrays, told from the definition."""
    live = schedule.valid
    if schedule.ragged:
        return {(t, b): n for n, (b, t) in enumerate(live.t().nonzero().tolist())}
    return {(t, b): t * schedule.batch + b for t, b in live.nonzero().tolist()}


def rows_of(layout: TokenLayout, batch: int) -> list[int]:
    return list(range(batch)) if layout.rows is None else layout.rows.tolist()


@settings(max_examples=300)
@given(schedules(), st.integers(1, 4))
def test_a_layout_has_every_token_once_and_in_order(schedule, threads):
    layout = layout_of(schedule, _engine, threads)
    batch, positions = schedule.batch, layout.positions.tolist()
    live = [(t, b) for k, t in enumerate(schedule.order) for b in _rows(schedule, k)]
    place_in = place_of(schedule)
    assert layout.tokens == len(live)
    assert [place_in[token] for token in live] == schedule.positions.tolist()
    assert sorted(positions) == sorted(place_in.values())
    order = rows_of(layout, batch)
    assert sorted(order) == list(range(batch))
    # Row by row, the tokens come in the order of computation.
    token_at = {p: n for n, p in enumerate(positions)}
    for place, b in enumerate(order):
        own = [token_at[place_in[t, b]] for t, row in live if row == b]
        assert [int(layout.row_of_token[n]) for n in own] == [place] * len(own)
        assert [int(layout.steps[n]) for n in own] == list(range(len(own)))


def _rows(schedule: Schedule, k: int) -> list[int]:
    rows = schedule.rows(k)
    return list(range(schedule.batch)) if rows is None else rows.tolist()


@settings(max_examples=100)
@given(schedules(), st.integers(1, 3))
def test_what_is_taken_is_put_back(schedule, threads):
    layout = layout_of(schedule, _engine, threads)
    rows = torch.randn(schedule.batch, 2)
    assert torch.equal(layout.put_rows(layout.take_rows(rows)), rows)
    values = torch.arange(math.prod(schedule.shape)).view(schedule.shape)
    assert layout.take_tokens(values).tolist() == layout.positions.tolist()
    zeroed = torch.zeros(values.numel(), dtype=torch.long)
    zeroed[layout.positions] = values.flatten()[layout.positions]
    assert torch.equal(layout.put_tokens(layout.take_tokens(values)).flatten(), zeroed)
    steps = list(layout.each_step())
    assert sum(len(index) for index, _ in steps) == layout.tokens
    for index, places in steps:
        assert torch.equal(layout.row_of_token[index], places)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_rows_are_sorted_by_length_within_blocks(threads):
    live = torch.arange(6).unsqueeze(1) < torch.tensor([2, 6, 0, 3, 5, 1, 4])
    layout = layout_of(Schedule(6, 7, live, None, reverse=False, device=CPU), _engine, threads)
    lengths = live.sum(0)[layout.rows].tolist()
    rising = sum(a < b for a, b in pairwise(lengths))
    assert rising <= threads - 1
    assert layout.blocks == threads
    work = layout.counts.sum(1)
    assert max(work) - min(work) <= 6, "blocks differ by more than one sequence"
