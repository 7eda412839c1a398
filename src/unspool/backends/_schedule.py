"""Which rows are computed at which step: lengths, masks, resets and direction, brought into one form.

A *token* is one real step of one row. Tokens are numbered in the order in which they are computed: step by step,
and by row within a step. Nothing is computed for what is no token.

Arrays of inputs and outputs are *padded*, of shape (T, B, ...), or *ragged*, of shape (N, 1, ...): the tokens alone,
row after row, each row in the order of time. A schedule says of either where a token stands in it.

Letters: B batch, T steps, N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from unspool._nest import Nest, flatten, map_leaves, take_rows, unflatten
from unspool.backends._packing import Packing, pack


class Schedule:
    """The tokens of a batch of sequences, in the order of computation.

    Parameters
    ----------
    steps, batch : int
        T and B.
    live : BoolTensor of shape (T, B) on the CPU, optional
        Where there is a token; everywhere if None.
    resets : BoolTensor of shape (T, B) on the CPU, optional
        Where a row's state returns to its initial value before the step. A reset at a step that is no token takes
        effect before the row's next token; one after the row's last token, in whichever direction, none.
    reverse : bool
        Compute from the last step to the first.
    device : torch.device
        Where the rows are gathered.
    ragged : bool
        Whether arrays are ragged.
    """

    def __init__(
        self,
        steps: int,
        batch: int,
        live: Tensor | None,
        resets: Tensor | None,
        *,
        reverse: bool,
        device: torch.device,
        ragged: bool = False,
    ) -> None:
        self.steps, self.batch, self.reverse, self.device, self.ragged = steps, batch, reverse, device, ragged
        self.dense = live is None or bool(live.all())
        # Time runs backwards from here on where the direction does; `order` translates.
        self._live = live.flip(0) if live is not None and reverse else live
        self._given_resets = self._in_order(resets, self._live)

    # What only some backends want is computed when they ask.

    @cached_property
    def live_in_order(self) -> Tensor:
        """Where there is a token, in the order of computation: `[T, B]`."""
        if self._live is None:
            return torch.ones(self.steps, self.batch, dtype=torch.bool, device="cpu")
        return self._live

    @property
    def _times(self) -> Tensor:
        """The numbers of the steps: `[T, 1]`."""
        # On the CPU, as all that a schedule finds out, whatever torch.set_default_device has said.
        return torch.arange(self.steps, device="cpu").unsqueeze(1)

    @cached_property
    def lengths(self) -> Tensor:
        """The number of tokens of each row: `[B]`."""
        return self.live_in_order.sum(0)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """The first two sizes of arrays."""
        return (int(self.lengths.sum()), 1) if self.ragged else (self.steps, self.batch)

    @cached_property
    def starts(self) -> Tensor:
        """The place of each row's first step in arrays whose first two axes are flattened: `[B]`."""
        return self.lengths.cumsum(0) - self.lengths if self.ragged else torch.arange(self.batch, device="cpu")

    @property
    def stride(self) -> int:
        """How far apart two steps of a row are in such arrays."""
        return 1 if self.ragged else self.batch

    @cached_property
    def _computed(self) -> Tensor:
        """The steps that have a token, in the order of computation."""
        return self.live_in_order.any(1).nonzero().squeeze(1)

    @cached_property
    def order(self) -> list[int]:
        """Time indices in the order of computation; steps without a token are left out."""
        return (self.steps - 1 - self._computed if self.reverse else self._computed).tolist()

    @cached_property
    def _counts(self) -> list[int]:
        return self.live_in_order.sum(1)[self._computed].tolist()

    @cached_property
    def _tokens(self) -> tuple[Tensor, Tensor]:
        """Step, in the order of computation, and row of each token: twice `[N]`."""
        step, row = self.live_in_order.nonzero().unbind(1)
        return step, row

    @cached_property
    def _rows(self) -> tuple[Tensor, ...] | None:
        return None if self.dense else self._tokens[1].to(self.device).split(self._counts)

    @property
    def given_resets_in_order(self) -> Tensor | None:
        """Resets as they were given, in the order of computation: `[T, B]`, or None."""
        return self._given_resets

    @cached_property
    def resets_in_order(self) -> Tensor | None:
        """Which tokens the state is reset before: `[T, B]`, or None."""
        return None if self._given_resets is None else self._pending(self._given_resets)

    @cached_property
    def _resets(self) -> list[Tensor | None] | None:
        return self._token_resets()

    def rows(self, k: int) -> Tensor | None:
        """Return the rows `[n]` that are live at the k-th computed step, or None if all are."""
        return None if self._rows is None or self._counts[k] == self.batch else self._rows[k]

    def resets(self, k: int) -> Tensor | None:
        """Return which of the live rows are reset before the k-th computed step, `[n]`, or None if none is."""
        return None if self._resets is None else self._resets[k]

    def _in_order(self, resets: Tensor | None, live_in_order: Tensor | None) -> Tensor | None:
        """Put resets into the order of computation, without those of the padding after a row's end.

        Forward they would find no token to act on; in the reverse direction they would come before all tokens.
        """
        if resets is None or not self.reverse:
            return resets
        resets = resets.flip(0)
        return resets if live_in_order is None else resets & (live_in_order.cumsum(0) > 0)

    def _pending(self, resets: Tensor) -> Tensor:
        """Let resets at steps that are no tokens wait for the row's next token."""
        seen = resets.long().cumsum(0)  # resets up to and including each step
        used = torch.where(self.live_in_order, seen, 0).cummax(0).values if self.steps else seen
        before = torch.cat([torch.zeros_like(used[:1]), used[:-1]])  # resets that earlier tokens have taken
        return (seen > before) & self.live_in_order

    def _token_resets(self) -> list[Tensor | None] | None:
        if self.resets_in_order is None:
            return None
        per_step = self.resets_in_order[self.live_in_order].split(self._counts)
        return [part.to(self.device) if bool(part.any()) else None for part in per_step]

    @cached_property
    def latest(self) -> Tensor:
        """For each step and row the number of the latest token up to there, -1 before the first: `[T, B]`.

        "Up to" is meant in the order of computation.
        """
        number = (self.live_in_order.flatten().long().cumsum(0) - 1).view_as(self.live_in_order)
        return self.carried_on(torch.where(self.live_in_order, number, -1), in_order=True).to(self.device)

    def carried_on(self, number: Tensor, in_order: bool = False) -> Tensor:
        """Fill -1 in `[T, B]` with what stands at the latest token up to there, -1 before the first."""
        number = number if in_order or not self.reverse else number.flip(0)
        filled = torch.where(number < 0, -1, self._times)  # the step of the latest token
        filled = filled.cummax(0).values if self.steps else filled
        latest = torch.where(filled < 0, -1, number.gather(0, filled.clamp(min=0))) if self.steps else number
        return latest.flip(0) if self.reverse else latest

    @cached_property
    def positions(self) -> Tensor:
        """For each token its place in arrays whose first two axes are flattened: `[N]`."""
        step, row = self._tokens
        return ((self.steps - 1 - step if self.reverse else step) * self.stride + self.starts[row]).to(self.device)

    @cached_property
    def last(self) -> Tensor:
        """For each row the place of the last token computed, -1 for a row without tokens: `[B]`."""
        place = torch.full((self.batch,), -1, dtype=torch.long, device=self.device)
        rows = self._tokens[1].to(self.device)
        # Of several tokens of a row the last computed one counts; scatter promises no order, so take the extreme.
        reduce = "amin" if self.reverse else "amax"
        return place.scatter_reduce(0, rows, self.positions, reduce, include_self=False)

    @cached_property
    def right_padded(self) -> bool:
        """Whether each row's tokens are its first steps."""
        if self.dense:
            return True
        live = self.live_in_order.flip(0) if self.reverse else self.live_in_order
        return torch.equal(live, self._times < self.lengths)

    @cached_property
    def packing(self) -> Packing:
        """The tokens of a right-padded schedule in the order of PyTorch's packed sequences."""
        return pack(self.lengths, self.starts, self.stride, self.reverse, self.device)

    def cut(self, inputs: Nest) -> Iterator[Nest]:
        """Yield for each computed step what stands in arrays for the rows that are live.

        Parameters
        ----------
        inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where they are ragged
        """
        leaves, spec = flatten(inputs)
        if self.ragged:
            parts = [leaf.flatten(0, 1).index_select(0, self.positions).split(self._counts) for leaf in leaves]
            yield from (unflatten(list(step), spec) for step in zip(*parts, strict=True))
            return
        columns = [leaf.unbind(0) for leaf in leaves]
        for k, t in enumerate(self.order):
            yield take_rows(unflatten([column[t] for column in columns], spec), self.rows(k))

    def spread(self, tokens: list[Nest], before_first: Nest, pad: str) -> Nest:
        """Put the values of the tokens in their places.

        Parameters
        ----------
        tokens : list of nesting of Tensor of shape (n, ...)
            One entry per computed step.
        before_first : nesting of Tensor of shape (B, ...)
            What stands before a row's first token where padding repeats.
        pad : {"zero", "repeat"}
            What stands elsewhere.

        Returns
        -------
        nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
        """
        return map_leaves(lambda first, *leaves: self._spread(leaves, first, pad), before_first, *tokens)

    def _spread(self, leaves: tuple[Tensor, ...], first: Tensor, pad: str) -> Tensor:
        if self.dense and self.order and not self.ragged:
            return torch.stack(leaves[::-1] if self.reverse else leaves)
        tail = first.shape[1:]
        if pad == "zero" or self.ragged:
            empty = first.new_zeros((math.prod(self.shape), *tail))
            filled = empty.index_copy(0, self.positions, torch.cat(leaves)) if leaves else empty
        else:
            row = torch.arange(self.batch, device=self.device)
            place = torch.where(self.latest < 0, row, self.latest + self.batch)
            filled = torch.cat([first, *leaves]).index_select(0, place.flatten())
        return filled.view(*self.shape, *tail)

    def at_last(self, values: Nest) -> Nest:
        """Return what stands at the last token of each row, and zero for rows without tokens.

        Parameters
        ----------
        values : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged

        Returns
        -------
        nesting of Tensor of shape (B, ...)
        """
        return map_leaves(self._at_last, values)

    def _at_last(self, values: Tensor) -> Tensor:
        tail = values.shape[2:]
        if not self.order or not self.batch:
            return values.new_zeros((self.batch, *tail)) + values.flatten()[:0].sum()  # zeros, but in the graph
        if self.dense and not self.ragged:
            return values[0 if self.reverse else -1]
        found = values.flatten(0, 1).index_select(0, self.last.clamp(min=0))
        return found.masked_fill((self.last < 0).view(-1, *[1] * len(tail)), 0)
