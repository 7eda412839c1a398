"""Values of the sequences that are running: a step costs what these cost, however many others wait or are done.

A sequence comes in before its first valid step and goes after its last. In between it stays; where masks have gaps,
some of the sequences that are in are not active. Those that are in are in the order of the batch.

Letters: B batch, K steps at which there are valid steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unspool._nest import Nest, flatten, map_leaves, take_rows, unflatten
from unspool.backends._schedule import as_array


@dataclass(frozen=True)
class Step:
    """What happens to the sequences at a step; each tensor is an index into those that are in, or None.

    Attributes
    ----------
    coming : int
        How many sequences come in.
    merged : Tensor, optional
        The order of the sequences that were in followed by those that come; None for that order itself.
    active : Tensor, optional
        Those that have a valid step; None for all.
    going, staying : Tensor, optional
        Those that go after the step, and the others; None where none goes.
    """

    coming: int
    merged: Tensor | None
    active: Tensor | None
    going: Tensor | None
    staying: Tensor | None


def plan_steps(
    spans: tuple[Tensor, Tensor], live_rows: Sequence[Tensor] | None, device: torch.device
) -> tuple[list[Step], Tensor, Tensor]:
    """Return what happens at each step, and the sequences that have valid steps as they come and as they go.

    Parameters
    ----------
    spans : pair of LongTensor of shape (B,) on the CPU
        The first and the last step at which each sequence has a valid step, -1 for sequences without.
    live_rows : sequence of K LongTensor, optional
        Which sequences have a valid step at each step, where some have none in between.
    device : torch.device
        Of the values.
    """
    first, last = map(as_array, spans)
    coming, going = (np.argsort(ends, kind="stable")[np.count_nonzero(ends < 0) :] for ends in (first, last))
    steps = int(last.max(initial=-1)) + 1
    come, go = (np.bincount(ends[ends >= 0], minlength=steps) for ends in (first, last))
    inside, done = coming[:0], 0
    found: list[list[np.ndarray | None]] = []
    for k in range(steps):
        merged = active = gone = kept = None
        if come[k]:
            many = len(inside)
            inside = np.concatenate([inside, coming[done : done + come[k]]])
            done += come[k]
            if many:
                merged = np.argsort(inside, kind="stable")
                inside = inside[merged]
        rows = None if live_rows is None else as_array(live_rows[k])
        if rows is not None and len(rows) < len(inside):
            active = np.searchsorted(inside, rows)
        if go[k]:
            goes = last[inside] == k
            gone, kept = goes.nonzero()[0], (~goes).nonzero()[0]
            inside = inside[kept]
        found.append([merged, active, gone, kept])
    moved = iter(_on_device([index for step in found for index in step if index is not None], device))
    plan = [
        Step(int(n), *(None if index is None else next(moved) for index in step))
        for n, step in zip(come, found, strict=True)
    ]
    return plan, torch.from_numpy(coming).to(device), torch.from_numpy(going).to(device)


def _on_device(parts: list[np.ndarray], device: torch.device) -> tuple[Tensor, ...]:
    """Move arrays of integers at once."""
    if not parts:
        return ()
    return torch.from_numpy(np.concatenate(parts)).to(device).split([len(part) for part in parts])


def _parts(values: Nest, rows: Tensor, counts: list[int]) -> Iterator[Nest]:
    """Yield the values of the first sequences, of those that come next, and so on."""
    leaves, spec = flatten(values)
    # Taken at once: one after another they would have gradients of B sequences each.
    parts = [leaf.index_select(0, rows).split(counts) for leaf in leaves]
    for k in range(len(counts)):
        yield unflatten([part[k].clone() for part in parts], spec)


class RunningRows:
    """Hands out the values of the sequences of a step, and takes their new states, step by step.

    Parameters
    ----------
    state : nesting of Tensor of shape (B, ...)
        The initial one.
    constants : dict of str to nesting of Tensor of shape (B, ...)
        What does not change.
    spans, live_rows, device
        See `plan_steps`.
    """

    def __init__(
        self,
        state: Nest,
        constants: dict[str, Nest],
        spans: tuple[Tensor, Tensor],
        device: torch.device,
        live_rows: Sequence[Tensor] | None = None,
    ) -> None:
        self._steps, coming, self._going = plan_steps(spans, live_rows, device)
        self._initial, self._all = state, len(coming) == len(spans[0])
        self._now: Nest = None
        self._gone: list[Nest] = []
        values = {"state": state, **constants}
        counts = [step.coming for step in self._steps if step.coming]
        self._coming = iter([values]) if self._all and len(counts) == 1 else _parts(values, coming, counts)

    def at(self, k: int) -> dict[str, Nest]:
        """Return the state and the constants of the sequences that are active at the k-th computed step."""
        step = self._steps[k]
        if step.coming:
            new, order = next(self._coming), step.merged
            if order is not None:
                new = map_leaves(lambda old, more: torch.cat([old, more]).index_select(0, order), self._now, new)
            self._now = new
        return take_rows(self._now, step.active)

    def put(self, k: int, new: Nest) -> None:
        """Take the state of the same sequences after that step."""
        active, going, staying = self._steps[k].active, self._steps[k].going, self._steps[k].staying
        if active is not None:
            new = map_leaves(lambda old, part: old.index_copy(0, active, part), self._now["state"], new)
        self._now = {**self._now, "state": new}
        if going is not None and staying is not None:
            self._gone.append(take_rows(new, going if len(staying) else None))
            self._now = take_rows(self._now, staying)

    def final(self) -> Nest:
        """Return the states in which the sequences went; where a sequence had no valid step, the initial one."""
        if not self._gone:
            return self._initial
        if self._all and len(self._gone) == 1:
            return self._gone[0]
        return map_leaves(
            lambda first, *ends: first.index_copy(0, self._going, torch.cat(ends)), self._initial, *self._gone
        )
