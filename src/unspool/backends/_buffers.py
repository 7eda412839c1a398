"""Memory for large arrays that is used again once nobody holds them.

A fresh array of many megabytes costs more than filling it: the system hands it out page by page, zeroed.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
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
        # No lock: a signal handler that runs the engine may come between any two lines here, in the thread that would
        # hold it. Each line that changes one of these two is one step for other threads as well.
        self._free: dict[int, np.ndarray] = {}
        # What comes back waits here: it may come at any moment, also while this thread goes through the dict.
        self._returned: deque[np.ndarray] = deque()

    @property
    def kept(self) -> int:
        """Bytes of memory that nobody has."""
        return sum(block.nbytes for block in (*self._free.values(), *self._returned))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an array of undefined contents."""
        bytes_wanted = math.prod(shape) * dtype.itemsize
        if bytes_wanted < max(self.smallest, 1):
            return torch.empty(shape, dtype=dtype)
        self._gather()
        block = self._take(bytes_wanted)
        if self.limit is not None:
            self._keep_at_most(self.limit)
        lease: Any = block.view()  # an object of its own, whose end is the end of all tensors over it
        finalize(lease, self._returned.append, block).atexit = False
        return torch.from_numpy(lease)[:bytes_wanted].view(dtype).view(shape)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an array of zeros."""
        if math.prod(shape) * dtype.itemsize < max(self.smallest, 1):
            return torch.zeros(shape, dtype=dtype)
        return self.empty(shape, dtype).zero_()

    def _gather(self) -> None:
        with suppress(IndexError):  # somebody else has gathered the last one
            while self._returned:
                block = self._returned.popleft()
                self._free[id(block)] = block

    def _take(self, wanted: int) -> np.ndarray:
        while fitting := [b for b in list(self._free.values()) if wanted <= b.nbytes <= self.slack * wanted]:
            best = min(fitting, key=lambda b: b.nbytes)
            if self._free.pop(id(best), None) is not None:  # else somebody was faster
                return best
        self.made += 1
        return np.empty(wanted, np.uint8)

    def _keep_at_most(self, limit: int) -> None:
        for oldest in list(self._free):
            if sum(block.nbytes for block in list(self._free.values())) <= limit:
                return
            self._free.pop(oldest, None)


DYNAMIC = BufferPool(LARGE, SLACK, 256 << 20)
"""For what the dynamic mode keeps from forward to backward."""
