"""The sequences of a stream, by key: those of a server's clients, which come and go.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import Nest


class Rows(Collection[Hashable]):
    """The keys of a stream's sequences, in the order in which they stand in a batch.

    Parameters
    ----------
    batch_size : int
        Their number B at first; their keys are 0 to B - 1.
    insert : callable
        Adds a sequence to the states, at the end; it takes its state, or None.
    remove : callable
        Removes the sequence at an index from the states, and returns its state.
    """

    def __init__(self, batch_size: int, insert: Callable[[Nest | None], None], remove: Callable[[int], Nest]) -> None:
        self._places: dict[Hashable, int] = {key: key for key in range(batch_size)}
        self._next = batch_size
        self._insert, self._remove = insert, remove

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._places))

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __repr__(self) -> str:
        return f"Rows({list(self._places)})"

    def attach(self, key: Hashable | None = None, state: Nest | None = None) -> Hashable:
        """Add a sequence, as the last of the batch.

        Parameters
        ----------
        key : hashable, optional
            By default an integer that no sequence of this stream has had.
        state : nesting of Tensor, optional
            In the form of `Stream.state`, with a batch of one, as `detach` returns it; that in which the model starts
            by default.

        Returns
        -------
        hashable
            The key.

        Raises
        ------
        ValueError, TypeError
            If there is a sequence of this key, or the state does not fit.
        """
        if key is None:
            key = self._next
        if key in self._places:
            raise ValueError(f"a sequence of key {key!r} is attached; expected a new key, or none.")
        self._insert(state)
        self._places[key] = len(self._places)
        self._count(key)
        return key

    def detach(self, key: Hashable) -> Nest:
        """Remove a sequence; those after it move up.

        Parameters
        ----------
        key : hashable

        Returns
        -------
        nesting of Tensor
            Its state, with a batch of one.

        Raises
        ------
        KeyError
            If there is no sequence of this key.
        """
        state = self._remove(self.index(key))
        del self._places[key]
        self._places = {other: place for place, other in enumerate(self._places)}
        return state

    def index(self, key: Hashable) -> int:
        """Return the place of a sequence in the batch.

        Parameters
        ----------
        key : hashable

        Raises
        ------
        KeyError
            If there is no sequence of this key.
        """
        if key not in self._places:
            raise KeyError(f"no sequence of key {key!r} is attached; attached are {list(self._places)}.")
        return self._places[key]

    def indices(self, rows: Any) -> Tensor:
        """Return the places of some sequences in the batch.

        Parameters
        ----------
        rows : iterable of keys, or booleans of shape (B,)
            Keys in any order, each once, as a list, a tensor or an array.

        Raises
        ------
        TypeError, ValueError, KeyError
            If it is neither, a key occurs twice, or is unknown.
        """
        if isinstance(rows, Tensor | np.ndarray):
            rows = rows.tolist()
        if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
            raise TypeError(f"rows is {rows!r}; expected a list of keys, or one boolean for each sequence.")
        keys = list(rows)
        if keys and all(isinstance(key, bool | np.bool_) for key in keys):
            if len(keys) != len(self):
                raise ValueError(f"rows has {len(keys)} booleans; expected {len(self)}, one for each sequence.")
            return torch.tensor([place for place, chosen in enumerate(keys) if chosen], dtype=torch.long)
        if len(set(keys)) != len(keys):
            raise ValueError(f"rows is {keys}; expected each key once.")
        return torch.tensor([self.index(key) for key in keys], dtype=torch.long)

    def replace(self, keys: Iterable[Hashable]) -> None:
        """Take other keys, as many as there are sequences in the states.

        Parameters
        ----------
        keys : iterable of hashable
        """
        self._places = {key: place for place, key in enumerate(keys)}
        for key in self._places:
            self._count(key)

    def _count(self, key: Hashable) -> None:
        if isinstance(key, int):
            self._next = max(self._next, key + 1)
