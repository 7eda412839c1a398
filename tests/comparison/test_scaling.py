"""From measurements in processes to figures, or to the reason why there are none."""

import dataclasses
import sys

import numpy as np
import pytest

from tests.comparison.toys import toy
from unspool.comparison import Settings
from unspool.comparison import _scaling as scaling_module
from unspool.comparison._contenders import select
from unspool.comparison._problem import Problem
from unspool.comparison._process import PeerError
from unspool.comparison._scaling import Scaling, quartiles

SETTINGS = Settings.of(steps=(2, 4), batch=3, input_size=2, hidden_size=3, least=3, most=3, repeat_s=0.0, limit_s=60.0)
FIGURES = ("build_s", "first_call_s", "step_s", "step_low_s", "step_high_s", "graph_nodes", "max_error")


def scale(contenders, settings=SETTINGS):
    said = []
    scaling = Scaling(settings, dict.fromkeys(contenders, sys.executable), said.append)
    scaling.run()
    return scaling, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the right answers of all problems, where each test writes the scripts that it runs."""
    folder, made = tmp_path_factory.mktemp("right"), tmp_path_factory.mktemp("problems")
    for steps in (*SETTINGS.steps, SETTINGS.longer):
        np.savez(folder / f"right-{steps}.npz", allow_pickle=False, **Problem(SETTINGS, steps, made).expected)
    return folder


def test_one_that_is_right(folder):
    scaling, said = scale([toy(folder)])
    assert said == ["T = 2: toy", "T = 4: toy"]
    assert [(r.contender, r.steps, r.status) for r in scaling.results] == [
        ("toy", 2, "measured"),
        ("toy", 4, "measured"),
    ]
    for result in scaling.results:
        assert all(getattr(result, name) is not None for name in FIGURES)
        quarters = [result.step_low_s or 0.0, result.step_s or 0.0, result.step_high_s or 0.0]
        assert quarters == sorted(quarters)
        assert result.graph_nodes == 7
        assert result.max_error == 0.0
    (longer,) = scaling.longer
    assert (longer.built_for, longer.given, longer.outcome) == (4, 6, "runs")
    assert scaling.versions["toy"] == "1.0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("values['inputs'] = values['inputs'] * 1.01", "wrong numbers: the gradient of inputs is off by"),
        ("del values['outputs']", "its numbers cannot be read"),
        ("1 / 0", "failed to write its numbers: ZeroDivisionError"),
    ],
    ids=["wrong", "absent", "crash"],
)
def test_no_figure_without_right_numbers_and_no_second_try(folder, change, reason):
    scaling, said = scale([toy(folder, change=change), toy(folder, name="other")])
    first, other, second, _ = scaling.results
    assert first.status == "failed"
    assert str(first.reason).startswith(reason)
    assert all(getattr(first, name) is None for name in FIGURES)
    assert second.status == "not_tried"
    assert second.reason == f"at 2 steps: {first.reason}"
    assert other.status == "measured"
    assert said.count("T = 4: toy") == 0
    assert scaling.longer[0].outcome == "failed"
    assert str(scaling.longer[0].message).startswith("not built for 4 steps")


@pytest.mark.parametrize(
    ("longer", "outcome", "message"),
    [
        ("self.graphs += 1", "rebuilds", None),
        ("raise TypeError('too long: [a, b]')", "refused", "TypeError: too long: [a, b]"),
        ("return {'outputs': np.zeros(1)}", "failed", "its numbers cannot be read"),
        ("import os; os._exit(2)", "failed", "ended with code 2 for the longer sequence: "),
    ],
    ids=["rebuilds", "refused", "wrong", "crash"],
)
def test_what_becomes_of_a_longer_sequence(folder, longer, outcome, message):
    scaling, _ = scale([toy(folder, longer=longer)], dataclasses.replace(SETTINGS, steps=(4,)))
    assert scaling.results[0].status == "measured"
    (found,) = scaling.longer
    assert found.outcome == outcome
    assert (found.seconds is not None) == (outcome == "rebuilds")
    assert found.message == message or str(found.message).startswith(str(message))


def test_steps_that_a_quick_run_leaves_out(folder):
    settings = dataclasses.replace(SETTINGS, most_steps={"toy": 2})
    scaling, _ = scale([toy(folder)], settings)
    assert [r.status for r in scaling.results] == ["measured", "not_tried"]
    assert scaling.results[1].reason == "left out of a quick run above 2 steps"
    assert scaling.longer == []


def test_more_steps_are_not_tried_where_fewer_took_too_long(folder, monkeypatch):
    def ask(self, what, *_, **__):
        raise PeerError(self, f"more than 60 s {what}", over_limit=True)

    monkeypatch.setattr(scaling_module.PeerProcess, "ask", ask)
    scaling, said = scale([toy(folder)])
    assert [(r.status, r.reason) for r in scaling.results] == [
        ("over_limit", "more than 60 s to build"),
        ("not_tried", "at 2 steps: more than 60 s to build"),
    ]
    assert said == ["T = 2: toy", "T = 2: toy: more than 60 s to build"]


def test_our_own_layer_in_a_process_of_its_own():
    scaling, _ = scale(select(("unspool static",)), dataclasses.replace(SETTINGS, steps=(4,)))
    (result,) = scaling.results
    assert (result.status, result.reason) == ("measured", None)
    assert result.graph_nodes is not None
    assert result.graph_nodes > 10
    assert [r.outcome for r in scaling.longer] == ["refused"]
    assert scaling.versions.keys() == {"unspool", "numpy", "python"}


def test_quartiles():
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
