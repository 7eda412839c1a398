"""Every cell at sizes around the widths of vectors and blocks, with all kinds of lengths, on every instruction set.

`python -m tests.backends.test_native_sizes` runs every cell at every size in both dtypes, on the instruction set that
`UNSPOOL_ISA` names. The tests run a tenth of that on the set of this machine, and a twentieth on the others.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import pytest
import torch

from tests.backends.processes import run_python
from tests.backends.test_native import ROWS, check, ways_of
from unspool import _engine

SIZES = {1: 3, 3: 7, 7: 1, 16: 17, 17: 16, 64: 5, 129: 2}
"""Hidden sizes, and the input size that goes with each."""

DTYPES = [torch.float64, torch.float32]


def check_size(hidden_size: int, dtype: torch.dtype, every: int = 1, first: int = 0) -> None:
    """Run every so many-th cell on both backends, over rows of no, one, some and all steps."""
    way: dict[str, Any] = {
        "lengths": "some zero", "mask": "no mask", "resets": "no resets", "reverse": False, "all_states": True,
        "dtype": dtype, "sizes": (5, 7, SIZES[hidden_size], hidden_size), "given_state": True,
    }  # fmt: skip
    for row in ROWS[first % every :: every]:
        check(row, way)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden_size", SIZES)
def test_values_and_gradients_at_every_size(hidden_size, dtype):
    check_size(hidden_size, dtype, every=10, first=3 * (2 * list(SIZES).index(hidden_size) + DTYPES.index(dtype)))


@pytest.mark.parametrize("lengths", ["no lengths", "mixed"])
@pytest.mark.parametrize("cell", ["LSTM", "NAS"])
def test_more_sequences_than_a_step_works_on_at_once(cell, lengths):
    """A step of more than 256 sequences is cut into parts, each with its own place in every array."""
    way: dict[str, Any] = {
        "lengths": lengths, "mask": "no mask", "resets": "no resets", "reverse": False, "all_states": True,
        "dtype": torch.float64, "sizes": (700, 3, 2, 3), "given_state": True,
    }  # fmt: skip
    check(next(row for row in ROWS if row.name == cell), way)


@pytest.mark.parametrize("isa", sorted({*_engine.available_isas()} - {_engine.active_isa()}))
def test_values_and_gradients_on_every_instruction_set(isa):
    """At every size, and a fifth of the cells in all their ways: with masks, in reverse, and in other batches."""
    code = "import runpy; runpy.run_module('tests.backends.test_native_sizes', run_name='__main__')"
    assert run_python(code, "20", UNSPOOL_ISA=isa).split() == [isa]


if __name__ == "__main__":
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for number, (size, kind) in enumerate(product(SIZES, DTYPES)):
        check_size(size, kind, step, number)
    for cell in ROWS[:: min(step, 5)]:
        for each in ways_of(cell):
            check(cell, each)
    print(_engine.active_isa())
