"""What the static mode keeps from call to call: memory for everything it makes, and packed weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from unspool.backends._buffers import BufferPool

SMALL = 1 << 14
"""Bytes below which PyTorch's allocator is as good."""


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
