"""Labelled sequences of tokens."""

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unspool.data._errors import DataError


class TokenDataset:
    """Labelled texts as numbers of words, in Keras's numbering.

    Words are stored by their rank, 1 for the most frequent. A text becomes `start_char`, then ``rank + index_from`` for
    every word; numbers of `num_words` or more become `oov_char`. The text is cut to `maxlen` after that, so 'pre' also
    cuts the start mark. Number 0 is reserved for padding.

    Parameters
    ----------
    tokens : ndarray of shape (N,)
        The ranks of all texts, one text after the other; it may be memory-mapped.
    offsets : ndarray of shape (R + 1,), int64
        Where each text starts, and where the last one ends.
    labels : Tensor of shape (R,), int64
        The class of each text.
    class_names : sequence of str
        The name of each class.
    num_words : int, optional
        All numbers are below it; all words by default.
    start_char : int, optional
        The number that every text starts with, or None.
    oov_char : int
        The number of a word beyond `num_words`.
    index_from : int
        The number added to the ranks.
    maxlen : int, optional
        The most steps of a text; the whole text by default.
    truncation : {"pre", "post"}
        Whether to cut the beginning or the end of a long text.

    Raises
    ------
    DataError
        If an argument is out of range, or offsets and labels do not fit the tokens.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        offsets: np.ndarray,
        labels: Tensor,
        class_names: Sequence[str],
        *,
        num_words: int | None = None,
        start_char: int | None = 1,
        oov_char: int = 2,
        index_from: int = 3,
        maxlen: int | None = None,
        truncation: Literal["pre", "post"] = "pre",
    ) -> None:
        if truncation not in ("pre", "post"):
            raise DataError(f"received truncation={truncation!r}; expected 'pre' or 'post'")
        if index_from < 0 or (maxlen is not None and maxlen < 1):
            raise DataError(f"received index_from={index_from} and maxlen={maxlen}; expected 0 and 1 or more")
        marks = [oov_char] if start_char is None else [start_char, oov_char]
        if min(marks) < 0 or (num_words is not None and num_words <= max(marks)):
            raise DataError(
                f"received num_words={num_words}, start_char={start_char}, oov_char={oov_char}; "
                "expected marks from 0 and below num_words"
            )
        if (
            len(offsets) != len(labels) + 1
            or offsets[0] != 0
            or offsets[-1] != len(tokens)
            or (np.diff(offsets) < 0).any()
        ):
            raise DataError(
                f"received {len(tokens)} tokens, {len(offsets)} offsets and {len(labels)} labels; expected offsets "
                "that ascend from 0 to the number of tokens, one more than labels"
            )
        self.labels = labels
        self.class_names = tuple(class_names)
        self.num_words = num_words
        self.start_char = start_char
        self.oov_char = oov_char
        self.index_from = index_from
        self.maxlen = maxlen
        self.truncation = truncation
        self._tokens = tokens
        self._starts, self._ends = offsets[:-1], offsets[1:]

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each text, int64 of shape (R,): what samplers batch by."""
        lengths = torch.from_numpy(self._ends - self._starts) + (self.start_char is not None)
        return lengths if self.maxlen is None else lengths.clamp(max=self.maxlen)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index = range(len(self))[index]
        ranks = self._tokens[self._starts[index] : self._ends[index]]
        words = np.array(ranks, np.int64, subok=False) + self.index_from
        if self.start_char is not None:
            words = np.concatenate([[self.start_char], words])
        if self.num_words is not None:
            words[words >= self.num_words] = self.oov_char
        if self.maxlen is not None:
            words = words[-self.maxlen :] if self.truncation == "pre" else words[: self.maxlen]
        return torch.from_numpy(words), int(self.labels[index])

    def subset(self, indices: Sequence[int]) -> "TokenDataset":
        """Return the data set of the given rows, in the given order; the tokens are shared.

        Parameters
        ----------
        indices : sequence of int
            Rows of this data set.
        """
        rows = list(indices)
        picked = copy.copy(self)
        picked.labels = self.labels[rows]
        picked._starts, picked._ends = self._starts[rows], self._ends[rows]
        return picked
