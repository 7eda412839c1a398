"""Small step functions in many spellings, and what the tests of programs share.

Letters: B batch, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tests.backends.test_native import ROWS
from tests.conformance.cases import CellRow, random_state
from tests.conformance.oracle import leaves_of
from unspool import Cell
from unspool._nest import map_leaves
from unspool.cells import match_state, row_inputs_of, step
from unspool.program.evaluate import evaluate
from unspool.program.ir import LEAVES, Program, Value
from unspool.program.read import read_step
from unspool.program.recording import Recording

H = 6


class StepCell(Cell):
    """A step made of a function of input [B, H], state [B, H], and the cell, which has some parameters."""

    def __init__(self, function: Callable[..., Tensor], state_size: int = H) -> None:
        super().__init__(state_size)
        self.function = function
        generator = torch.Generator().manual_seed(9)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))

        self.w, self.w2, self.u = parameter(H, H), parameter(2 * H, H), parameter(H, 2 * H)
        self.v, self.one = parameter(H), parameter(1)
        self.positive = nn.Parameter(parameter(H).detach().abs() + 0.5)
        self.linear = nn.Linear(H, H, dtype=torch.float64)
        self.linear.weight, self.linear.bias = parameter(H, H), parameter(H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Any, Tensor]:
        return self.function(x, h, self), h * 1.0


def read(cell: Any, x: Any, state: Any, rows: Any = None) -> Recording:
    return read_step(cell, x, state, rows)


def known_leaves(
    program: Program, recording: Recording, cell: Any, x: Any, state: Any, rows: Any = None
) -> dict[Value, Tensor]:
    """Return the leaves of a program with their tensors."""
    known: dict[Value, Tensor] = dict(zip(program.leaves("param"), recording.parameters, strict=True))
    for op, tree in (("input", x), ("state", state), ("row", rows)):
        leaves = [] if tree is None else leaves_of(tree)
        known |= dict(zip(program.leaves(op), leaves, strict=True))
    return known


@contextmanager
def constants_in_float64() -> Iterator[None]:
    """Give constants of programs, which take the default dtype, that of the tests."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def run_program(
    program: Program, recording: Recording, cell: Any, x: Any, state: Any, rows: Any = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Run a program on a batch in plain PyTorch: leaves of the output and of the new state."""
    known = known_leaves(program, recording, cell, x, state, rows)
    batch = leaves_of(state)[0].shape[0]
    with constants_in_float64():
        evaluate([v for v in program.live() if v not in known], known, batch)

    def whole(value: Value) -> Tensor:
        return known[value].expand(batch, *value.shape)

    return [whole(v) for v in program.outputs], [whole(v) for v in program.new_states]


class Posed:
    """A cell with sample inputs, in float64."""

    def __init__(self, row: CellRow, batch: int = 4, input_size: int = 3, hidden_size: int = 4) -> None:
        input_size = hidden_size if row.square else input_size
        self.cell = row.cell(input_size, hidden_size, torch.float64)
        generator = torch.Generator().manual_seed(1)
        x = row.draw(batch, 1, input_size, generator)
        self.x = map_leaves(lambda leaf: leaf[:, 0], x)
        state = random_state(self.cell, batch, torch.float64, generator)
        self.state = map_leaves(lambda leaf: leaf.detach(), state)
        self.rows = None
        rows = row_inputs_of(self.cell, batch, torch.float64, None)
        if rows is not None:
            self.rows = map_leaves(lambda leaf: leaf.to(torch.float64), rows)
        self.recording = read_step(self.cell, self.x, self.state, rows)

    def eager(self) -> tuple[list[Tensor], list[Tensor]]:
        output, state = step(self.cell, self.x, self.state, self.rows)
        return leaves_of(output), leaves_of(match_state(state, self.state, "state"))

    def run(self, program: Program) -> tuple[list[Tensor], list[Tensor]]:
        return run_program(program, self.recording, self.cell, self.x, self.state, self.rows)


def assert_same(actual: tuple[list[Tensor], list[Tensor]], expected: tuple[list[Tensor], list[Tensor]]) -> None:
    for got, want in zip((*actual[0], *actual[1]), (*expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


@cache
def posed_cell(row: CellRow) -> Posed:
    """Return a cell of the table with sample inputs, the same at every call: for tests that do not change it."""
    return Posed(row)


TRACED = [row for row in ROWS if "zoneout in training" not in str(row)]
"""The rows of masks that are booleans go through `where`, which takes booleans only in eager PyTorch."""


def operations(program: Program, level: str | None = None) -> list[str]:
    return [v.op for v in program.live() if v.op not in LEAVES and (level is None or v.level == level)]
