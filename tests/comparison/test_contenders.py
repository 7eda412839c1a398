"""Who takes part, and where their Pythons are found."""

import os
import subprocess
import sys

import pytest

from unspool.comparison import ComparisonError, Settings
from unspool.comparison._contenders import CONTENDERS, LIBRARIES, SCRIPTS, find_python, missing, select
from unspool.comparison._problem import Problem
from unspool.comparison._process import PeerError, PeerProcess

OUTSIDE = [contender for contender in CONTENDERS if contender.environment]


def test_names_are_unique_and_scripts_are_there():
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS) == 12
    for contender in CONTENDERS:
        assert not contender.script or (SCRIPTS / contender.script).is_file()
        assert contender.environment in ("", *LIBRARIES)


@pytest.mark.parametrize("name", sorted({contender.script for contender in OUTSIDE}))
def test_scripts_for_other_environments_are_python(name):
    command = [sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", str(SCRIPTS / name)]
    subprocess.run(command, check=True)


def test_where_pythons_are_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSPOOL_PEERS", raising=False)
    assert find_python("") == sys.executable
    assert find_python("jax") == ""
    assert "no Python with JAX in .peers" in missing("jax")
    for folder in (".peers", "other"):
        made = tmp_path / folder / "jax" / "bin" / "python"
        made.parent.mkdir(parents=True)
        made.touch(mode=0o755)
    assert find_python("jax") == str(tmp_path / ".peers" / "jax" / "bin" / "python")
    monkeypatch.setenv("UNSPOOL_PEERS", "other")
    assert find_python("jax") == str(made)
    named = tmp_path / "named"
    named.touch(mode=0o755)
    assert find_python("jax", named) == str(named)
    for absent in (tmp_path / "absent", tmp_path):
        with pytest.raises(ComparisonError, match="as the Python that has JAX; expected the path of a program"):
            find_python("jax", absent)


def test_contenders_by_name():
    assert select(()) == CONTENDERS
    assert [c.name for c in select(("torch loop", "unspool static"))] == ["unspool static", "torch loop"]
    with pytest.raises(
        ComparisonError, match=r"received the contenders \['numpy'\]; expected some of 'unspool dynamic'"
    ):
        select(("numpy",))


@pytest.mark.skipif("UNSPOOL_PEERS" not in os.environ, reason="UNSPOOL_PEERS names no folder of other libraries")
@pytest.mark.parametrize("contender", OUTSIDE, ids=lambda contender: contender.name)
def test_other_libraries_compute_the_same(contender, tmp_path):
    settings = Settings.of(steps=(4, 6), batch=3, input_size=2, hidden_size=5)
    short, long, answer = Problem(settings, 4, tmp_path), Problem(settings, 6, tmp_path), tmp_path / "answer.npz"
    with PeerProcess(contender.command(find_python(contender.environment)), 120.0, 1) as peer:
        peer.ask("to build", "prepare", arrays=short.file, variant=contender.variant, **short.task)
        graphs = peer.ask("for the first call", "run")["graphs"]
        assert peer.ask("to answer", "answer", file=answer)["nodes"] > 20
        assert short.error_of(answer) < 1e-5
        if contender.name == "TensorFlow static_rnn":
            with pytest.raises(PeerError, match="ValueError: Cannot feed value of shape"):
                peer.ask("for the longer sequence", "run", arrays=long.file)
            return
        built = peer.ask("for the longer sequence", "run", arrays=long.file)["graphs"] - graphs
        assert (built > 0) == (contender.name not in ("TensorFlow dynamic_rnn", "Keras unroll=False"))
        peer.ask("to answer", "answer", file=answer)
        assert long.error_of(answer) < 1e-5
