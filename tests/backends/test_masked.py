"""The masked loop, which knows no lengths, against the oracle: every cell, in ways that take turns."""

from __future__ import annotations

import pytest
import torch

import unspool as us
from tests.conformance.cases import CELLS, WAYS, Case
from tests.conformance.oracle import assert_close, measure
from tests.conformance.runs import posed, run_library
from tests.conformance.test_cases import run_oracle
from tests.refusal import refused
from unspool.backends import BackendError, dispatch
from unspool.backends.masked import MaskedBackend

TURNS = [Case(row, "auto", **WAYS[(5 * k + 7 * turn) % len(WAYS)]) for k, row in enumerate(CELLS) for turn in range(3)]


@pytest.fixture(autouse=True)
def masked_only(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (MaskedBackend(),))


@pytest.mark.parametrize("case", TURNS, ids=str)
def test_every_cell_gives_the_values_and_gradients_of_rows_alone(case):
    problem, live = posed(case)
    received = measure(lambda: run_library(case, problem), problem)
    assert_close(received, measure(lambda: run_oracle(case, problem, live), problem), case.dtype)


def test_what_it_cannot_run_is_said():
    cell = us.GRUCell(3, 4)
    with refused(BackendError, "masked: the arrays are ragged", "needs padded ones"):
        us.dynamic_rnn(cell, us.RaggedBatch(torch.zeros(3, 3), torch.tensor([2, 1]), None, torch.arange(2)))
    with refused(ValueError, "no steps (T = 0)", "expected at least one"):
        us.dynamic_rnn(cell, torch.zeros(2, 0, 3))
