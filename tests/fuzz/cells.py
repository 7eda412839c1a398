"""Cells composed by chance, changed by chance, and held against the plain loop.

    python -m tests.fuzz.cells --minutes 10 --seed 1

runs for ten minutes. The first cell that is computed wrongly, or whose program had to be refused for its numbers, is
made as small as it can be, and printed as a program with what happened to it and where the numbers differ; the exit
status is then 1. At the end it says how many cells there were, and what the engine refused them for.
"""

from __future__ import annotations

import argparse
import linecache
import random
import re
import sys
import textwrap
import time
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.pieces import ALWAYS, KINDS, Piece
from tests.trust.histories import Library, Run, compare, history, plain_loop
from tests.trust.worlds import World

HEAD = """
import functools, itertools, random, types

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.trust.worlds import Small
"""


@dataclass(frozen=True)
class Recipe:
    """Pieces of a cell, and what happens to it.

    Attributes
    ----------
    pieces : tuple of Piece
    changes : tuple of str
    """

    pieces: tuple[Piece, ...]
    changes: tuple[str, ...]

    @property
    def source(self) -> str:
        """The module with the cell, and a function for each change."""

        def part(name: str, depth: int) -> str:
            lines = [getattr(piece, name).format(n=n) for n, piece in enumerate(self.pieces) if getattr(piece, name)]
            return "".join(textwrap.indent(text, "    " * depth) + "\n" for text in lines)

        # A global has to be declared before all else.
        declared = "".join(f"        global {name}\n" for name in re.findall(r"global (\w+)\n", part("step", 2)))
        step = re.sub(r" *global \w+\n", "", part("step", 2))
        changes = "".join(
            f"\n\ndef change_{i}(cell):\n    {self._change(text)}\n" for i, text in enumerate(self.changes)
        )
        return (
            f"{HEAD.lstrip()}\n{part('top', 0)}\n\nclass Cell(Small):\n{part('body', 1)}\n"
            f"    def __init__(self):\n        super().__init__()\n{part('init', 2)}\n"
            f"    def forward(self, x, h):\n{declared}        v = self.mix(x, h)\n{step}"
            f"        return v, 0.5 * h + 0.5 * torch.tanh(v)\n{changes}"
        )

    def _change(self, text: str) -> str:
        return text.replace("; ", "\n    ")

    def make(self) -> World:
        """Run the module; return its cell and changes."""
        source = self.source
        name = f"fuzz_{crc32(source.encode()):08x}"
        file = f"<{name}>"
        module = types.ModuleType(name)
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        sys.modules[name] = module
        exec(compile(source, file, "exec"), vars(module))
        cell = module.Cell()
        changes = [self._applied(getattr(module, f"change_{i}"), cell) for i in range(len(self.changes))]

        def forget() -> None:
            del sys.modules[name], linecache.cache[file]

        return World(cell, changes, watch=lambda: module, restore=forget)

    @staticmethod
    def _applied(change: Callable[[Any], object], cell: Any) -> Callable[[], object]:
        def apply() -> None:
            try:
                change(cell)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
                return  # what an earlier change has made impossible; both worlds agree on that

        return apply


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw a recipe: mostly what the engine reads, and now and then what it does not."""
    operations, values, tensors, *others = KINDS
    known = st.sampled_from([*operations, *values, *tensors])
    unknown = st.sampled_from([piece for kind in others for piece in kind])
    pieces = draw(st.lists(known, min_size=1, max_size=4)) + draw(st.lists(unknown, max_size=1))
    possible = [text.format(n=n) for n, piece in enumerate(pieces) for text in piece.changes]
    possible += [text.format() for text in ALWAYS]
    return Recipe(tuple(pieces), tuple(draw(st.lists(st.sampled_from(possible), max_size=3))))


def wrong(recipe: Recipe, run: Run) -> list[str]:
    """Say where a cell differs from the plain loop over a second one.

    Parameters
    ----------
    recipe : Recipe
    run : callable
        Runs the first one.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # so that what is amplified rounding is far below what is wrong
    try:
        scales = (1.0, 1e4)
        found = compare(
            history(recipe.make, run, scales), history(recipe.make, plain_loop, scales), floor=1e-9, relative=1e-6
        )
        return found + (run.alarms if isinstance(run, Library) else [])
    finally:
        torch.set_default_dtype(before)


class WrongError(AssertionError):
    """A cell that is computed wrongly: its source, and where."""


def search(number: int, seconds: float, new_run: Callable[[], Run], examples: int = 40) -> int:
    """Try cells until one is wrong or the time is over.

    Parameters
    ----------
    number : int
        The seed.
    seconds : float
    new_run : callable
        Makes what runs the cells.
    examples : int
        How many cells there are between two looks at the clock.

    Returns
    -------
    int
        How many cells there were.

    Raises
    ------
    WrongError
        With the smallest cell that was found.
    """
    tried, start = 0, time.monotonic()
    while tried == 0 or time.monotonic() - start < seconds:

        @seed(number + tried)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        @given(recipes())
        def check(recipe: Recipe) -> None:
            found = wrong(recipe, new_run())
            if found:
                raise WrongError(
                    f"{recipe.source}\n# In turn: two runs, then each change and two runs.\n" + "\n".join(found)
                )

        check()
        tried += examples
    return tried


def main() -> int:
    """Search; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="drawn by chance, and printed, if not given")
    asked = parser.parse_args()
    number = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    torch.set_num_threads(1)
    print(f"seed {number}", flush=True)
    reasons: Counter[str] = Counter()

    class Counted(Library):
        def __call__(self, *args: Any) -> Any:
            before = len(self.refusals)
            result = super().__call__(*args)
            refused = len(self.refusals) > before
            reasons[_kind(self.refusals[-1]) if refused else "run natively"] += 1
            return result

    try:
        tried = search(number, 60 * asked.minutes, lambda: Counted("native"))
    except WrongError as error:
        print(error)
        return 1
    print(f"{tried} cells, nothing wrong; runs of them:")
    for reason, count in reasons.most_common():
        print(f"{count:8} {reason}")
    return 0


def _kind(reason: str) -> str:
    """Return a reason without what differs from cell to cell."""
    text = reason.split("native: ", 1)[1].removesuffix(" Use backend='auto', or remove the reasons.")
    return re.sub(r" \(<fuzz_[^)]*\)|\d+", "", text)[:110]


if __name__ == "__main__":
    sys.exit(main())
