"""The state of one part of a stream, in place.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from unspool._nest import Nest, flatten, leaves_of, map_leaves, unflatten


class Held:
    """A state that is stepped where it lies.

    Parameters
    ----------
    state : nesting of Tensor
        Copied.
    axis : int
        The axis of the batch: 0, or 1 where leaves `[L, B, ...]` hold the states of L cells.

    Attributes
    ----------
    nest : nesting of Tensor
        The state itself.
    axis : int
        See the parameters.
    by_cell : list of list of Tensor
        For each cell the leaves of its state.
    """

    def __init__(self, state: Nest, axis: int) -> None:
        self.axis = axis
        # Not made for inference alone, wherever it is made: it is written to in and out of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            self.nest = map_leaves(lambda leaf: leaf.detach().clone(memory_format=torch.contiguous_format), state)
            self.leaves: list[Tensor] = leaves_of(self.nest)
            whole = [self.leaves] if axis == 0 else [[leaf.select(0, k) for leaf in self.leaves]
                                                     for k in range(len(self.leaves[0]))]  # fmt: skip
            self.by_cell = whole
        self._before: list[Tensor] = []

    @property
    def batch_size(self) -> int:
        """B."""
        return self.leaves[0].shape[self.axis]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Return to the state as it is now where what runs in the `with` block raises; `restore` does so after it."""
        if not self._before:
            with torch.inference_mode(False):
                self._before = [torch.empty_like(leaf) for leaf in self.leaves]
        for before, leaf in zip(self._before, self.leaves, strict=True):
            before.copy_(leaf)
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Return to the state in which the last `kept` was entered."""
        for before, leaf in zip(self._before, self.leaves, strict=True):
            leaf.copy_(before)

    def put(self, state: Nest) -> None:
        """Take the values of another state of the same form."""
        for leaf, new in zip(self.leaves, leaves_of(state), strict=True):
            leaf.copy_(new)

    def rows(self, indices: Tensor) -> Held:
        """Return a copy of the states of some sequences."""
        return self._made_of(lambda leaf: leaf.index_select(self.axis, indices.to(leaf.device)))

    def put_rows(self, indices: Tensor, other: Held) -> None:
        """Take the states of some sequences from another one."""
        for leaf, new in zip(self.leaves, other.leaves, strict=True):
            leaf.index_copy_(self.axis, indices.to(leaf.device), new)

    def joined(self, other: Held) -> Held:
        """Return the states of both, one after the other."""
        leaves, spec = flatten(self.nest)
        with torch.no_grad():
            both = [torch.cat(pair, self.axis) for pair in zip(leaves, other.leaves, strict=True)]
        return Held(unflatten(both, spec), self.axis)

    def copy(self) -> Nest:
        """Return a copy of the state."""
        return map_leaves(torch.clone, self.nest)

    def _made_of(self, function: Callable[[Tensor], Tensor]) -> Held:
        with torch.no_grad():
            return Held(map_leaves(function, self.nest), self.axis)
