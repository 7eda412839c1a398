"""The part of measuring that runs in the environment of each library."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unspool.comparison._child import STAGES, write_task
from unspool.comparison._own import UnspoolLayer
from unspool.comparison._problem import Problem
from unspool.comparison._settings import Settings
from unspool.comparison.peers import measure as module
from unspool.comparison.peers.measure import Contender, columns, first_line, measure, rows

SETTINGS = Settings.of(steps=(4, 6), batch=3, input_size=2, hidden_size=5)


def run(tmp_path, kind, variant, longer=True):
    """Measure in this process; return the stages and the folder of answers."""
    batch = Problem(SETTINGS, 4, tmp_path)
    more = {}
    if longer:
        more = {"longer": Problem(SETTINGS, 6, tmp_path).batch_file, "longer_answer": tmp_path / "longer.npz"}
    task = write_task(
        tmp_path / "task.json",
        variant=variant, weights=batch.weights_file, batch=batch.batch_file, effort=[2, 3, 0.0],
        answer=tmp_path / "answer.npz", **more,
    )  # fmt: skip
    out = io.StringIO()
    measure(kind, {"library": "1.0"}, out, task)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("variant", ["dynamic", "reference"])
def test_stages_of_a_layer_that_takes_any_length(tmp_path, variant):
    told = run(tmp_path, UnspoolLayer, variant)
    assert [line["stage"] for line in told] == list(STAGES)
    assert told[0]["versions"] == {"library": "1.0"}
    assert all(line["seconds"] > 0 for line in told[1:3])
    assert len(told[3]["seconds"]) == 2
    assert told[4]["nodes"] > 10
    assert told[5]["outcome"] == "runs"
    assert told[5]["seconds"] > 0
    assert Problem(SETTINGS, 4, tmp_path).error_of(tmp_path / "answer.npz") < 1e-5
    assert Problem(SETTINGS, 6, tmp_path).error_of(tmp_path / "longer.npz") < 1e-5


def test_a_static_layer_refuses_a_longer_sequence_in_its_own_words(tmp_path):
    told = run(tmp_path, UnspoolLayer, "static")
    assert told[-1]["outcome"] == "refused"
    assert told[-1]["seconds"] is None
    assert told[-1]["message"].startswith("ValueError: LSTM is unrolled for 4 steps and received 6")
    assert not (tmp_path / "longer.npz").exists()


def test_without_a_longer_sequence(tmp_path):
    assert [line["stage"] for line in run(tmp_path, UnspoolLayer, "static", longer=False)] == list(STAGES[:-1])


class Counting(Contender):
    """Builds a graph for every number of steps, and counts calls."""

    def __init__(self, task):
        super().__init__(task)
        self.calls = []

    def place(self, batch):
        return len(batch.inputs)

    def build(self, placed):
        self.graphs += 1

    def run(self, placed):
        self.graphs += placed != self.task.steps
        self.calls.append(placed)

    def results(self, values):
        return {"calls": np.array(self.calls)}


def test_a_new_graph_is_a_rebuild_and_calls_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_reset_peak", lambda: None)
    told = run(tmp_path, Counting, "")
    assert told[-1]["outcome"] == "rebuilds"
    assert told[3]["peak_mb"] is None
    assert told[4]["nodes"] is None
    # The first call, one of warming up, two at least.
    assert np.load(tmp_path / "answer.npz")["calls"].tolist() == [4] * 4


class Slow(Counting):
    """Looks at a clock that goes on by a second at every reading."""

    now = 0.0


def test_repetitions_end_with_the_time_or_the_largest_number(tmp_path, monkeypatch):
    def clock():
        Slow.now += 1.0
        return Slow.now

    monkeypatch.setattr(module.time, "perf_counter", clock)
    problem = Problem(SETTINGS, 4, tmp_path)
    for effort, expected in (([2, 9, 5.0], 5), ([2, 4, 50.0], 4), ([3, 9, 0.5], 3)):
        task = write_task(
            tmp_path / "task.json",
            variant="", weights=problem.weights_file, batch=problem.batch_file, effort=effort,
            answer=tmp_path / "answer.npz",
        )  # fmt: skip
        out = io.StringIO()
        measure(Slow, {}, out, task)
        assert json.loads(out.getvalue().splitlines()[3])["seconds"] == [1.0] * expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from Linux's /proc")
def test_the_peak_counts_what_is_let_go():
    # In a process of its own: what a system takes back from an old, large one in the meantime would count too.
    program = """
import measure, numpy
numpy.ones(10)
before = measure._reset_peak()
if before is not None:
    block = numpy.ones(5_000_000)
    del block
    print((measure._status("VmHWM") - before) / measure.MB)
"""
    command = [sys.executable, "-c", program]
    folder = Path(module.__file__).parent
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    if not out:
        pytest.skip("a process may not reset its peak of memory here")
    assert 39 <= float(out) <= 60


def test_gate_orders_go_there_and_back():
    weight = np.arange(24.0).reshape(12, 2)
    for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        there = columns(weight, order)
        assert there.shape == (2, 12)
        assert np.array_equal(there[:, :4], weight[4 * order[0] : 4 * order[0] + 4].T)
        assert np.array_equal(rows(there, order), weight)
    assert columns(np.arange(3.0), (2, 0, 1)).tolist() == [2, 0, 1]


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\n  one\ntwo")) == "ValueError: one"
