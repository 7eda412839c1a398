import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.configurations import KINDS, Case, Shape
from benchmarks.contenders import prepare
from benchmarks.measure import Effort
from benchmarks.peer import Peer, PeerError, find_python, parse_pythons
from benchmarks.team import Team
from benchmarks.verify import verify_contenders

from benchmarks import peer as peer_module

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from serve import serve  # pyright: ignore[reportMissingImports]

def prepare(task):
    print("noise on the standard output")
    w, u, bias = (task.weights[name] for name in ("weight_ih", "weight_hh", "bias_ih"))
    bias = task.bias

    def results():
        found = []
        for batch in task.batches:
            h, outputs = np.zeros((batch.inputs.shape[1], u.shape[1]), np.float32), []
            for x, real in zip(batch.inputs, batch.mask):
                h = np.where(real[:, None], np.tanh(x @ w.T + h @ u.T + bias), h)
                outputs.append(h)
            found.append({{"outputs": {change}}})
        return found

    return results, results

serve({{"toy": "1.0"}}, prepare)
"""
CASE = Case(Shape("small", 3, 6, 4, 5), next(kind for kind in KINDS if kind.name == "SimpleRNN"), "ragged", "forward")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Start a peer with the text of a script, or with another form of its outputs."""
    monkeypatch.setattr(peer_module, "SETTLE", 0.0)
    started = []

    def start(text=SCRIPT, change="np.stack(outputs)"):
        script = tmp_path / "script.py"
        script.write_text(text.format(folder=str(peer_module.SCRIPTS), change=change) if text is SCRIPT else text)
        started.append(Peer("keras", sys.executable, script))
        return started[-1]

    yield start
    for peer in started:
        peer.close()


def test_a_peer_that_computes_the_same(toy):
    peer = toy()
    assert peer.versions["toy"] == "1.0"
    assert {"numpy", "python"} < peer.versions.keys()
    contenders, _ = prepare(CASE, [peer])
    assert [contender.role for contender in contenders] == ["ours", "padded", "packed", "keras"]
    assert verify_contenders(contenders)[0] == ""
    assert contenders[-1].seconds() > 0


def test_no_speed_for_a_peer_that_computes_something_else(toy):
    contenders, _ = prepare(CASE, [toy(change="np.stack(outputs) * 1.01")])
    assert "keras against ours: batch 0: outputs is off by" in verify_contenders(contenders)[0]


def test_a_peer_that_raises_says_why(toy):
    peer = toy(change="1 / 0")
    with pytest.raises(PeerError, match="ZeroDivisionError") as caught:
        peer.prepare({"cell": "SimpleRNN", "ragged": True, "training": False}, arrays())
    assert caught.value.peer == "keras"
    with pytest.raises(PeerError):
        peer.seconds()


def test_a_peer_that_does_not_start(toy):
    with pytest.raises(PeerError, match="ModuleNotFoundError"):
        toy("import a_library_that_is_not_there")


def test_a_peer_that_never_answers(toy, monkeypatch):
    monkeypatch.setattr(peer_module, "PATIENCE", 0.2)
    with pytest.raises(PeerError, match="took more than"):
        toy("import time; time.sleep(60)")


def test_run_comes_after_prepare(toy):
    with pytest.raises(PeerError, match="expected do: prepare, then do: run"):
        toy().seconds()


def arrays():
    shape = CASE.shape
    sizes = {"weight_ih": (5, 4), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,)}
    found = {name: torch.zeros(size) for name, size in sizes.items()}
    return found | {"inputs": torch.zeros(6, 3, 4), "grad": torch.zeros(6, 3, 5), "lengths": shape.lengths("ragged")}


def test_where_pythons_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_module, "ENVIRONMENTS", tmp_path)
    for name in ("given", "named"):
        (tmp_path / name).touch()
    monkeypatch.delenv("UNSPOOL_PEER_JAX", raising=False)
    assert find_python("jax", {}) == ""
    made = tmp_path / "jax" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    assert find_python("jax", {}) == str(made)
    monkeypatch.setenv("UNSPOOL_PEER_JAX", str(tmp_path / "named"))
    assert find_python("jax", {}) == str(tmp_path / "named")
    assert find_python("jax", {"jax": str(tmp_path / "given")}) == str(tmp_path / "given")
    with pytest.raises(ValueError, match="which does not exist"):
        find_python("jax", {"jax": str(tmp_path / "absent")})


def test_names_and_paths():
    assert parse_pythons(["jax=/a=b", "keras=c"]) == {"jax": "/a=b", "keras": "c"}
    for wrong in ("jax", "numpy=/a"):
        with pytest.raises(ValueError, match="expected NAME=PATH"):
            parse_pythons([wrong])


def test_absent_peers_are_missing_and_broken_ones_have_failed(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_module, "ENVIRONMENTS", tmp_path)
    for name in ("KERAS", "TF1", "JAX"):
        monkeypatch.delenv(f"UNSPOOL_PEER_{name}", raising=False)
    said = []
    team = Team(True, {"jax": "/bin/false"}, said.append)
    assert team.members == []
    assert team.missing.keys() == {"keras", "tf1"}
    assert "make peers" in team.missing["keras"]
    assert team.failed.keys() == {"jax"}
    assert len(said) == 1
    assert Team(False, {}, said.append).missing == {}


def test_a_peer_that_fails_later_is_dropped_and_the_case_measured_without_it(toy, monkeypatch, tmp_path):
    peer, said = toy(change="1 / 0"), []
    team = Team(False, {}, said.append)
    team.members = [peer]
    result = team.measure(CASE, Effort(least=1, most=1, slow=1, seconds=0.0))
    assert team.members == []
    assert team.failed.keys() == {"keras"}
    assert result["times"].keys() == {"ours", "padded", "packed"}


def serve_module():
    """The module of the peers' side, which is not part of a package."""
    sys.path.insert(0, str(peer_module.SCRIPTS))
    try:
        import serve  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    return serve


def test_gate_orders_go_there_and_back():
    serve = serve_module()
    weight = np.arange(24.0).reshape(12, 2)
    for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        there = serve.columns(weight, order)
        assert there.shape == (2, 12)
        assert np.array_equal(there[:, :4], weight[4 * order[0] : 4 * order[0] + 4].T)
        assert np.array_equal(serve.rows(there, order), weight)


def test_requests_without_a_process(tmp_path):
    serve = serve_module()
    request, answer = tmp_path / "request.npz", tmp_path / "answer.npz"
    np.savez(request, allow_pickle=False, **{name: array.numpy() for name, array in arrays().items()})
    seen = []

    def prepare(task):
        seen.append(task)
        return lambda: None, lambda: [{"outputs": batch.inputs} for batch in task.batches]

    first = {
        "do": "prepare",
        "cell": "GRU",
        "ragged": True,
        "training": True,
        "arrays": str(request),
        "answer": str(answer),
    }
    lines = [json.dumps(line) for line in (first, {"do": "run"}, {"do": "dance"})]
    found = list(serve.answers(lines, {"toy": "1"}, prepare))
    assert [sorted(line) for line in found] == [["versions"], ["done"], ["done", "seconds"], ["error"]]
    (batch,) = seen[0].batches
    assert batch.mask.sum() == CASE.tokens
    assert batch.grad.shape == (6, 3, 5)
    with np.load(answer) as file:
        assert file.files == ["0 outputs"]


@pytest.mark.parametrize("name", ["keras", "tf1", "jax"])
def test_scripts_are_python(name):
    script = Path(peer_module.SCRIPTS / f"run_{name}.py")
    subprocess.run(
        [sys.executable, "-m", "py_compile", str(script)],
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
