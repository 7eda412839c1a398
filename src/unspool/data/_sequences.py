"""Sequences as a source has them: numbers with gaps, categories, times, and what is to be predicted."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unspool.data._collate import UNLABELLED
from unspool.data._dataset import SequenceDataset
from unspool.data._errors import DataError


@dataclass(eq=False)
class Sequences:
    """Sequences of different lengths with names for all that they hold, before anything is filled or scaled.

    S sequences of T steps each, C features, K numbers to predict.

    Parameters
    ----------
    values : list of ndarray of shape (T, C), float64 or float32
        The features. A missing number is NaN. A categorical feature holds codes: 0 where it is missing or of no known
        category, else 1 for the first of its categories and so on.
    features : tuple of str
        The C names of the features.
    ids : tuple of str
        What each sequence is called; all different.
    categories : mapping of str to tuple of str
        The categorical features, and the categories of each.
    times : list of ndarray of shape (T,), optional
        When each step was: float64, or datetime64 where the source has dates; ascending.
    targets : ndarray of shape (S,) or (S, K), or list of ndarray of shape (T,) or (T, K), optional
        What is to be predicted for each sequence, or for each step of each sequence: classes, int64, or numbers,
        float64. A step without a class has -100, one without a number NaN.
    target_names : tuple of str
        The K names of the targets.
    class_names : tuple of str
        The name of each class; none where targets are numbers.
    groups : tuple of str, optional
        What each sequence belongs to, a patient or a machine: sequences of one group stay together in a split.

    Raises
    ------
    DataError
        If there is no sequence, one has no step or holds nothing at all, a value is infinite, or the parts do not fit
        each other; the message says which sequence, and which step and feature.
    """

    values: list[np.ndarray]
    features: tuple[str, ...]
    ids: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    times: list[np.ndarray] | None = None
    targets: np.ndarray | list[np.ndarray] | None = None
    target_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise DataError("received no sequences; expected at least one")
        for called in ("ids", "times", "targets", "groups"):
            part = getattr(self, called)
            if part is not None and len(part) != len(self.values):
                raise DataError(f"received {len(self.values)} sequences and {len(part)} {called}; expected one each")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(name for name in self.ids if name in seen or seen.add(name))
            raise DataError(f"two sequences are called {twice!r}; expected an id of its own for each")
        for name, array in zip(self.ids, self.values, strict=True):
            self._check(name, array)
        for called, parts in (("times", self.times), ("targets", self.targets if self.per_step else None)):
            for name, part, array in zip(self.ids, parts or (), self.values, strict=False):
                if len(part) != len(array):
                    raise DataError(
                        f"sequence {name!r} has {len(array)} steps and {len(part)} {called}; expected one each"
                    )

    def _check(self, name: str, array: np.ndarray) -> None:
        if array.ndim != 2 or array.shape[1] != len(self.features) or array.dtype.kind != "f":
            raise DataError(
                f"sequence {name!r} has shape {array.shape} and type {array.dtype}; expected (steps, "
                f"{len(self.features)}), numbers of the features {listed(self.features)}"
            )
        if len(array) == 0:
            raise DataError(f"sequence {name!r} has no steps; expected at least one. Leave it out")
        infinite = np.argwhere(np.isinf(array))
        if len(infinite):
            step, column = infinite[0]
            raise DataError(
                f"sequence {name!r}, step {step + 1}: {self.features[column]!r} is {array[step, column]}; expected a "
                "finite number, or nothing where it is missing"
            )
        if not self.categories and np.isnan(array).all():  # a code of 0 may be a category that training did not know
            raise DataError(f"sequence {name!r} has no value in any feature at any step. Leave it out")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def numeric(self) -> list[int]:
        """The places of the features that are numbers."""
        return [place for place, name in enumerate(self.features) if name not in self.categories]

    @property
    def per_step(self) -> bool:
        """Whether there is a target for every step."""
        return isinstance(self.targets, list)

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each sequence, int64 of shape (S,): what samplers batch by."""
        return torch.tensor([len(array) for array in self.values])

    @property
    def missing(self) -> dict[str, int]:
        """How many steps lack each feature, where any does; of a category, also those of no known one."""
        counts = sum(self._absent(array).sum(0) for array in self.values)
        return {name: int(count) for name, count in zip(self.features, np.asarray(counts), strict=True) if count}

    def _absent(self, array: np.ndarray) -> np.ndarray:
        absent = np.isnan(array)
        coded = [place for place, name in enumerate(self.features) if name in self.categories]
        absent[:, coded] = array[:, coded] == 0
        return absent

    def subset(self, indices: Iterable[int]) -> Sequences:
        """Return the given sequences, in the given order; their arrays are shared.

        Parameters
        ----------
        indices : iterable of int
            Their places.
        """
        rows = list(indices)
        picked = copy.copy(self)
        picked.values = [self.values[row] for row in rows]
        picked.ids = tuple(self.ids[row] for row in rows)
        picked.times = None if self.times is None else [self.times[row] for row in rows]
        picked.groups = None if self.groups is None else tuple(self.groups[row] for row in rows)
        if self.targets is not None:
            targets = self.targets
            picked.targets = [targets[row] for row in rows] if isinstance(targets, list) else targets[rows]
        return picked

    def select(self, ids: Iterable[str]) -> Sequences:
        """Return the sequences of the given ids, in the given order.

        Parameters
        ----------
        ids : iterable of str
            Their ids, as a part of an earlier split that was written down.

        Raises
        ------
        DataError
            If one of them is not here.
        """
        places = {name: place for place, name in enumerate(self.ids)}
        wanted = list(ids)
        for name in wanted:
            if name not in places:
                raise DataError(f"there is no sequence {name!r}; the data are others than those that were split")
        return self.subset(places[name] for name in wanted)

    def cut(self, starts: Sequence[int], stops: Sequence[int]) -> Sequences:
        """Return a stretch of each sequence; sequences of which nothing is left are left out.

        Parameters
        ----------
        starts, stops : sequence of int, S of them
            The first step of each, and the one after the last.
        """
        spans = [slice(max(start, 0), stop) for start, stop in zip(starts, stops, strict=True)]
        kept = [row for row, span in enumerate(spans) if span.start < min(span.stop, len(self.values[row]))]
        picked = self.subset(kept)
        spans = [spans[row] for row in kept]
        picked.values = [array[span] for array, span in zip(picked.values, spans, strict=True)]
        if picked.times is not None:
            picked.times = [array[span] for array, span in zip(picked.times, spans, strict=True)]
        if isinstance(picked.targets, list):
            picked.targets = [array[span] for array, span in zip(picked.targets, spans, strict=True)]
        return picked

    def dataset(self) -> SequenceDataset:
        """Return the sequences as samples for a model, in 32 bits.

        Numbers should be scaled, and missing ones filled, before: see `Scaling`. Targets that are numbers are float32.

        Raises
        ------
        DataError
            If a number is missing.
        """
        if not all(np.isfinite(array).all() for array in self.values):
            raise DataError(
                f"numbers are missing in {listed(self.missing)}; fill them with Scaling.fit(...).apply(...)"
            )
        arrays = [torch.from_numpy(array.astype(np.float32)) for array in self.values]
        names = self.class_names or None
        if isinstance(self.targets, list):
            return SequenceDataset(arrays, class_names=names, targets=[_tensor(array) for array in self.targets])
        return SequenceDataset(arrays, None if self.targets is None else _tensor(self.targets), names)


def _tensor(targets: np.ndarray) -> Tensor:
    return torch.from_numpy(targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64))


def counts_of(sequences: Sequences) -> dict[str, int]:
    """Return how many sequences, or steps, are of each class; those without one are not counted.

    Parameters
    ----------
    sequences : Sequences
        With classes as targets.

    Raises
    ------
    DataError
        If its targets are no classes.
    """
    if not sequences.class_names or sequences.targets is None:
        raise DataError("the targets are no classes; expected a class for each sequence or step")
    targets = np.concatenate(sequences.targets) if isinstance(sequences.targets, list) else sequences.targets
    counts = np.bincount(targets[targets != UNLABELLED], minlength=len(sequences.class_names))
    return dict(zip(sequences.class_names, counts.tolist(), strict=True))


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names for a message, quoted and shortened.

    Parameters
    ----------
    names : iterable of str
        The names.
    most : int
        How many to write out.
    """
    every = list(names)
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most:,} more"
