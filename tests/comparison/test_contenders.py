"""Who takes part, and where their Pythons are found."""

import os
import subprocess
import sys

import pytest

from unspool.comparison import ComparisonError, Settings
from unspool.comparison._child import STAGES, run_child, write_task
from unspool.comparison._contenders import CONTENDERS, LIBRARIES, SCRIPTS, find_python, select
from unspool.comparison._problem import Problem

OUTSIDE = [contender for contender in CONTENDERS if contender.environment]


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "python"
    path.touch(mode=0o755)
    return path


def test_names_are_unique_and_scripts_are_there():
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS) == 12
    for contender in CONTENDERS:
        assert not contender.script or (SCRIPTS / contender.script).is_file()
        assert contender.environment in ("", *LIBRARIES)


@pytest.mark.parametrize("name", sorted({contender.script for contender in OUTSIDE}))
def test_scripts_for_other_environments_are_python(name):
    command = [sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", str(SCRIPTS / name)]
    subprocess.run(command, check=True)


def test_where_pythons_are_found(monkeypatch, tmp_path, program):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSPOOL_PEER_JAX", raising=False)
    assert find_python("", {}) == sys.executable
    assert find_python("jax", {}) == ""
    made = tmp_path / ".peers" / "jax" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    assert find_python("jax", {}) == str(made)
    named = tmp_path / "named"
    named.touch(mode=0o755)
    monkeypatch.setenv("UNSPOOL_PEER_JAX", str(named))
    assert find_python("jax", {}) == str(named)
    assert find_python("jax", {"jax": program}) == str(program)
    for absent in (tmp_path / "absent", tmp_path):
        with pytest.raises(ComparisonError, match="as the Python that has JAX; expected the path of a program"):
            find_python("jax", {"jax": absent})


def test_contenders_by_name():
    assert select(()) == CONTENDERS
    assert [c.name for c in select(("torch loop", "unspool static"))] == ["unspool static", "torch loop"]
    with pytest.raises(
        ComparisonError, match=r"received the contenders \['numpy'\]; expected some of 'unspool dynamic'"
    ):
        select(("numpy",))


@pytest.mark.parametrize("contender", OUTSIDE, ids=lambda contender: contender.name)
def test_other_libraries_compute_the_same(contender, tmp_path):
    variable = f"UNSPOOL_PEER_{contender.environment.upper()}"
    if variable not in os.environ:
        pytest.skip(f"{variable} names no Python with {LIBRARIES[contender.environment]}")
    settings = Settings.of(steps=(4, 6), batch=3, input_size=2, hidden_size=5)
    short, long = Problem(settings, 4, tmp_path), Problem(settings, 6, tmp_path)
    task = write_task(
        tmp_path / "task.json",
        variant=contender.variant, weights=short.weights_file, batch=short.batch_file, longer=long.batch_file,
        effort=[1, 1, 0.0], answer=tmp_path / "answer.npz", longer_answer=tmp_path / "longer.npz",
    )  # fmt: skip
    told = run_child([*contender.command(find_python(contender.environment, {})), str(task)], STAGES, 120.0, 1)
    assert (told.status, told.reason) == ("finished", "")
    assert short.error_of(tmp_path / "answer.npz") < 1e-5
    assert told.stages["answer"]["nodes"] > 20
    expected = {"TensorFlow static_rnn": "refused", "TensorFlow dynamic_rnn": "runs", "Keras unroll=False": "runs"}
    assert told.stages["longer"]["outcome"] == expected.get(contender.name, "rebuilds")
    if contender.name != "TensorFlow static_rnn":
        assert long.error_of(tmp_path / "longer.npz") < 1e-5
