"""One reading at a time: some of what a reading tells PyTorch is told to all threads together.

Whether a mode sees PyTorch's operators is one flag of the process, put back as it was found: of two readings at once,
one would find the other's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_lock = threading.RLock()
_within: ContextVar[bool] = ContextVar("within a reading", default=False)


def _renew() -> None:
    """Let a forked process read, whoever was reading when it was made."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def turn() -> Iterator[None]:
    """Wait until nobody else reads, unless this is asked by what is being read."""
    if _within.get():
        yield
        return
    with _lock:
        yield


def begin() -> None:
    """Tell that from here on, in this context, something is being read."""
    _within.set(True)
