"""Cells are read as they are, and what was read gives their numbers.

Letters: B batch, H features.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.backends.test_native import ROWS
from tests.program.rules.spellings import posed
from tests.program.steps import TRACED, Posed, StepCell, assert_same, operations, posed_cell
from unspool._nest import map_leaves
from unspool.program.calls import find_function
from unspool.program.read import read_step
from unspool.program.source import TraceError


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_a_cell_gives_its_own_numbers(row):
    posed = posed_cell(row)
    assert_same(posed.run(posed.recording.program), posed.eager())


def test_row_inputs_that_are_booleans():
    for row in ROWS:
        if "zoneout in training" in str(row):
            posed = Posed(row)
            got = posed.run(posed.recording.program)
            rows = posed.rows
            posed.rows = None if rows is None else map_leaves(lambda leaf: leaf != 0, rows)
            assert_same(got, posed.eager())


def test_functions_are_found_by_name():
    assert find_function("torch.nn.functional.embedding") is F.embedding
    assert find_function("torch.Tensor.tanh") is torch.Tensor.tanh
    for name in ("os.system", "torch.nothing", "torch", "torch.nn"):
        with pytest.raises(TraceError):
            find_function(name)


def test_a_trace_touches_neither_random_state_nor_parameters():
    posed = Posed(TRACED[0])
    before = torch.get_rng_state()
    read_step(posed.cell, posed.x, posed.state, None)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in posed.cell.parameters())


def test_operations_carry_the_users_line():
    cell, (x, h) = StepCell(lambda x, h, m: torch.tanh(h @ m.w) + x), posed()
    program = read_step(cell, x, h, None).program
    sources = {v.source for v in program.live() if v.op in ("tanh", "product")}
    assert len(sources) == 1
    assert sources.pop().startswith("test_recording.py:")
    assert operations(program, "param") == ["transpose"]
