"""Every cell of the corpus, through its history, on every backend that takes it."""

from __future__ import annotations

import re
from typing import Any

import pytest

import unspool as us
from tests.trust.corpus import CASES
from tests.trust.histories import Library, compare, history, plain_loop
from tests.trust.worlds import Case
from unspool.backends.native import missing

BACKENDS = ("auto", "reference", "native")


def _rows() -> list[Any]:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names), "two cases have one name"
    rows = []
    for case in CASES:
        for backend in BACKENDS:
            marks = [pytest.mark.skip(reason=missing)] if backend == "native" and missing else []
            rows.append(pytest.param(case, backend, id=f"{case.name}-{backend}", marks=marks))
    return rows


@pytest.mark.parametrize(("case", "backend"), _rows())
def test_a_run_equals_the_plain_loop(case: Case, backend: str) -> None:
    run = Library(backend)
    got, want = history(case.make, run), history(case.make, plain_loop)
    assert case.raises == any(one["['raised']"][1] for one, _ in want), "whether the plain loop raises"
    found = compare(got, want)
    assert not found, "\n".join(found)
    assert not run.alarms, run.alarms[0]
    if backend == "native":
        if case.native:
            assert not run.refusals, run.refusals[0]
        if case.refused:
            assert run.refusals, "the engine ran it"
            others = [reason for reason in run.refusals if not re.search(case.refused, reason)]
            assert not others, f"the reason should match {case.refused!r}: {others[0]}"


@pytest.mark.skipif(bool(missing), reason=missing)
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in CASES if case.native],
)
def test_runs_that_are_verified_leave_no_trace_and_give_no_alarm(case: Case) -> None:
    with us.verified(2):
        got = history(case.make, Library("native"))
    found = compare(got, history(case.make, plain_loop))
    assert not found, "\n".join(found)
