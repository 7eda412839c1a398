"""What the static mode keeps from call to call: memory for everything it makes, and packed weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from unspool.backends._buffers import BufferPool

SMALL = 1 << 14
"""Bytes below which PyTorch's allocator is as good."""


MOST_PLANS = 8
"""Numbers of steps that one program keeps plans for: the last that were used."""

MOST_BYTES = 512 << 20
"""Bytes of unused memory that all these plans keep, but for the one that is in use."""


class StaticPlan:
    """Kept for one program at one number of steps.

    The memory grows to what the largest batch needs, and stays. Results are the caller's: the memory of an array is
    used again only when no tensor looks into it any more.

    Parameters
    ----------
    engine : module
        The native module.
    """

    def __init__(self, engine: Any) -> None:
        self.buffers = BufferPool(SMALL)
        self._engine = engine
        self._workspaces: dict[object, tuple[Any, Lock]] = {}

    @contextmanager
    def workspace(self, key: object) -> Iterator[Any]:
        """Lend the packed weights of a plan, or None where another thread has them."""
        if key not in self._workspaces:
            self._workspaces[key] = self._engine.Workspace(), Lock()
        workspace, lock = self._workspaces[key]
        if not lock.acquire(blocking=False):
            yield None
            return
        try:
            yield workspace
        finally:
            lock.release()


class StaticPlans:
    """The plans of one program by their numbers of steps; those that were not used for longest go first.

    Who calls with ever new numbers of steps would else keep memory for each. What goes while a run still has it lives
    as long as the run.

    Parameters
    ----------
    engine : module
        The native module.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._plans: dict[int, StaticPlan] = {}  # without a lock, as the pool is

    def at(self, steps: int) -> StaticPlan:
        """Return what is kept for so many steps, made at the first call."""
        plan = self._plans.setdefault(steps, StaticPlan(self._engine))
        self._plans[steps] = self._plans.pop(steps, plan)  # to the end
        for longest_unused in list(self._plans)[:-1]:
            if len(self._plans) <= MOST_PLANS and self._bytes_of_others() <= MOST_BYTES:
                break
            self._plans.pop(longest_unused, None)
        return plan

    def _bytes_of_others(self) -> int:
        return sum(plan.buffers.kept for plan in list(self._plans.values())[:-1])

    @property
    def by_steps(self) -> dict[int, StaticPlan]:
        """The plans that there are, the one last used at the end."""
        return dict(self._plans)
