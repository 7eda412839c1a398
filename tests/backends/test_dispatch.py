"""Choosing a backend, and saying why."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch

from tests.refusal import refused
from unspool import BackendError, LSTMCell, dynamic_rnn, explain, info
from unspool.backends import Call, Refusal, Result, Run, check_backend, dispatch, is_recording, recording
from unspool.backends.reference import ReferenceBackend


class Picky:
    """A backend that has reasons, and notes its calls."""

    def __init__(self, name: str, *reasons: str, device: str | None = None) -> None:
        self.name, self.device, self._reasons = name, device, list(reasons)
        self.calls: list[Call] = []
        self.asked = 0

    def prepare(self, call: Call) -> Run | Refusal:
        self.asked += 1
        return Refusal(self._reasons) if self._reasons else partial(self.run, call)

    def run(self, call: Call) -> Result:
        self.calls.append(call)
        return ReferenceBackend().run(call)


class Failing(Picky):
    def run(self, call: Call) -> Result:
        raise RuntimeError("the kernel failed")


@pytest.fixture
def backends(monkeypatch):
    """Return a function that puts backends before the reference backend."""

    def install(*added: Picky) -> tuple[Picky, ...]:
        monkeypatch.setattr(dispatch, "BACKENDS", (*added, ReferenceBackend()))
        return added

    return install


CELL = LSTMCell(3, 4)
X = torch.zeros(2, 5, 3)


@pytest.fixture
def call(backends) -> Call:
    """Return a call as `dynamic_rnn` makes it."""
    (spy,) = backends(Picky("spy"))
    dynamic_rnn(CELL, X, [5, 2], reverse=True)
    return spy.calls[0]


def test_a_call_describes_itself(call):
    assert str(call) == "LSTMCell over [5, 2, 3] (T, B, ...), dynamic, ragged, reverse"
    assert call.schedule.reverse
    assert not call.schedule.dense
    assert not call.static


def test_the_reference_backend_runs_whatever_is_listed(call):
    assert callable(ReferenceBackend().prepare(call))


def test_backends_of_other_devices_are_not_asked(backends):
    (elsewhere,) = backends(Picky("elsewhere", device="cuda"))
    dynamic_rnn(CELL, X)
    assert elsewhere.asked == 0


def test_auto_takes_the_first_without_reasons(backends):
    first, second, third = backends(Picky("first", "It is Monday."), Picky("second"), Picky("third"))
    dynamic_rnn(CELL, X)
    assert (len(first.calls), len(second.calls), len(third.calls)) == (0, 1, 0)


def test_a_backend_may_be_asked_for_by_name(backends):
    first, second = backends(Picky("first"), Picky("second"))
    dynamic_rnn(CELL, X, backend="second")
    assert (len(first.calls), len(second.calls)) == (0, 1)
    dynamic_rnn(CELL, X, backend="reference")
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_a_backend_that_was_asked_for_and_cannot_run_gives_its_reasons(backends):
    backends(Picky("picky", "The activation is sin.", "It is Monday."))
    with refused(
        BackendError,
        "backend 'picky' cannot run LSTMCell over [5, 2, 3]",
        "picky: The activation is sin.",
        "picky: It is Monday.",
        "Use backend='auto', or remove the reasons",
    ):
        dynamic_rnn(CELL, X, backend="picky")
    assert issubclass(BackendError, ValueError)


def test_if_nobody_can_everybody_says_why(monkeypatch):
    monkeypatch.setattr(dispatch, "BACKENDS", (Picky("a", "Too long."), Picky("b", "Too wide.")))
    with refused(BackendError, "backend 'auto' cannot run", "a: Too long.", "b: Too wide."):
        dynamic_rnn(CELL, X)
    with recording() as decisions, pytest.raises(BackendError):
        dynamic_rnn(CELL, X)
    assert decisions[0].chosen == "none"


def test_a_backend_that_fails_raises_and_nothing_falls_back(backends):
    backends(Failing("failing"))
    with pytest.raises(RuntimeError, match="the kernel failed"):
        dynamic_rnn(CELL, X)


def test_unknown_backends_are_refused(backends):
    backends(Picky("picky"))
    check_backend("auto")
    check_backend("picky")
    with refused(ValueError, "backend is 'cuda'", "expected one of 'auto', 'picky', 'reference'"):
        check_backend("cuda")
    with refused(ValueError, "backend is None", "expected one of 'auto'"):
        dynamic_rnn(CELL, X, backend=None)  # type: ignore[arg-type]


def test_the_decision_tells_everybodys_reasons(backends):
    backends(Picky("picky", "It is Monday.", "It rains."), Picky("eager"), Picky("spare"))
    answer = explain(CELL, X, [5, 1])
    (decision,) = answer.decisions
    assert decision.chosen == "eager"
    assert decision.reasons == {"picky": ["It is Monday.", "It rains."], "eager": [], "spare": [], "reference": []}
    assert str(answer).splitlines() == [
        "LSTMCell over [5, 2, 3] (T, B, ...), dynamic, ragged",
        "  runs on eager",
        "  not on picky: It is Monday.; It rains.",
        "  not on spare: others come first",
        "  not on reference: others come first",
    ]


def test_recording_is_of_one_thread_and_may_be_nested():
    found: list[Any] = []
    with recording() as outer:
        dynamic_rnn(CELL, X)
        with recording() as inner:
            dynamic_rnn(CELL, X)
        thread = threading.Thread(target=lambda: found.append(is_recording()))
        thread.start()
        thread.join()
        dynamic_rnn(CELL, X)
        assert is_recording()
    assert (len(outer), len(inner)) == (2, 1)
    assert found == [False]
    assert not is_recording()


def test_a_call_can_be_watched_from_its_decision_to_its_end(backends):
    (spy,) = backends(Picky("spy"))
    seen: list[Any] = []

    @contextmanager
    def watch(call: Call) -> Iterator[None]:
        seen.append((call, len(decisions), len(spy.calls)))
        yield
        seen.append((call, len(decisions), len(spy.calls)))

    with recording(watch) as decisions:
        dynamic_rnn(CELL, X)
    (call,) = spy.calls
    assert seen == [(call, 0, 0), (call, 1, 1)]


def test_info_prints_a_table():
    answer = info()
    assert answer.backends == tuple(backend.name for backend in dispatch.BACKENDS)
    assert answer.threads == torch.get_num_threads()
    assert answer.versions["torch"] == torch.__version__
    lines = dict(line.split("  ", 1) for line in str(answer).splitlines())
    assert {name.strip(): text.strip() for name, text in lines.items()}["backends"] == ", ".join(answer.backends)
    assert [name.strip() for name in lines] == [
        "unspool",
        "backends",
        "native engine",
        "threads",
        "CUDA device",
        "torch",
        "numpy",
        "python",
    ]
    assert repr(answer) == str(answer)
