"""Cells of other packages, as they are, against those packages' own loops; the committed results say what runs them.

torchrecurrent's and ncps's cells have no `initial_state`, and most give back their state alone:
`scripts/foreign_cells.py` says in a few lines what each wants.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from scripts.foreign_cells import RESULTS, decide, difference, make, missing, names

from tests.trust.histories import Library, compare, history, plain_loop
from tests.trust.worlds import FEATURES, World

CELLS: dict[str, Any] = {row["name"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))["cells"]}


def size_of(name: str) -> int:
    """Return a hidden size, the same for all tests, so that what is read of a cell is checked once."""
    return FEATURES if name == "torchrecurrent.IntersectionRNN" else 16  # its inputs and states are of one size


needs_packages = pytest.mark.skipif(bool(missing()), reason=missing())


@needs_packages
def test_the_table_has_every_cell_of_both_packages():
    assert list(CELLS) == names()
    assert sum(name.startswith("torchrecurrent.") for name in CELLS) == 41


@needs_packages
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_gives_what_its_own_layer_gives(name):
    cell, loop = make(name, FEATURES, size_of(name))
    x = torch.randn(3, 7, FEATURES)
    assert decide(cell, x)[0] == CELLS[name]["backend"]
    assert difference(cell, loop, x) < 1e-4


@needs_packages
@pytest.mark.parametrize("name", CELLS)
def test_ragged_batches_equal_the_plain_loop(name):

    def world() -> World:
        cell = make(name, FEATURES, size_of(name))[0]
        # Between runs the cell's weights change, past autograd, as an optimizer changes them.
        return World(cell, [lambda: [p.data.mul_(0.9) for p in cell.parameters()]])

    found = compare(history(world, Library(), (1.0,)), history(world, plain_loop, (1.0,)))
    assert not found, "\n".join(found)
