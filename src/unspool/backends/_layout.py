"""Where the tokens of a batch lie for the engine: blocks of rows, the live ones first, nothing for padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import Nest, map_leaves
from unspool.backends._schedule import Schedule


@dataclass(frozen=True)
class TokenLayout:
    """The order of tokens and rows in the engine's arrays.

    Attributes
    ----------
    engine : Layout
        The engine's own description.
    tokens, slots : int
        Number of tokens N, and of rows in arrays of sums.
    threads : int
    rows : LongTensor of shape (B,), optional
        The row of the batch that stands at each place; None where the order is that of the batch.
    positions : LongTensor of shape (N,), optional
        The place `t * B + b` of each token; None where the tokens are all places in order.
    first : LongTensor of shape (F,)
        Tokens that are their rows' first.
    first_rows : LongTensor of shape (F,)
        Places of those rows.
    previous : LongTensor of shape (N,)
        Each token's previous token; 0 for first ones.
    resets : LongTensor of shape (R,), optional
        Tokens before which the state is reset.
    row_of_token, step_of_token : LongTensor of shape (N,)
        The place of each token's row, and which of the row's tokens it is.
    """

    engine: Any
    tokens: int
    slots: int
    threads: int
    rows: Tensor | None
    positions: Tensor | None
    first: Tensor
    first_rows: Tensor
    previous: Tensor
    resets: Tensor | None
    row_of_token: Tensor
    step_of_token: Tensor

    def steps(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield for each step, in the order of computation, its tokens, their rows, and which of them are reset."""
        flags = None
        if self.resets is not None:
            flags = torch.zeros(self.tokens, dtype=torch.bool).index_fill(0, self.resets, True)
        count = int(self.step_of_token.max()) + 1 if self.tokens else 0
        for k in range(count):
            index = (self.step_of_token == k).nonzero().squeeze(1)
            yield index, self.row_of_token[index], None if flags is None else flags[index]

    def take_rows(self, tree: Nest) -> Nest:
        """Bring values `[B, ...]` into the layout's order."""
        return tree if self.rows is None else map_leaves(lambda leaf: leaf.index_select(0, self.rows), tree)

    def put_rows(self, leaf: Tensor) -> Tensor:
        """Bring a value from the layout's order back into that of the batch."""
        if self.rows is None:
            return leaf
        return torch.empty_like(leaf).index_copy(0, self.rows, leaf)

    def take_tokens(self, leaf: Tensor) -> Tensor:
        """Cut `[T, B, ...]` into tokens `[N, ...]`."""
        flat = leaf.flatten(0, 1)
        return flat if self.positions is None else flat.index_select(0, self.positions)


def layout_of(schedule: Schedule, engine: Any, threads: int, split_columns: bool) -> TokenLayout:
    """Lay out the tokens of a schedule.

    Rows are sorted by their number of tokens and dealt to the blocks in turn, so that the blocks have equal work.

    Parameters
    ----------
    schedule : Schedule
    engine : module
        The native module.
    threads : int
    split_columns : bool
        Make one block, on which all threads work together.
    """
    live = schedule.live_in_order.numpy()  # [K, B] in the order of computation
    batch = live.shape[1]
    lengths = live.sum(0)
    blocks = 1 if split_columns or threads == 1 else min(threads, max(batch, 1))
    dense = schedule.dense
    if dense:
        order = np.arange(batch)
        starts = np.array([batch * p // blocks for p in range(blocks + 1)])
    else:
        ranked = np.argsort(-lengths, kind="stable")
        order = np.concatenate([ranked[p::blocks] for p in range(blocks)])
        starts = np.cumsum([0, *(len(ranked[p::blocks]) for p in range(blocks))])
    place = np.empty(batch, dtype=np.int64)
    place[order] = np.arange(batch)
    steps = int(lengths.max(initial=0))
    sorted_lengths = lengths[order]
    alive = sorted_lengths[None, :] > np.arange(steps)[:, None]  # [K', B] by place
    counts = np.stack([alive[:, starts[p] : starts[p + 1]].sum(1) for p in range(blocks)]).astype(np.int64)
    if dense:
        step_starts = np.arange(steps) * batch
        step_starts = step_starts[::-1] if schedule.reverse else step_starts
        offsets = np.stack([step_starts + starts[p] for p in range(blocks)])
        tokens = steps * batch
        number = step_starts[:, None] + np.arange(batch)[None, :]  # [K', B]
    else:
        before = np.concatenate([[0], np.cumsum(alive.sum(1))])[:-1]
        within = np.cumsum(counts, axis=0) - counts
        offsets = before[None, :] + within
        tokens = int(alive.sum())
        number = np.full(alive.shape, -1)
        number[alive] = np.arange(tokens)
    # Each row's k-th live step in time.
    by_row = live.T[order]  # [B, K]
    row_index, step_index = by_row.nonzero()
    rank = step_index - 0
    if not dense:
        first_of_row = np.concatenate([[0], np.cumsum(sorted_lengths)])[:-1]
        rank = np.arange(len(row_index)) - first_of_row[row_index]
    token_of = number[rank, row_index] if tokens else np.zeros(0, dtype=np.int64)
    time = live.shape[0] - 1 - step_index if schedule.reverse else step_index
    positions = np.empty(tokens, dtype=np.int64)
    positions[token_of] = time * batch + order[row_index]
    row_of_token = np.empty(tokens, dtype=np.int64)
    row_of_token[token_of] = row_index
    step_of_token = np.empty(tokens, dtype=np.int64)
    step_of_token[token_of] = rank
    previous = np.zeros(tokens, dtype=np.int64)
    later = rank > 0
    previous[token_of[later]] = number[rank[later] - 1, row_index[later]]
    is_first = np.zeros(tokens, dtype=bool)
    is_first[token_of[~later]] = True
    first = is_first.nonzero()[0]
    pending = schedule.resets_in_order
    flags = np.zeros(0, dtype=np.uint8)
    if pending is not None:
        flags = np.zeros(tokens, dtype=np.uint8)
        flags[token_of] = pending.numpy().T[order][row_index, step_index]
    native = engine.Layout(
        tokens, batch, np.ascontiguousarray(starts[:-1], dtype=np.int64), np.ascontiguousarray(counts),
        np.ascontiguousarray(offsets, dtype=np.int64), flags,
    )  # fmt: skip
    return TokenLayout(
        engine=native,
        tokens=tokens,
        slots=max(blocks, threads, 1),
        threads=threads,
        rows=None if dense else torch.from_numpy(order),
        positions=None if dense else torch.from_numpy(positions),
        first=torch.from_numpy(first),
        first_rows=torch.from_numpy(row_of_token[first]),
        previous=torch.from_numpy(previous),
        resets=torch.from_numpy(flags.nonzero()[0]) if flags.any() else None,
        row_of_token=torch.from_numpy(row_of_token),
        step_of_token=torch.from_numpy(step_of_token),
    )
