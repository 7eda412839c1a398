"""Where the valid steps of a batch lie for the engine: blocks of sequences, active ones first, nothing for padding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import Nest, map_leaves
from unspool.backends._schedule import Schedule


@dataclass(frozen=True)
class TokenLayout:
    """The order of valid steps and sequences in the engine's arrays.

    Valid steps are numbered block by block, in a block step by step, in a step sequence by sequence.

    Attributes
    ----------
    engine : Layout
        The engine's own description.
    shape : pair of int
        The first two sizes of arrays.
    batch, tokens, blocks, threads : int
        Numbers of sequences B, of valid steps N, of blocks of sequences, and of threads.
    has_padding : bool
        Whether there are places without a valid step.
    rows : LongTensor of shape (B,), optional
        The sequence of the batch that stands at each place; None where the order is that of the batch.
    counts, firsts : arrays of int of shape (blocks, K)
        How many sequences of a block are active at each of the steps that it takes, and the number of the first valid
        step there.
    row_starts : array of int of shape (blocks,)
        The place of each block's first sequence.
    places : pair of LongTensor of shape (N,)
        Where each valid step stands along the first two axes of arrays: in time and in the batch where they are padded.
    """

    engine: Any
    shape: tuple[int, int]
    batch: int
    tokens: int
    blocks: int
    threads: int
    has_padding: bool
    rows: Tensor | None
    counts: np.ndarray
    firsts: np.ndarray
    row_starts: np.ndarray
    places: tuple[Tensor, Tensor]

    @cached_property
    def positions(self) -> Tensor:
        """The place of each valid step in arrays whose first two axes are flattened: `[N]`."""
        first, second = self.places
        return first * self.shape[1] + second

    @cached_property
    def steps(self) -> Tensor:
        """Which of its sequence's valid steps each valid step is: `[N]`."""
        return torch.from_numpy(_steps(self.counts))

    @cached_property
    def row_of_token(self) -> Tensor:
        """The place of each valid step's sequence: `[N]`."""
        return torch.from_numpy(_row_places(self.counts, self.firsts, self.row_starts))

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """The first and the last valid step of the sequence at each place, -1 where there is none: twice `[B]`."""
        last = torch.full((self.batch,), -1).scatter_reduce(0, self.row_of_token, self.steps, "amax")
        return last.clamp(max=0), last

    def each_step(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each step, in the order of computation, its valid steps and their sequences."""
        order = self.steps.argsort(stable=True)
        for index in order.split(self.counts.sum(0).tolist()):
            if len(index):
                yield index, self.row_of_token[index]

    def take_rows(self, tree: Nest) -> Nest:
        """Bring values `[B, ...]` into the layout's order."""
        return tree if self.rows is None else map_leaves(lambda leaf: leaf.index_select(0, self.rows), tree)

    def put_rows(self, leaf: Tensor) -> Tensor:
        """Bring a value from the layout's order back into that of the batch."""
        return leaf if self.rows is None else torch.empty_like(leaf).index_copy(0, self.rows, leaf)

    def take_tokens(self, leaf: Tensor) -> Tensor:
        """Cut `[T, B, ...]`, or ragged `[N, 1, ...]`, into valid steps `[N, ...]` in the layout's order."""
        return leaf.flatten(0, 1).index_select(0, self.positions)

    def put_tokens(self, tokens: Tensor) -> Tensor:
        """Put valid steps `[N, ...]` in their places, with zeros in the padding: the inverse of `take_tokens`."""
        shape = *self.shape, *tokens.shape[1:]
        return tokens.new_zeros(shape).flatten(0, 1).index_copy(0, self.positions, tokens).view(shape)


def _steps(counts: np.ndarray) -> np.ndarray:
    """Return which of its sequence's valid steps each valid step is: `[N]`."""
    blocks, steps = counts.shape
    return np.repeat(np.tile(np.arange(steps), blocks), counts.ravel())


def _row_places(counts: np.ndarray, firsts: np.ndarray, row_starts: np.ndarray) -> np.ndarray:
    """Return the place of each valid step's sequence: `[N]`."""
    counts = counts.ravel()
    return np.arange(counts.sum()) + np.repeat((row_starts[:, None] - firsts).ravel(), counts)


def layout_of(schedule: Schedule, engine: Any, threads: int) -> TokenLayout:
    """Lay out the valid steps of a schedule, once.

    Parameters
    ----------
    schedule : Schedule
    engine : module
        The native module.
    threads : int
        With more threads than sequences there is one block, on which all threads work together.
    """
    if threads not in schedule.layouts:
        schedule.layouts[threads] = _make_layout(schedule, engine, threads)
    return schedule.layouts[threads]


def _make_layout(schedule: Schedule, engine: Any, threads: int) -> TokenLayout:
    """Lay out the valid steps of a schedule.

    Sequences are sorted by their number of valid steps and dealt to the blocks in turn: blocks have equal work.
    """
    lengths, batch = schedule.lengths.numpy(), schedule.batch
    blocks = threads if batch >= threads else 1
    order = np.arange(batch)
    if not schedule.dense:
        ranked = np.argsort(-lengths, kind="stable")
        order = np.concatenate([ranked[p::blocks] for p in range(blocks)])
    sizes = np.array([len(range(p, batch, blocks)) for p in range(blocks)])
    row_starts = np.cumsum(sizes) - sizes
    # How many sequences of a block have more than 0, 1, ... valid steps.
    most = int(lengths.max(initial=0))
    ended = np.bincount(
        np.repeat(np.arange(blocks), sizes) * (most + 1) + lengths[order], minlength=blocks * (most + 1)
    )
    counts = np.ascontiguousarray(sizes[:, None] - ended.reshape(blocks, -1).cumsum(1)[:, :-1])
    firsts = np.cumsum(counts).reshape(counts.shape) - counts
    step, row = _steps(counts), order[_row_places(counts, firsts, row_starts)]
    time = lengths[row] - 1 - step if schedule.reverse else step  # where sequences have no gaps
    by_row = (lengths.cumsum() - lengths)[row] + time
    if schedule.ragged:  # one sequence to the engine, in which each sequence has its start
        places = by_row, np.zeros_like(by_row)
    else:
        places = time if schedule.right_padded else schedule.by_row[1].numpy()[by_row], row
    return TokenLayout(
        engine=engine.Layout(len(row), batch, row_starts, counts, firsts, *places),
        shape=schedule.shape,
        batch=batch,
        tokens=len(row),
        blocks=blocks,
        threads=threads,
        has_padding=len(row) < math.prod(schedule.shape),
        rows=None if schedule.dense else torch.from_numpy(order),
        counts=counts,
        firsts=firsts,
        row_starts=row_starts,
        places=(torch.from_numpy(places[0]), torch.from_numpy(places[1])),
    )
