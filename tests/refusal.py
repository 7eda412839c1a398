"""Checking that wrong use is refused with a message that helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(error: type[Exception], *parts: str) -> Iterator[None]:
    """Expect an error whose message holds all parts: what was received, what was expected, what to do."""
    with pytest.raises(error) as caught:
        yield
    assert caught.type is error
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in {str(caught.value)!r}"
