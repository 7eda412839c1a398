"""Labelled sequences in memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unspool.data._errors import DataError


class SequenceDataset:
    """Labelled sequences of any lengths, held in memory.

    Parameters
    ----------
    sequences : sequence of Tensor of shape (T, I), or Tensor of shape (N, T, I)
        The inputs; every sequence has its own number of steps T and the same number of features I.
    labels : Tensor of shape (N,), int64
        The class of each sequence, from 0.
    class_names : sequence of str
        The name of each class; its length is the number of classes.

    Raises
    ------
    DataError
        If the numbers of sequences and labels differ, if there is no sequence, if a sequence is not of
        shape (T, I), or if a label names no class.
    """

    def __init__(self, sequences: Sequence[Tensor] | Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
        if len(sequences) != len(labels):
            raise DataError(f"received {len(sequences)} sequences and {len(labels)} labels; expected one label each")
        if len(sequences) == 0:
            raise DataError("received no sequences; expected at least one")
        width = sequences[0].shape[-1]
        uniform = isinstance(sequences, Tensor)
        for index, sequence in enumerate(sequences[:1] if uniform else sequences):
            if sequence.ndim != 2 or sequence.shape[1] != width:
                raise DataError(
                    f"sequence {index} has shape {tuple(sequence.shape)}; expected (steps, {width}), like the first one"
                )
        if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
            raise DataError(
                f"labels run from {int(labels.min())} to {int(labels.max())}; expected 0 to {len(class_names) - 1}"
            )
        self.sequences = sequences
        self.labels = labels
        self.class_names = tuple(class_names)

    @property
    def input_size(self) -> int:
        """Number of features of one step."""
        return self.sequences[0].shape[-1]

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each sequence, int64 of shape (N,): what samplers batch by."""
        return torch.tensor([len(sequence) for sequence in self.sequences])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.sequences[index], int(self.labels[index])

    def subset(self, indices: Sequence[int]) -> "SequenceDataset":
        """Return the data set of the given rows, in the given order.

        Parameters
        ----------
        indices : sequence of int
            Rows of this data set.
        """
        rows = list(indices)
        picked = self.sequences[rows] if isinstance(self.sequences, Tensor) else [self.sequences[i] for i in rows]
        return SequenceDataset(picked, self.labels[rows], self.class_names)
