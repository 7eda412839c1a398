"""Data divided into parts: by class, by group, by time, into folds."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._sequences import Sequences


def stratified_split(labels: Tensor, held_out: int, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Hold out rows, a proportional share of every class.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The class of each row.
    held_out : int
        Rows to hold out, from 1 to N - 1. If the shares are not integers, the classes with the largest remainders give
        one more.
    seed : int
        Seed of the choice of rows within a class.

    Returns
    -------
    kept, held : list of int
        Row numbers in ascending order.

    Raises
    ------
    DataError
        If `held_out` is out of range.
    """
    if not 0 < held_out < len(labels):
        raise DataError(f"received held_out={held_out}; expected 1 to {len(labels) - 1} of {len(labels)} rows")
    values = labels.numpy()
    classes, counts = np.unique(values, return_counts=True)
    shares = counts * held_out / len(values)
    take = np.floor(shares).astype(int)
    largest = np.argsort(-(shares - take), kind="stable")[: held_out - int(take.sum())]
    take[largest] += 1
    generator = np.random.default_rng(seed)
    held = [
        int(row)
        for label, number in zip(classes, take, strict=True)
        for row in generator.permutation(np.flatnonzero(values == label))[:number]
    ]
    chosen = set(held)
    return [row for row in range(len(values)) if row not in chosen], sorted(held)


def grouped_split(
    keys: Sequence[Hashable], labels: Sequence[int], share: float, *, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Hold out rows such that rows with equal keys stay together.

    Parameters
    ----------
    keys : sequence of hashable, N of them
        Values that must not be on both sides: the text of a row, the speaker of a recording.
    labels : sequence of int, N of them
        The class of each row. Of every class, its share of the keys is held out; a key counts for the class of its
        first row.
    share : float
        The share of the distinct keys to hold out, between 0 and 1.
    seed : int
        Seed of the choice of keys within a class.

    Returns
    -------
    kept, held : list of int
        Row numbers in ascending order.

    Raises
    ------
    DataError
        If `share` is out of range, or holds out no key or all of them.
    """
    if not 0 < share < 1:
        raise DataError(f"received a share of {share} to hold out; expected more than 0 and less than 1")
    groups: dict[Hashable, int] = {}
    for key, label in zip(keys, labels, strict=True):
        groups.setdefault(key, label)
    _, chosen = stratified_split(torch.tensor(list(groups.values())), round(share * len(groups)), seed=seed)
    distinct = list(groups)
    held_keys = {distinct[group] for group in chosen}
    kept = [row for row, key in enumerate(keys) if key not in held_keys]
    held = [row for row, key in enumerate(keys) if key in held_keys]
    return kept, held


def stratified_folds(labels: Tensor, folds: int, *, seed: int = 0) -> Tensor:
    """Divide rows into folds for cross-validation, with nearly the same number of rows of each class in each.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The class of each row.
    folds : int
        Number of folds, from 2 to N; with N, each row is one fold.
    seed : int
        Seed of the grouping of rows within a class.

    Returns
    -------
    Tensor of shape (N,), int64
        The fold of each row, from 0. The sizes of two folds differ by one at most, and so do the numbers of rows of
        a class in them.

    Raises
    ------
    DataError
        If `folds` is out of range.
    """
    if not 2 <= folds <= len(labels):
        raise DataError(f"received folds={folds}; expected 2 to {len(labels)}, the number of rows")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    dealt = shuffled[np.argsort(labels.numpy()[shuffled], kind="stable")]
    result = torch.empty(len(labels), dtype=torch.int64)
    result[torch.from_numpy(dealt)] = torch.arange(len(labels)) % folds
    return result


def split_sequences(
    sequences: Sequences, shares: Mapping[str, float], *, rest: str = "train", seed: int = 0
) -> dict[str, Sequences]:
    """Divide sequences into parts, with a share of every class in each; those of one group stay together.

    Parameters
    ----------
    sequences : Sequences
        Those with the same entry in `groups`, if there are groups, go to one part. If there is one class each, every
        part gets its share of every class, a group counting for that of its first sequence.
    shares : mapping of str to float
        The parts to hold out, and the share of the sequences, or of the groups, that each gets.
    rest : str
        What the part of all others is called.
    seed : int
        Seed of the choice.

    Returns
    -------
    dict of str to Sequences
        The parts; the ids of each say what went where, and `Sequences.select` makes them again.

    Raises
    ------
    DataError
        If a share is out of range, or a part would be empty.
    """
    keys = sequences.ids if sequences.groups is None else sequences.groups
    classes = sequences.targets if sequences.class_names and isinstance(sequences.targets, np.ndarray) else None
    labels = [0] * len(sequences) if classes is None else classes.tolist()
    parts, left, total = {}, list(range(len(sequences))), len(set(keys))
    for name, share in shares.items():
        remaining = len({keys[row] for row in left})
        if not 0 < share < 1 or not 0 < round(share * total) < remaining:
            raise DataError(
                f"received a share of {share} for the part {name!r} of {total} sequences or groups, of which "
                f"{remaining} are left; expected one that gives it at least one and leaves one"
            )
        kept, held = grouped_split(
            [keys[row] for row in left], [labels[row] for row in left], round(share * total) / remaining, seed=seed
        )
        parts[name], left = sequences.subset(left[row] for row in held), [left[row] for row in kept]
    return {rest: sequences.subset(left), **parts}


def split_by_time(
    sequences: Sequences, steps: Mapping[str, int], *, rest: str = "train", context: int = 0
) -> dict[str, Sequences]:
    """Divide sequences at points in time, the same for all of them: no part knows what is later than its own.

    Parameters
    ----------
    sequences : Sequences
        With times, the points are times; without, steps from the end of each sequence.
    steps : mapping of str to int
        The parts, from the earliest to the last, and the number of time steps that each gets.
    rest : str
        What the part before all others is called.
    context : int
        The number of steps before each of the parts in `steps` that are in it too: what a forecast starts from.

    Returns
    -------
    dict of str to Sequences
        The parts. A sequence that has no step in a part is not in it.

    Raises
    ------
    DataError
        If a number of steps is not positive, or a part would be empty.
    """
    counts = list(steps.values())
    if context < 0 or min(counts, default=1) < 1:
        raise DataError(f"received steps={dict(steps)} and context={context}; expected at least 1 and 0")
    back = [sum(counts[place:]) for place in range(len(counts))]
    lengths = sequences.lengths.numpy()
    if sequences.times is None:
        available = int(lengths.max())
        cuts = [lengths - before for before in back]
    else:
        moments = np.unique(np.concatenate(sequences.times))
        available = len(moments)
        cuts = [
            np.array([np.searchsorted(times, moments[-min(before, available)]) for times in sequences.times])
            for before in back
        ]
    if sum(counts) >= available:
        raise DataError(
            f"received {sum(counts)} steps to hold out of {available}; expected fewer, so that some are left to train"
        )
    bounds = [np.zeros_like(lengths), *(np.maximum(cut, 0) for cut in cuts), lengths]
    parts = {}
    for name, (start, stop) in zip([rest, *steps], pairwise(bounds), strict=True):
        has_some = [row for row in range(len(sequences)) if start[row] < stop[row]]
        lead = 0 if name == rest else context
        parts[name] = sequences.subset(has_some).cut((start[has_some] - lead).tolist(), stop[has_some].tolist())
    return parts
