"""Data divided into parts: by class, by group, into folds."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from unspool.data._errors import DataError


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
