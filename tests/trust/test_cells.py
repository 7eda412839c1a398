"""Every cell of the corpus, through its history, on every backend that takes it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

import unspool as us
from tests.trust.corpus import CASES
from tests.trust.histories import (
    Library,
    Streamed,
    Whole,
    compare,
    history,
    loop_without_gradients,
    plain_loop,
    whole_loop,
)
from tests.trust.worlds import Case
from unspool.backends._repeat import Repeatable


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_equals_the_plain_loop(case: Case) -> None:
    # What `backend="auto"` chooses is one of the two: see `Library`.
    runs = Library("reference"), Library("native")
    want = history(case.make, plain_loop)
    assert case.raises == any(one["['raised']"][1] for one, _ in want), "whether the plain loop raises"
    for run in runs:
        found = compare(history(case.make, run), want)
        assert not found, "\n".join([run.backend, *found])
    refusals, alarms = runs[1].refusals, runs[1].alarms
    assert not alarms, alarms[0]
    if case.native:
        assert not refusals, refusals[0]
    if case.native and CASES.index(case) % 6 == 0:
        with us.verified(2):  # which leaves no trace, and gives no alarm
            found = compare(history(case.make, Library("native")), want)
        assert not found, "\n".join(["verified", *found])
    if case.refused:
        assert refusals, "the engine ran it"
        others = [reason for reason in refusals if not re.search(case.refused, reason)]
        assert not others, f"the reason should match {case.refused!r}: {others[0]}"


@pytest.fixture
def repeats(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """Count the cells that are asked to be run again, by whether they were."""
    found, run = Counter[bool](), Repeatable.run

    def see(self: Repeatable, *arguments: Any) -> Any:
        result = run(self, *arguments)
        found[result is not None] += 1
        return result

    monkeypatch.setattr(Repeatable, "run", see)
    return found


def test_repeated_calls_equal_the_plain_loop(repeats: Counter[bool]) -> None:
    """What one call has found out serves the next, and never one of a cell that has changed."""
    found, scales = {}, (1.0, 1e4)  # two calls after each change: the second one may repeat the first
    for case in CASES:
        before = repeats.total()
        got = history(case.make, Whole("native"), scales)
        if repeats.total() > before:  # if not, it has been run as in the other test
            found[case.name] = compare(got, history(case.make, whole_loop, scales))
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert min(repeats[True], repeats[False]) > 100


def test_streams_equal_the_plain_loop(repeats: Counter[bool]) -> None:
    """A step obeys whatever has changed since the last one."""
    found, scales = {}, (1.0,)  # one run after each change: each of its steps may repeat the one before
    for case in CASES:
        got = history(case.make, Streamed(), scales)
        found[case.name] = compare(got, history(case.make, loop_without_gradients, scales))
    refused = {"takes_its_mask_as_a_row_input", "is_conditioned_on_a_row_input_with_a_graph"}  # drawn for each run
    assert {name for name, lines in found.items() if lines} == refused, found
    assert min(repeats[True], repeats[False]) > 100
