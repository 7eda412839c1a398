"""Memory for large arrays that is used again once nobody holds them.

A fresh array of many megabytes costs more than filling it: the system hands it out page by page, zeroed.
"""

from __future__ import annotations

import math
from collections import deque
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which a pool of the dynamic mode keeps memory; smaller arrays come from where all tensors come from."""

SLACK = 1.1
"""A block that is larger than what is wanted by this factor stays where it is."""


class BufferPool:
    """Hands out arrays, and takes their memory back when the last tensor that looks into it is gone.

    Parameters
    ----------
    smallest : int
        Bytes from which memory is kept.
    slack : float
        How much larger than wanted a block may be.
    limit : int
        Bytes of unused memory that are kept at most.
    """

    def __init__(self, smallest: int = 0, slack: float = math.inf, limit: int | None = None) -> None:
        self.smallest, self.slack, self.limit = smallest, slack, limit
        self.made = 0
        self._free: list[np.ndarray] = []
        # What comes back waits here: it may come at any moment, also while this thread holds the lock.
        self._returned: deque[np.ndarray] = deque()
        self._lock = Lock()

    @property
    def kept(self) -> int:
        """Bytes of memory that nobody has."""
        with self._lock:
            return sum(block.nbytes for block in (*self._free, *self._returned))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an array of undefined contents."""
        bytes_wanted = math.prod(shape) * dtype.itemsize
        if bytes_wanted < max(self.smallest, 1):
            return torch.empty(shape, dtype=dtype)
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            block = self._take(bytes_wanted)
            if self.limit is not None:
                while self._free and sum(b.nbytes for b in self._free) > self.limit:
                    self._free.pop(0)
        lease: Any = block.view()  # an object of its own, whose end is the end of all tensors over it
        finalize(lease, self._returned.append, block).atexit = False
        return torch.from_numpy(lease)[:bytes_wanted].view(dtype).view(shape)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an array of zeros."""
        return self.empty(shape, dtype).zero_()

    def _take(self, wanted: int) -> np.ndarray:
        fitting = [b for b in self._free if wanted <= b.nbytes <= self.slack * wanted]
        if fitting:
            best = min(fitting, key=lambda b: b.nbytes)
            self._free = [b for b in self._free if b is not best]
            return best
        self.made += 1
        return np.empty(wanted, np.uint8)


DYNAMIC = BufferPool(LARGE, SLACK, 256 << 20)
"""For what the dynamic mode keeps from forward to backward."""
