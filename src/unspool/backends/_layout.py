"""Where the tokens of a batch lie for the engine: blocks of rows, the live ones first, nothing for padding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import Nest, map_leaves
from unspool.backends._schedule import Schedule


@dataclass(frozen=True)
class TokenLayout:
    """The order of tokens and rows in the engine's arrays.

    Tokens are numbered block by block, in a block step by step, in a step row by row.

    Attributes
    ----------
    engine : Layout
        The engine's own description.
    schedule : Schedule
    tokens, blocks, threads : int
        Numbers of tokens N, of blocks of rows, and of threads.
    rows : LongTensor of shape (B,), optional
        The row of the batch that stands at each place; None where the order is that of the batch.
    places : pair of LongTensor of shape (N,)
        Where each token stands along the first two axes of arrays: in time and in the batch where they are padded.
    sequences, steps : LongTensor of shape (N,)
        The row of each token, and which of its row's tokens it is.
    resets : ByteTensor of shape (N,), optional
        Whether the state is reset before each token.
    """

    engine: Any
    schedule: Schedule
    tokens: int
    blocks: int
    threads: int
    rows: Tensor | None
    places: tuple[Tensor, Tensor]
    sequences: Tensor
    steps: Tensor
    resets: Tensor | None

    @cached_property
    def positions(self) -> Tensor:
        """The place of each token in arrays whose first two axes are flattened: `[N]`."""
        first, second = self.places
        return first * self.schedule.shape[1] + second

    @cached_property
    def row_of_token(self) -> Tensor:
        """The place of each token's row: `[N]`."""
        if self.rows is None:
            return self.sequences
        return torch.empty_like(self.rows).index_copy(0, self.rows, torch.arange(len(self.rows)))[self.sequences]

    @property
    def has_padding(self) -> bool:
        """Whether there are places without a token."""
        return self.tokens < math.prod(self.schedule.shape)

    def each_step(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield for each step, in the order of computation, its tokens, their rows, and which of them are reset."""
        count = int(self.steps.max()) + 1 if self.tokens else 0
        for k in range(count):
            index = (self.steps == k).nonzero().squeeze(1)
            yield index, self.row_of_token[index], None if self.resets is None else self.resets[index].bool()

    def take_rows(self, tree: Nest) -> Nest:
        """Bring values `[B, ...]` into the layout's order."""
        return tree if self.rows is None else map_leaves(lambda leaf: leaf.index_select(0, self.rows), tree)

    def put_rows(self, leaf: Tensor) -> Tensor:
        """Bring a value from the layout's order back into that of the batch."""
        return leaf if self.rows is None else torch.empty_like(leaf).index_copy(0, self.rows, leaf)

    def take_tokens(self, leaf: Tensor) -> Tensor:
        """Cut `[T, B, ...]`, or ragged `[N, 1, ...]`, into tokens `[N, ...]` in the layout's order."""
        return leaf.flatten(0, 1).index_select(0, self.positions)

    def put_tokens(self, tokens: Tensor) -> Tensor:
        """Put tokens `[N, ...]` in their places, with zeros in the padding: the inverse of `take_tokens`."""
        shape = *self.schedule.shape, *tokens.shape[1:]
        return tokens.new_zeros(shape).flatten(0, 1).index_copy(0, self.positions, tokens).view(shape)

    def repeat(self, padded: Tensor, tokens: Tensor | None, before: Tensor) -> Tensor:
        """Fill padding with what stands at the row's token before, or with `before` `[B, ...]` where there is none.

        Parameters
        ----------
        padded : Tensor of shape (T, B, ...)
            Where the tokens' values stand, unless `tokens` has them.
        tokens : Tensor of shape (N, ...), optional
        before : Tensor of shape (B, ...)
        """
        if not self.has_padding:
            return padded if tokens is None else self.put_tokens(tokens)
        steps, batch = self.schedule.shape
        source = padded.flatten(0, 1) if tokens is None else tokens
        number = torch.full((steps * batch,), -1)
        number[self.positions] = self.positions if tokens is None else torch.arange(self.tokens)
        latest = self.schedule.carried_on(number.view(steps, batch))
        place = torch.where(latest < 0, torch.arange(batch), latest + batch)
        return torch.cat([before, source]).index_select(0, place.flatten()).view(steps, batch, *source.shape[1:])


def layout_of(schedule: Schedule, engine: Any, threads: int) -> TokenLayout:
    """Lay out the tokens of a schedule; where all are real, the layout is kept for the next time.

    Parameters
    ----------
    schedule : Schedule
    engine : module
        The native module.
    threads : int
        With more threads than rows there is one block, on which all threads work together.
    """
    if schedule.dense and schedule.resets_in_order is None:
        return _dense_layout(schedule.steps, schedule.batch, schedule.reverse, schedule.ragged, engine, threads)
    return _make_layout(schedule, engine, threads)


@lru_cache(maxsize=32)
def _dense_layout(steps: int, batch: int, reverse: bool, ragged: bool, engine: Any, threads: int) -> TokenLayout:
    schedule = Schedule(steps, batch, None, None, reverse=reverse, device=torch.device("cpu"), ragged=ragged)
    return _make_layout(schedule, engine, threads)


def _make_layout(schedule: Schedule, engine: Any, threads: int) -> TokenLayout:
    """Lay out the tokens of a schedule.

    Rows are sorted by their number of tokens and dealt to the blocks in turn, so that the blocks have equal work.
    """
    live = schedule.live_in_order.numpy()  # [T, B] in the order of computation
    batch = live.shape[1]
    lengths = live.sum(0)
    blocks = threads if batch >= threads else 1
    order = np.arange(batch)
    if not schedule.dense:
        ranked = np.argsort(-lengths, kind="stable")
        order = np.concatenate([ranked[p::blocks] for p in range(blocks)])
    sizes = np.array([len(range(p, batch, blocks)) for p in range(blocks)])
    starts = np.cumsum(sizes) - sizes
    steps = int(lengths.max(initial=0))
    alive = lengths[order] > np.arange(steps)[:, None]  # [K, B] by place
    counts = np.add.reduceat(alive, starts, axis=1, dtype=np.int64).T if batch else np.zeros((blocks, steps), np.int64)
    counts = np.ascontiguousarray(counts)  # [blocks, K]
    before = np.cumsum(counts).reshape(counts.shape) - counts
    place = np.arange(batch) - np.repeat(starts, sizes)  # in its block
    number = np.repeat(before, sizes, axis=0).T + place  # [K, B]
    # Each row's tokens in the order of computation.
    row, time = live.T[order].nonzero()
    first = np.cumsum(lengths[order]) - lengths[order]
    step = np.arange(len(row)) - first[row]
    token = number[step, row]
    tokens = len(token)

    def by_token(values: np.ndarray, dtype: Any = np.int64) -> np.ndarray:
        found = np.empty(tokens, dtype=dtype)
        found[token] = values
        return found

    times = by_token(schedule.steps - 1 - time if schedule.reverse else time)
    sequences, steps_of = by_token(order[row]), by_token(step)
    # A ragged array is one sequence to the engine, in which each row has its start.
    places = (times + schedule.starts.numpy()[sequences], 0 * sequences) if schedule.ragged else (times, sequences)
    pending = schedule.resets_in_order
    flags = np.zeros(0, np.uint8) if pending is None else by_token(pending.numpy().T[order][row, time], np.uint8)
    native = engine.Layout(tokens, batch, starts, counts, before, flags if flags.any() else flags[:0], *places)
    return TokenLayout(
        engine=native,
        schedule=schedule,
        tokens=tokens,
        blocks=blocks,
        threads=threads,
        rows=None if schedule.dense else torch.from_numpy(order),
        places=(torch.from_numpy(places[0]), torch.from_numpy(places[1])),
        sequences=torch.from_numpy(sequences),
        steps=torch.from_numpy(steps_of),
        resets=torch.from_numpy(flags) if flags.any() else None,
    )
