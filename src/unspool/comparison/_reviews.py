"""Film reviews to batch: those of IMDB where they are, else random words in rows of the same lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from unspool.data import TokenDataset, load_imdb

MAXLEN = 400
WORDS = 10_000


def load_reviews(data_dir: Path | None, seed: int) -> tuple[TokenDataset, str]:
    """Return the training reviews, cut at 400 steps, and where they are from.

    Parameters
    ----------
    data_dir : Path, optional
        A directory that has IMDB; without one words are random.
    seed : int
        Of the random words.

    Raises
    ------
    DataError
        If a directory is named and IMDB is not in it.
    """
    if data_dir is not None:
        reviews = load_imdb("train", num_words=WORDS, maxlen=MAXLEN, data_dir=data_dir)
        return reviews, f"IMDB, {len(reviews):,} training reviews cut at {MAXLEN} steps"
    known = json.loads(files("unspool.comparison").joinpath("review_lengths.json").read_text(encoding="utf-8"))
    lengths = np.repeat(np.arange(known["first"], known["first"] + len(known["counts"])), known["counts"])
    reviews = random_reviews(lengths.tolist(), seed)
    return reviews, f"random words in rows as long as IMDB's {len(reviews):,} training reviews, cut at {MAXLEN} steps"


def random_reviews(lengths: Sequence[int], seed: int) -> TokenDataset:
    """Return rows of random words.

    Parameters
    ----------
    lengths : sequence of int
        The number of steps of each row.
    seed : int
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, WORDS, int(offsets[-1]), np.int32)
    labels = torch.from_numpy(generator.integers(0, 2, len(lengths)))
    return TokenDataset(
        tokens, offsets, labels, ("negative", "positive"), num_words=WORDS, start_char=None, index_from=0
    )
