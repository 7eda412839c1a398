"""How long the rows of a batch are: all the same, spread evenly, or as long as film reviews are.

Letters: B rows, T steps, K batches.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unspool.comparison import spread_lengths as spread_lengths
from unspool.data import load_imdb


def reviews(steps: int, batch: int, batches: int) -> Tensor:
    """Return `[K, B]`: the lengths of IMDB reviews drawn at random, always the same ones, cut to T.

    Parameters
    ----------
    steps, batch, batches : int
        T, B and K.
    """
    known = review_lengths()
    drawn = np.random.default_rng(0).choice(len(known), (batches, batch), replace=False)
    return known[torch.from_numpy(drawn)].clamp(1, steps)


def reviews_missing() -> str:
    """Return why there are no lengths of reviews; empty if there are."""
    if "UNSPOOL_DATA_DIR" not in os.environ:
        return "UNSPOOL_DATA_DIR names no directory of data sets"
    file = Path(os.environ["UNSPOOL_DATA_DIR"]) / "imdb" / "imdb.npz"
    return "" if file.is_file() else f"{file} is not there"


@cache
def review_lengths() -> Tensor:
    """Return the numbers of words of the training reviews of IMDB."""
    return load_imdb("train", start_char=None).lengths
