"""Data sets as they are, where there are any."""

import os
from pathlib import Path

import pytest


def directory_with(*names: str) -> Path:
    """Return the directory that UNSPOOL_DATA_DIR names; skip the test where it has none of the given paths."""
    if "UNSPOOL_DATA_DIR" not in os.environ:
        pytest.skip("UNSPOOL_DATA_DIR names no directory of data sets")
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    if not any((directory / name).exists() for name in names):
        pytest.skip(f"{directory} has no {' or '.join(names)}")
    return directory
