"""Sequences in memory, with a class, numbers or a target for every step, or without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from unspool.data._collate import UNLABELLED, StepSample
from unspool.data._errors import DataError

Targets = Tensor | np.ndarray | Sequence[Any]


class SequenceDataset:
    """Sequences of any lengths, held in memory, and what is to be known of each.

    With `class_names`, labels are classes: whole numbers from 0, or names. Without, they are numbers of a float's type:
    a class is never taken for a number, nor a number cut to a class. Samples are pairs of a sequence and its class
    (int), its numbers (Tensor of shape () or (K,)) or None; with `targets`, a `StepSample`.

    Parameters
    ----------
    sequences : sequence of Tensor or ndarray of shape (T, I), or Tensor of shape (N, T, I)
        The inputs; every sequence has its own number of steps T and the same number of features I.
    labels : Tensor or ndarray of shape (N,) or (N, K), or sequence of str, int or float; optional
        The class of each sequence, or its numbers. None for sequences without labels.
    class_names : sequence of str, optional
        The name of each class; its length is the number of classes. By default those in `labels`, sorted, if these are
        names.
    targets : sequence of Tensor, ndarray or list of shape (T, ...), optional
        Instead of `labels`: a class or numbers for every step of each sequence. The class -100 means that a step has
        none.

    Raises
    ------
    DataError
        If the numbers of sequences and labels differ, if there is no sequence, if a sequence is not of shape (T, I), if
        a label names no class, or if a number would have to be cut to become one, or is
        not finite.
    """

    def __init__(
        self,
        sequences: Sequence[Tensor] | Sequence[np.ndarray] | Tensor,
        labels: Targets | None = None,
        class_names: Iterable[str] | None = None,
        *,
        targets: Sequence[Targets] | None = None,
    ) -> None:
        if len(sequences) == 0:
            raise DataError("received no sequences; expected at least one")
        if labels is not None and targets is not None:
            raise DataError("received labels and targets; expected one for each sequence or one for each step")
        if labels is not None and len(labels) != len(sequences):
            raise DataError(f"received {len(sequences)} sequences and {len(labels)} labels; expected one label each")
        self.sequences = sequences if isinstance(sequences, Tensor) else [torch.as_tensor(one) for one in sequences]
        width = self.sequences[0].shape[-1]
        for index, sequence in enumerate(self.sequences[:1] if isinstance(sequences, Tensor) else self.sequences):
            if sequence.ndim != 2 or sequence.shape[1] != width:
                raise DataError(
                    f"sequence {index} has shape {tuple(sequence.shape)}; expected (steps, {width}), like the first one"
                )
        names = None if class_names is None else tuple(class_names)
        if names is None:
            names = _names_in([labels] if targets is None else targets)
        self.labels: Any = None if labels is None else _as_targets(labels, names, "labels")
        self.targets = None if targets is None else _per_step(targets, names, self.lengths.tolist())
        self.class_names = () if names is None else names

    @property
    def input_size(self) -> int:
        """Number of features of one step."""
        return self.sequences[0].shape[-1]

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each sequence, int64 of shape (N,): what samplers batch by."""
        return torch.tensor([len(sequence) for sequence in self.sequences])

    def __len__(self) -> int:
        return len(self.sequences)

    @overload
    def __getitem__(self, index: slice) -> SequenceDataset: ...

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, Any]: ...

    def __getitem__(self, index: int | slice) -> SequenceDataset | tuple[Tensor, Any]:
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        if self.targets is not None:
            return StepSample(self.sequences[index], self.targets[index])
        if self.labels is None:
            return self.sequences[index], None
        label = self.labels[index]
        return self.sequences[index], int(label) if self.class_names else label

    def subset(self, indices: Sequence[int]) -> SequenceDataset:
        """Return the data set of the given sequences, in the given order.

        Parameters
        ----------
        indices : sequence of int
            Places in this data set, at least one.
        """
        rows = list(indices)
        return SequenceDataset(
            self.sequences[rows] if isinstance(self.sequences, Tensor) else [self.sequences[row] for row in rows],
            None if self.labels is None else self.labels[rows],
            self.class_names or None,
            targets=None if self.targets is None else [self.targets[row] for row in rows],
        )


def _names_in(groups: Iterable[Any]) -> tuple[str, ...] | None:
    """Return the sorted names among labels, or None where these are no names."""
    plain = [group for group in groups if group is not None and not isinstance(group, Tensor)]
    names = {str(name) for group in plain for name in group if isinstance(name, str)}
    return tuple(sorted(names)) or None


def _as_targets(labels: Any, names: tuple[str, ...] | None, called: str) -> Tensor:
    array = labels if isinstance(labels, Tensor | np.ndarray) else np.asarray(labels)
    if isinstance(array, np.ndarray):
        if array.dtype.kind in "US":
            array = _numbered(array.astype(str), names, called)
        if array.dtype.kind not in "biuf":
            raise DataError(f"received {called} of type {array.dtype}; expected classes, names of classes or numbers")
        # From a list, PyTorch makes floats of 32 bits.
        array = torch.as_tensor(array if isinstance(labels, np.ndarray) else array.tolist())
    whole = not (array.is_floating_point() or array.is_complex())
    if names is None:
        if whole:
            raise DataError(
                f"received {called} of type {array.dtype} and no class_names; expected the names of the classes, or "
                "numbers of a float's type where these are meant"
            )
        if called == "labels" and not array.isfinite().all():
            raise DataError("received a label that is no finite number; leave its sequence out")
        return array
    if not whole or array.ndim != 1:
        raise DataError(
            f"received {called} of shape {tuple(array.shape)} and type {array.dtype} for {len(names)} classes; "
            "expected one whole number or name each. Leave class_names out where numbers are to be predicted"
        )
    known = array[array != UNLABELLED] if called != "labels" else array
    if len(known) and (int(known.min()) < 0 or int(known.max()) >= len(names)):
        raise DataError(f"{called} run from {int(known.min())} to {int(known.max())}; expected 0 to {len(names) - 1}")
    return array.long()


def _numbered(labels: np.ndarray, names: tuple[str, ...] | None, called: str) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(names or ())}
    for name in np.unique(labels).tolist():
        if name not in numbers:
            raise DataError(f"{called} have the class {name!r}; expected one of {', '.join(map(repr, numbers))}")
    return np.array([numbers[name] for name in labels.tolist()], np.int64)


def _per_step(targets: Sequence[Targets], names: tuple[str, ...] | None, lengths: list[int]) -> list[Tensor]:
    if len(targets) != len(lengths):
        raise DataError(f"received {len(lengths)} sequences and {len(targets)} targets; expected one each")
    found = []
    for index, (wanted, steps) in enumerate(zip(targets, lengths, strict=True)):
        called = f"the targets of sequence {index}"
        tensor = _as_targets(wanted, names, called)
        if tensor.ndim == 0 or len(tensor) != steps or (found and tensor.shape[1:] != found[0].shape[1:]):
            raise DataError(
                f"{called} have shape {tuple(tensor.shape)}; expected one for each of its {steps} steps, as wide as "
                "those of the first sequence"
            )
        found.append(tensor)
    return found
