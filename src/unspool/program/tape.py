"""What a step has called, in words: by them two cells are found to compute the same."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from unspool._nest import map_leaves
from unspool.program.objects import is_atom


class Tape:
    """The calls of one run of a step.

    Tensors are numbered in the order in which they are met, and described by their form where they are new. So two
    steps have the same words if they call the same functions in the same order, with the same numbers, on tensors of
    the same form that come from the same places: whatever is true of what one of them computes is true of the other.
    """

    def __init__(self) -> None:
        self._words: list[str] = []
        self._numbers: dict[int, tuple[int, Tensor]] = {}  # keeps alive what is known by its address
        self._complete = True

    def call(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """Take down a call.

        Parameters
        ----------
        name : str
            Of the function.
        args, kwargs, result : nesting of Tensor and others
        """
        self._words.append(f"{name}{map_leaves(self._word, (args, kwargs, result))}")

    def key(self, *trees: Any) -> bytes | None:
        """Return what stands for all calls, and for more that counts: what goes in and comes out, say.

        Parameters
        ----------
        *trees : nesting of Tensor and others

        Returns
        -------
        bytes or None
            None where one of the arguments cannot be put into words.
        """
        words = [*self._words, *(str(map_leaves(self._word, tree)) for tree in trees), str(torch.get_default_dtype())]
        return hashlib.blake2b("\n".join(words).encode(), digest_size=32).digest() if self._complete else None

    def _word(self, leaf: Any) -> str:
        if not isinstance(leaf, Tensor):
            self._complete &= is_atom(leaf)
            return repr(leaf) if is_atom(leaf) else ""
        if id(leaf) not in self._numbers:
            self._numbers[id(leaf)] = len(self._numbers), leaf
            form = tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device, leaf.requires_grad
            return f"{len(self._numbers) - 1}: {form}"
        return f"{self._numbers[id(leaf)][0]}"
