import os
import sys
from pathlib import Path

import pytest
from benchmarks.configurations import KINDS, Case, Shape
from benchmarks.contenders import prepare
from benchmarks.measure import Effort, measure_case
from benchmarks.peers import PEERS, Peer, Peers
from benchmarks.verify import verify_contenders

from benchmarks import peers as module
from unspool.comparison._contenders import SCRIPTS

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from protocol import Peer, main  # pyright: ignore[reportMissingImports]

class Toy(Peer):
    def place(self, batch):
        return batch

    def build(self, placed):
        pass

    def run(self, batch):
        w, u, bias = self.task.weights["weight_ih"], self.task.weights["weight_hh"], self.task.bias
        h, outputs = np.zeros((batch.inputs.shape[1], u.shape[1]), np.float32), []
        for x, real in zip(batch.inputs, batch.mask):
            h = np.where(real[:, None], np.tanh(x @ w.T + h @ u.T + bias), h)
            outputs.append(h)
        return {{"outputs": {change}}}

    def results(self, values):
        return values

main(Toy, {{"toy": "1.0"}})
"""
SHAPE = Shape("small", 3, 6, 4, 5)
CELLS = {kind.name: kind for kind in KINDS if kind.is_builtin}
CASE = Case(SHAPE, CELLS["SimpleRNN"], "ragged", "forward")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Start a peer with the text of a script, or with another form of its outputs."""
    monkeypatch.setattr(module, "SETTLE", 0.0)
    started = []

    def start(change="np.stack(outputs)"):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(folder=str(SCRIPTS), change=change))
        started.append(Peer("keras", [sys.executable, str(script)], ""))
        return started[-1]

    yield start
    for peer in started:
        peer.process.close()


def test_a_peer_that_computes_the_same(toy):
    peer = toy()
    assert peer.versions["toy"] == "1.0"
    contenders, _ = prepare(CASE, [peer])
    assert [contender.role for contender in contenders] == ["ours", "padded", "packed", "keras"]
    assert verify_contenders(contenders)[0] == ""
    assert contenders[-1].seconds() > 0


def test_no_speed_for_a_peer_that_computes_something_else(toy):
    contenders, _ = prepare(CASE, [toy(change="np.stack(outputs) * 1.01")])
    assert "keras against ours: batch 0: outputs is off by" in verify_contenders(contenders)[0]


def test_absent_peers_are_missing_and_broken_ones_have_failed(monkeypatch, tmp_path):
    monkeypatch.setenv("UNSPOOL_PEERS", str(tmp_path))
    said = []
    peers = Peers(True, {"jax": Path("/bin/false")}, said.append)
    assert peers.running == []
    assert peers.missing.keys() == {"keras", "tf1"}
    assert "make peers" in peers.missing["keras"]
    assert peers.failed.keys() == {"jax"}
    assert len(said) == 1
    assert Peers(False, {}, said.append).missing == {}


def test_a_peer_that_fails_later_is_dropped_and_the_case_measured_without_it(toy):
    said = []
    peers = Peers(False, {}, said.append)
    peers.running = [toy(change="1 / 0")]
    result = measure_case(CASE, Effort(least=1, most=1, slow=1, seconds=0.0), peers)
    assert peers.running == []
    assert peers.failed == {"keras": "failed for the first call: ZeroDivisionError: division by zero"}
    assert said == ["keras: failed, failed for the first call: ZeroDivisionError: division by zero"]
    assert result["times"].keys() == {"ours", "padded", "packed"}


@pytest.fixture(scope="module")
def libraries():
    peers = Peers(True, {}, pytest.fail)
    yield peers.running
    peers.close()


@pytest.mark.skipif("UNSPOOL_PEERS" not in os.environ, reason="UNSPOOL_PEERS names no folder of other libraries")
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("cell", CELLS)
def test_other_libraries_compute_the_same(libraries, cell, lengths, mode):
    assert [peer.role for peer in libraries] == list(PEERS)
    contenders, _ = prepare(Case(SHAPE, CELLS[cell], lengths, mode), libraries)
    assert verify_contenders(contenders)[0] == ""
