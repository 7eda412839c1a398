"""Data sets as they are, where there are any."""

import os
from functools import cache
from pathlib import Path

import pytest

from unspool.data import LabelledTexts, load_imdb_texts


def directory_with(*names: str) -> Path:
    """Return the directory that UNSPOOL_DATA_DIR names; skip the test where it has none of the given paths."""
    if "UNSPOOL_DATA_DIR" not in os.environ:
        pytest.skip("UNSPOOL_DATA_DIR names no directory of data sets")
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    if not any((directory / name).exists() for name in names):
        pytest.skip(f"{directory} has no {' or '.join(names)}")
    return directory


@cache
def real_reviews(directory: Path) -> LabelledTexts:
    """Return the training reviews of IMDB as texts, which are read once: tests must not change them."""
    return load_imdb_texts("train", data_dir=directory)
