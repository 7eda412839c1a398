"""Tables of the tokens of rows, against their definition.

Letters: B rows.
"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from unspool._lengths import conjugate, tokens_of


@given(st.lists(st.integers(0, 7), max_size=9))
def test_rows_as_tables(lengths):
    given_lengths = torch.tensor(lengths, dtype=torch.long)
    row, step = tokens_of(given_lengths)
    tokens = [(b, t) for b, length in enumerate(lengths) for t in range(length)]
    assert list(zip(row.tolist(), step.tolist(), strict=True)) == tokens
    sizes = conjugate(given_lengths)
    assert sizes.tolist() == [sum(length > t for length in lengths) for t in range(max(lengths, default=0))]
    assert conjugate(sizes).tolist() == sorted((length for length in lengths if length), reverse=True)
