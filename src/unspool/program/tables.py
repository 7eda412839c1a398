"""What plans are made of: places and instructions, as the engine's tables have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest
from typing import Any

import numpy as np

from unspool.program.ir import Value
from unspool.program.operations import NUMBERED, of_kind


class Place(IntEnum):
    """Where a value lives: see `native/plan.hpp`."""

    TEMP, TOKEN, PREVIOUS, ROW, VECTOR, SLOT, SCALAR, NONE, CHUNK, PADDED, PADDED_PREVIOUS = range(11)


class Kind(IntEnum):
    """What an instruction does."""

    UNARY, BINARY, TERNARY, REDUCE, REPEAT, PRODUCT, COLUMN_SUMS, FETCH, STORE, WEIGHT_GRADIENT, GATHER, SCATTER = (
        range(12)
    )


class Phase(IntEnum):
    """When an instruction is run: at every step, or for all valid steps of a chunk of steps before or after them."""

    STEP, BEFORE, AFTER = range(3)


class Mode(IntEnum):
    """How an operand covers sequences and features."""

    FULL, ROW_SCALAR, VECTOR, SCALAR = range(4)


_NUMBERED: dict[str, Iterable[str]] = {
    **{f"{kind} operation": of_kind(kind) for kind in NUMBERED},
    "place": Place.__members__,
    "kind of instruction": Kind.__members__,
    "phase": Phase.__members__,
    "mode of operands": Mode.__members__,
}
"""What stands in the tables as a number; the engine has the same names in the same order."""


def difference_from(engine: Any) -> str:
    """Return which number means something else to an engine, or ""."""
    for what, ours in _NUMBERED.items():
        theirs = getattr(engine, "names", {}).get(what, [])
        for number, (our, their) in enumerate(zip_longest(map(str.lower, ours), theirs)):
            if our != their:
                return f"its {what} {number} is {their}, and unspool's is {our}"
    return ""


@dataclass(frozen=True)
class Storage:
    """A place for values: an array, scratch or a constant, and how wide it is."""

    place: Place
    array: int
    width: int
    first: int = -1


@dataclass(frozen=True)
class Operand:
    """A part of a storage, as an instruction sees it."""

    storage: int
    column: int
    mode: Mode

    def row(self) -> list[int]:
        """Return it as the engine's table has it."""
        return [self.storage, self.column, self.mode]


@dataclass
class Tables:
    """What the engine takes.

    Attributes
    ----------
    storages : array of shape (S, 5)
    instructions : array of shape (N, 20)
    constants : list of float
    indices : list of int
        Of the instructions that move features.
    weights : list of (Value, bool)
        For each weight of a product the value `[out, in]`, and whether the product takes its transpose.
    """

    storages: np.ndarray
    instructions: np.ndarray
    constants: list[float]
    indices: list[int]
    weights: list[tuple[Value, bool]]
