"""The search for wrong cells finds one, makes it small, and leaves nothing behind."""

from __future__ import annotations

import linecache
import sys
from typing import Any

import pytest
from torch import Tensor

from tests.fuzz import cells
from tests.fuzz.cells import Recipe, WrongError, search, wrong
from tests.fuzz.pieces import ALWAYS, KINDS
from tests.trust.histories import Library, plain_loop


class Stale:
    """A loop that goes on with the numbers that stood in attributes when it ran a cell first."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def __call__(self, cell: Any, x: Tensor, lengths: list[int], state: Any) -> tuple[Any, Any]:
        now = {name: value for name, value in vars(cell).items() if name.startswith("number")}
        self.before = self.before or now
        vars(cell).update(self.before)
        try:
            return plain_loop(cell, x, lengths, state)
        finally:
            vars(cell).update(now)


def test_a_fault_is_found_and_made_small(monkeypatch):
    monkeypatch.setattr(cells, "KINDS", tuple(kind[:1] for kind in KINDS))  # the fewer, the sooner
    with pytest.raises(WrongError) as caught:
        search(1, 60.0, Stale, examples=200)
    source = str(caught.value)
    assert source.count("v = ") == 2, source  # the beginning of every step, and what is wrong
    assert "v = v * self.number0" in source
    assert "cell.number0 = " in source
    assert "differs by" in source


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_piece_is_a_program_that_the_loop_runs(kind):
    before = set(sys.modules), set(linecache.cache)
    for piece in KINDS[kind]:
        recipe = Recipe((piece,), tuple(change.format(n=0) for change in piece.changes))
        assert not wrong(recipe, plain_loop), recipe.source
    assert not wrong(Recipe((KINDS[kind][0],), tuple(change.format() for change in ALWAYS)), plain_loop)
    assert {name for name in set(sys.modules) - before[0] if name.startswith("fuzz_")} == set()
    assert {name for name in set(linecache.cache) - before[1] if name.startswith("<fuzz_")} == set()


def test_what_the_engine_refuses_the_loop_runs():
    recipe = Recipe((KINDS[0][0], KINDS[4][0]), ())
    assert not wrong(recipe, Library("reference"))
