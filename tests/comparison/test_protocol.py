"""The part of measuring that runs in the environment of each library."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unspool.comparison._problem import Problem
from unspool.comparison._settings import Settings
from unspool.comparison.peers import protocol as module
from unspool.comparison.peers.protocol import Peer, answers, columns, first_line, read, rows
from unspool.comparison.peers.unspool_layer import UnspoolLayer

SETTINGS = Settings.of(steps=(4, 6), batch=3, input_size=2, hidden_size=5)


@pytest.fixture
def problem(tmp_path):
    return Problem(SETTINGS, 4, tmp_path)


@pytest.fixture(autouse=True)
def no_reset(monkeypatch):
    """Leave out what costs most in a process as large as this one, and is asked of a small one below."""
    monkeypatch.setattr(module, "reset_peak", lambda: module.memory("VmRSS"))


def ask(kind, *requests):
    """Ask a peer in this process; return its answers, after the versions."""
    versions, *found = answers([json.dumps(request, default=str) for request in requests], {"library": "1.0"}, kind)
    assert versions["versions"]["library"] == "1.0"
    assert {"numpy", "python"} < versions["versions"].keys()
    return found


def prepare(problem, variant="", **changed):
    return {"do": "prepare", "arrays": problem.file, "variant": variant, **problem.task, **changed}


RUN = {"do": "run"}


@pytest.mark.parametrize("variant", ["dynamic", "reference"])
def test_a_layer_that_takes_any_length(tmp_path, problem, variant):
    longer, answer = Problem(SETTINGS, 6, tmp_path), tmp_path / "answer.npz"
    requests = [RUN, {"do": "run", "least": 2, "most": 3}, {"do": "answer", "file": answer}]
    build, first, more, written = ask(UnspoolLayer, prepare(problem, variant), *requests)
    assert build["seconds"] > 0
    assert (len(first["seconds"]), len(more["seconds"])) == (1, 2)
    assert written["nodes"] > 10
    assert problem.error_of(answer) < 1e-5
    given = {"do": "run", "arrays": longer.file}
    _, _, other, _ = ask(UnspoolLayer, prepare(problem, variant), RUN, given, {"do": "answer", "file": answer})
    assert other["graphs"] == first["graphs"]
    assert longer.error_of(answer) < 1e-5


def test_a_static_layer_refuses_a_longer_sequence_in_its_own_words(tmp_path, problem):
    given = {"do": "run", "arrays": Problem(SETTINGS, 6, tmp_path).file}
    *_, refused, still = ask(UnspoolLayer, prepare(problem, "static"), RUN, given, prepare(problem, "static"))
    assert refused["error"].startswith("ValueError: LSTM is unrolled for 4 steps and received 6")
    assert still["seconds"] > 0


class Counting(Peer):
    """Counts calls, and peers that were let go."""

    closed = 0

    def place(self, batch):
        return len(batch.inputs)

    def build(self, placed):
        self.calls = []

    def run(self, placed):
        self.calls.append(placed)
        return list(self.calls)

    def results(self, values):
        return {"calls": np.array(values)}

    def close(self):
        Counting.closed += 1


def test_all_batches_are_run_and_one_peer_follows_another(tmp_path, problem, monkeypatch):
    monkeypatch.setattr(module, "reset_peak", lambda: None)
    weights, (batch,) = read(problem.file)
    arrays = {"inputs": batch.inputs, "grad": batch.grad, "lengths": np.array([[2, 1, 1], [3, 4, 1]])}
    np.savez(tmp_path / "two.npz", allow_pickle=False, **weights, **arrays)
    answer = {"do": "answer", "file": tmp_path / "answer.npz"}
    requests = [prepare(problem), RUN, prepare(problem, arrays=tmp_path / "two.npz"), RUN, answer]
    *_, run, written = ask(Counting, *requests)
    assert run["peak_mb"] is None
    assert written["nodes"] is None
    assert Counting.closed == 1
    with np.load(tmp_path / "answer.npz") as file:
        assert {name: file[name].tolist() for name in file.files} == {"0 calls": [2], "1 calls": [2, 4]}


def test_batches_are_cut_and_the_gradient_of_padding_is_zero(problem):
    _, (batch,) = read(problem.file)
    assert batch.mask.sum() == batch.lengths.sum()
    assert np.array_equal((batch.grad != 0).any(2), batch.mask)


class Slow(Counting):
    """Looks at a clock that goes on by a second at every reading."""

    now = 0.0


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        ({"least": 2, "most": 9, "seconds": 5.0}, 5),
        ({"least": 2, "most": 4, "seconds": 50.0}, 4),
        ({"least": 3, "most": 9, "seconds": 0.5}, 3),
        ({}, 1),
    ],
)
def test_repetitions_end_with_the_time_or_the_largest_number(problem, monkeypatch, effort, expected):
    def clock():
        Slow.now += 1.0
        return Slow.now

    monkeypatch.setattr(module.time, "perf_counter", clock)
    assert ask(Slow, prepare(problem), {"do": "run", **effort})[1]["seconds"] == [1.0] * expected


@pytest.mark.parametrize("request_", [RUN, {"do": "answer", "file": ""}, {"do": "dance"}], ids=lambda r: r["do"])
def test_what_cannot_be_done_is_an_error(request_):
    (answer,) = ask(Counting, request_)
    assert "expected do: prepare" in answer["error"] or "dance" in answer["error"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from Linux's /proc")
def test_the_peak_counts_what_is_let_go():
    # In a process of its own: what a system takes back from an old, large one in the meantime would count too.
    program = """
import protocol, numpy
numpy.ones(10)
before = protocol.reset_peak()
if before is not None:
    block = numpy.ones(5_000_000)
    del block
    print((protocol.memory("VmHWM") - before) / protocol.MB)
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
