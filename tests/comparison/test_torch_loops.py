"""PyTorch's peers, without a process of their own."""

import importlib
import sys

import numpy as np
import pytest
import torch

from unspool.comparison import Settings
from unspool.comparison._contenders import SCRIPTS
from unspool.comparison._problem import Problem

SETTINGS = Settings.of(steps=(4, 6), batch=3, input_size=2, hidden_size=5)


@pytest.fixture
def script(monkeypatch):
    """The module, which is not part of a package where it runs."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("torch_loops")
    for name in ("torch_loops", "protocol"):
        del sys.modules[name]


def build(script, variant, problem):
    """Return a peer that is built, and its batch."""
    protocol = sys.modules["protocol"]
    weights, (batch,) = protocol.read(problem.file)
    found = script.TorchLoops(protocol.Task(**problem.task, variant=variant, weights=weights, steps=problem.steps))
    placed = found.place(batch)
    found.build(placed)
    return found, placed


def save(path, found, placed):
    np.savez(path, **{f"0 {name}": value for name, value in found.results(found.run(placed)).items()})
    return path


@pytest.mark.parametrize("variant", ["loop", "layer"])
def test_they_compute_what_the_reference_does(script, tmp_path, variant):
    problem = Problem(SETTINGS, 4, tmp_path)
    found, placed = build(script, variant, problem)
    assert problem.error_of(save(tmp_path / "answer.npz", found, placed)) < 1e-5
    assert found.nodes() is None
    assert found.graphs == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_the_compiled_loop_grows_with_the_steps_and_is_compiled_anew_for_others(script, tmp_path, monkeypatch):
    compile_fx = importlib.import_module("torch._inductor.compile_fx")
    monkeypatch.setattr(compile_fx, "compile_fx", lambda graph, _: graph)  # the compiler itself takes too long here
    torch.compiler.reset()
    short, long = Problem(SETTINGS, 4, tmp_path), Problem(SETTINGS, 6, tmp_path)
    found, placed = build(script, "compiled", short)
    assert short.error_of(save(tmp_path / "answer.npz", found, placed)) < 1e-5
    nodes = found.nodes()
    assert found.graphs == 1
    found.run(placed)
    assert found.graphs == 1
    found.run(found.place(sys.modules["protocol"].read(long.file)[1][0]))
    assert found.graphs == 2
    assert found.nodes() >= nodes + 2 * 4  # at least a cell, its outputs and a step of the input for each
    torch.compiler.reset()
