import numpy as np
from torch import Tensor

from ._errors import DataError


def stratified_split(labels: Tensor, held_out: int, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Hold rows out, from every class its share.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The class of each row.
    held_out : int
        Rows to hold out, from 1 to N - 1. Where the shares are no whole numbers, the classes with the largest
        remainders give one more.
    seed : int
        Which rows of a class are held out is drawn from it.

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
