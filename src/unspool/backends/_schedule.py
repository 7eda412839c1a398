"""Which sequences are computed at which step: lengths, masks, resets and direction, brought into one form.

A *valid step* is a step of one sequence that is not padding. Nothing else is computed, and nothing here costs more
than valid steps, sequences and time steps do, O(N + B + T): a sequence has so many valid steps at such times. Only
masks that have gaps are kept as the matrices that they are.

Valid steps are numbered in the order in which they are computed: step by step, and by sequence within a step. Tables
*by sequence* have them sequence after sequence, in a sequence by time.

Arrays of inputs and outputs are *padded*, of shape (T, B, ...), or *ragged*, of shape (N, 1, ...): valid steps alone,
by sequence. A schedule says of either where a valid step stands in it.

Letters: B batch, T steps, N valid steps, K steps at which there are valid steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._lengths import conjugate, tokens_of
from unspool._modes import is_transformed
from unspool._nest import Nest, flatten, map_leaves, take_rows, unflatten
from unspool.backends._packing import Packing, pack


class Schedule:
    """The valid steps of a batch of sequences, in the order of computation.

    Parameters
    ----------
    steps, batch : int
        T and B.
    active : BoolTensor of shape (T, B) on the CPU, optional
        Where there is a valid step; everywhere if None.
    resets : BoolTensor of shape (T, B), or (N,) by sequence, on the CPU, optional
        Where a sequence's state returns to its initial value before the step. Where there is no valid step, it takes
        effect before the sequence's next one; after the last one, in whichever direction, it takes none.
    reverse : bool
        Compute from the last step to the first.
    device : torch.device
        Where the sequences are gathered.
    ragged : bool
        Whether arrays are ragged; there are no gaps then.
    lengths : LongTensor of shape (B,) on the CPU, optional
        The valid steps of a sequence are among its first so many steps.

    Attributes
    ----------
    right_padded : bool
        Whether each sequence's valid steps are its first steps.
    dense : bool
        Whether every step of every sequence is a valid step.
    has_resets : bool
        Whether resets were given.
    layouts : dict
        What backends have made of the valid steps and want to make once.
    """

    listed = True
    """Whether it can be asked which sequences are computed at which step."""

    def __init__(
        self,
        steps: int,
        batch: int,
        active: Tensor | None,
        resets: Tensor | None,
        *,
        reverse: bool,
        device: torch.device,
        ragged: bool = False,
        lengths: Tensor | None = None,
    ) -> None:
        self.steps, self.batch, self.reverse, self.device, self.ragged = steps, batch, reverse, device, ragged
        if active is not None:
            # On the CPU, as all that a schedule finds out, whatever torch.set_default_device has said.
            active = active if lengths is None else active & _within(lengths, steps)
            lengths = active.sum(0)
            if not bool((active[1:] > active[:-1]).any()):
                active = None
        elif lengths is not None:
            lengths = lengths.clone()  # what is asked later must not depend on what becomes of the user's tensor
        self._lengths, self._gaps, self._resets = lengths, active, resets
        self.has_resets = resets is not None
        self.right_padded = active is None
        self.dense = active is None and (lengths is None or bool((lengths == steps).all()))
        self.layouts: dict[Any, Any] = {}

    # What only some backends want is computed when they ask.

    @cached_property
    def lengths(self) -> Tensor:
        """The number of valid steps of each sequence: `[B]`."""
        return torch.full((self.batch,), self.steps, device="cpu") if self._lengths is None else self._lengths

    @cached_property
    def shape(self) -> tuple[int, int]:
        """The first two sizes of arrays."""
        return (int(self.lengths.sum()), 1) if self.ragged else (self.steps, self.batch)

    @cached_property
    def starts(self) -> Tensor:
        """The place of each sequence's first step in arrays whose first two axes are flattened: `[B]`."""
        return self.lengths.cumsum(0) - self.lengths if self.ragged else torch.arange(self.batch, device="cpu")

    @property
    def stride(self) -> int:
        """How far apart two steps of a sequence are in such arrays."""
        return 1 if self.ragged else self.batch

    @cached_property
    def by_row(self) -> tuple[Tensor, Tensor]:
        """Row and time of each valid step, by sequence: twice `[N]`."""
        if self._gaps is None:
            return tokens_of(self.lengths)
        row, time = self._gaps.t().nonzero().unbind(1)
        return row, time

    @cached_property
    def _order(self) -> Tensor:
        """For each valid step its number by sequence: `[N]`."""
        time = as_array(self.by_row[1])
        key = self.steps - 1 - time if self.reverse else time
        # Integers of two bytes are sorted in O(N).
        return torch.from_numpy(np.argsort(key.astype(np.min_scalar_type(self.steps)), kind="stable"))

    @cached_property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """Row and time of each valid step: twice `[N]`."""
        row, time = self.by_row
        return row[self._order], time[self._order]

    @cached_property
    def _sizes(self) -> tuple[Tensor, Tensor]:
        """The times that have valid steps, in the order of computation, and how many they have: twice `[K]`."""
        sizes = conjugate(self.lengths) if self._gaps is None else self._gaps.sum(1)
        times = sizes.nonzero().squeeze(1)
        times = times.flip(0) if self.reverse else times
        return times, sizes[times]

    @cached_property
    def order(self) -> list[int]:
        """Time indices in the order of computation; steps without a valid step are left out."""
        return self._sizes[0].tolist()

    @cached_property
    def counts(self) -> list[int]:
        """How many valid steps each computed step has."""
        return self._sizes[1].tolist()

    @cached_property
    def _rows(self) -> tuple[Tensor, ...] | None:
        return None if self.dense else self.tokens[0].to(self.device).split(self.counts)

    def rows(self, k: int) -> Tensor | None:
        """Return the sequences `[n]` that are active at the k-th computed step, or None if all are."""
        return None if self._rows is None or self.counts[k] == self.batch else self._rows[k]

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """The first and the last computed step of each sequence, -1 where there is none: twice `[B]`."""
        times = self._sizes[0]
        number = torch.zeros(self.steps, dtype=torch.long, device="cpu").index_copy(
            0, times, torch.arange(len(times), device="cpu")
        )
        ends = [torch.where(time < 0, -1, number[time.clamp(min=0)]) if len(times) else time for time in self._ends]
        return (ends[1], ends[0]) if self.reverse else (ends[0], ends[1])

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """The times of each sequence's first and last valid step, -1 for a sequence without: twice `[B]`."""
        if self._gaps is None:
            return (self.lengths > 0).long() - 1, self.lengths - 1
        after, times = self.lengths.cumsum(0), self.by_row[1]
        first, last = times[(after - self.lengths).clamp(max=len(times) - 1)], times[(after - 1).clamp(min=0)]
        return torch.where(self.lengths > 0, first, -1), torch.where(self.lengths > 0, last, -1)

    # Where there are valid steps, and where the state is reset before them, as arrays.

    @cached_property
    def valid_in_order(self) -> Tensor:
        """Where there is a valid step, in the order of computation: `[T, B]`, where the schedule's parts are."""
        valid = _within(self.lengths, self.steps) if self._gaps is None else self._gaps
        return valid.flip(0) if self.reverse else valid

    @cached_property
    def valid(self) -> Tensor:
        """Where there is a valid step: `[T, B]`, on the device."""
        valid = self.valid_in_order
        return (valid.flip(0) if self.reverse else valid).to(self.device)

    @cached_property
    def resets(self) -> Tensor:
        """Before which steps a state is reset: `[T, B]`, or `[N, 1]` where arrays are ragged, on the device.

        Those in a gap wait for the sequence's next valid step. What stands where there is none, counts for nothing.
        """
        assert self._resets is not None, "asked where there are none"
        resets = self._resets
        if self.ragged:
            resets = resets.unsqueeze(1)
        elif self._gaps is not None:
            resets = self._waiting(resets)
        return resets.to(self.device)

    def _waiting(self, resets: Tensor) -> Tensor:
        valid = self.valid_in_order
        if self.reverse:  # what stands after a sequence's end would come before all of its steps
            resets = resets.flip(0) & (valid.cumsum(0) > 0)
        done = valid.long().cumsum(0) - valid.long()  # valid steps before each step
        waiting = torch.zeros_like(done).scatter_add(0, done, resets.long())
        found = valid & (waiting.gather(0, done) > 0)
        return found.flip(0) if self.reverse else found

    def at_resets(self, states: Nest) -> Nest:
        """Return for each reset the state that stands at it, at the step before which it takes effect.

        Of several resets that wait in a gap, the last one computed counts. What is returned elsewhere, counts for
        nothing.

        Parameters
        ----------
        states : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
        """
        if self._gaps is None:  # none of them waits
            return states
        assert self._resets is not None, "asked where there are none"
        source = _latest(self._resets.flip(0) if self.reverse else self._resets).clamp(min=0)
        source = ((self.steps - 1 - source).flip(0) if self.reverse else source).to(self.device)

        def take(leaf: Tensor) -> Tensor:
            return leaf.gather(0, source.view(*source.shape, *[1] * (leaf.dim() - 2)).expand_as(leaf))

        return map_leaves(take, states)

    @cached_property
    def latest(self) -> Tensor:
        """For each step and sequence the latest valid step up to there, -1 before the first: `[T, B]`, on the device.

        Steps are counted, and results are, in the order of computation.
        """
        return _latest(self.valid_in_order).to(self.device)

    # Places in arrays.

    @cached_property
    def positions(self) -> Tensor:
        """For each valid step its place in arrays whose first two axes are flattened: `[N]`."""
        row, time = self.tokens
        return (time * self.stride + self.starts[row]).to(self.device)

    @cached_property
    def last(self) -> Tensor:
        """For each sequence the place of the last valid step computed, -1 for a sequence without valid steps: `[B]`."""
        time = self._ends[0 if self.reverse else 1]
        return torch.where(time < 0, -1, time * self.stride + self.starts).to(self.device)

    @cached_property
    def packing(self) -> Packing:
        """The valid steps of a right-padded schedule in the order of PyTorch's packed sequences."""
        return pack(self.lengths, self.starts, self.stride, self.reverse, self.device)

    def cut(self, inputs: Nest) -> Iterator[Nest]:
        """Yield for each computed step what stands in arrays for the sequences that are active.

        Parameters
        ----------
        inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where they are ragged
        """
        leaves, spec = flatten(inputs)
        if self.ragged:
            parts = [leaf.flatten(0, 1).index_select(0, self.positions).split(self.counts) for leaf in leaves]
            yield from (unflatten(list(step), spec) for step in zip(*parts, strict=True))
            return
        columns = [leaf.unbind(0) for leaf in leaves]
        for k, t in enumerate(self.order):
            yield take_rows(unflatten([column[t] for column in columns], spec), self.rows(k))

    def scatter(self, steps: list[Nest], like: Nest) -> Nest:
        """Put the values of the valid steps in their places, and zeros elsewhere.

        Parameters
        ----------
        steps : list of nesting of Tensor of shape (n, ...)
            One entry per computed step.
        like : nesting of Tensor of shape (n, ...)
            Any of them; it is asked for its form.

        Returns
        -------
        nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where arrays are ragged
        """
        return map_leaves(lambda first, *leaves: self._scatter(leaves, first), like, *steps)

    def _scatter(self, leaves: tuple[Tensor, ...], like: Tensor) -> Tensor:
        if self.dense and self.order and not self.ragged:
            return torch.stack(leaves[::-1] if self.reverse else leaves)
        tail = like.shape[1:]
        zeros = like.new_zeros((math.prod(self.shape), *tail))
        filled = zeros.index_copy(0, self.positions, torch.cat(leaves)) if leaves else zeros
        return filled.view(*self.shape, *tail)

    def at_last(self, values: Nest) -> Nest:
        """Return what stands at the last valid step of each sequence, and zero for sequences without valid steps.

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


def _latest(flags: Tensor) -> Tensor:
    """Return for each step the latest one up to there where a flag is set, -1 before the first: `[T, B]`."""
    # Without `cummax`, which ONNX lacks: the first such step has number 1, the next one 2.
    number = flags.long().cumsum(0)
    step = torch.arange(flags.shape[0], device=flags.device).unsqueeze(1).expand_as(number)
    table = number.new_zeros((flags.shape[0] + 1, flags.shape[1]))
    found = table.scatter(0, torch.where(flags, number, 0), step).gather(0, number)
    return torch.where(number > 0, found, -1)


def _within(lengths: Tensor, steps: int) -> Tensor:
    """Return which steps are within sequences of these lengths: `[T, B]`."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def as_array(numbers: Tensor) -> np.ndarray:
    """Return integers on the CPU as an array.

    Parameters
    ----------
    numbers : LongTensor
        Within a transform of `torch.func` it has a wrapper, whose memory cannot be had.
    """
    return np.array(numbers.tolist(), dtype=np.int64) if is_transformed() else numbers.numpy()
