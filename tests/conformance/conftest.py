"""Memory that nobody has written holds NaN in all tests of this folder."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def poisoned(memory_of_nan: None) -> None:
    """See `memory_of_nan`."""
