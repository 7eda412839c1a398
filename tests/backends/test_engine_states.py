"""With an engine, without one, and with one that does not fit: what is said, and that cells run nevertheless."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.backends.processes import run_python
from tests.refusal import refused
from unspool import BackendError, LSTMCell, _engine, dynamic_rnn, explain, info
from unspool.backends import _info, native

ABSENT = ModuleNotFoundError("No module named 'unspool._engine'", name="unspool._engine")
STATES = [
    (ABSENT, ["there is no engine", "installed without it", "C++20 compiler"]),
    (
        ImportError("/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", name="unspool._engine"),
        ["the engine cannot be loaded", "GLIBCXX_3.4.32", "reinstall unspool"],
    ),
    (
        SimpleNamespace(interface=0),
        ["the engine has interface 0", f"this version of unspool needs {native.INTERFACE}", "reinstall unspool"],
    ),
    (SimpleNamespace(), ["the engine has interface None", "reinstall unspool"]),
    (
        SimpleNamespace(interface=native.INTERFACE, names={"unary operation": ["copy", "tanh"]}),
        ["the engine is of another version: its unary operation 1 is tanh, and unspool's is neg", "reinstall"],
    ),
    (
        SimpleNamespace(interface=native.INTERFACE, names={**_engine.names, "phase": ["step", "after", "before"]}),
        ["the engine is of another version: its phase 1 is after, and unspool's is before", "reinstall"],
    ),
]


@pytest.fixture
def state(monkeypatch, request) -> list[str]:
    """Put one state in the place of the engine, and return what is to be said."""
    found, words = request.param

    def load(name: str) -> Any:
        assert name == "unspool._engine"
        if isinstance(found, ImportError):
            raise found
        return found

    monkeypatch.setattr(native, "import_module", load)
    engine, missing = native.load_engine()
    assert engine is None
    for module in (native, _info):
        monkeypatch.setattr(module, "engine", engine)
        monkeypatch.setattr(module, "missing", missing)
    return words


@pytest.mark.parametrize("state", STATES, indirect=True)
def test_without_a_fitting_engine_cells_run_and_the_reason_is_given(state):
    cell, x = LSTMCell(3, 4), torch.randn(2, 5, 3)
    outputs, _ = dynamic_rnn(cell, x, [5, 2])
    outputs.sum().backward()
    assert torch.equal(outputs, dynamic_rnn(cell, x, [5, 2], backend="reference")[0])
    answer = explain(cell, x, [5, 2])
    assert [decision.chosen for decision in answer.decisions] == ["reference"]
    for words in state:
        assert words in str(answer)
        assert words in str(info())
    with refused(BackendError, "backend 'native' cannot run", *state):
        dynamic_rnn(cell, x, [5, 2], backend="native")


def test_every_state_has_words_of_its_own():
    assert len({words[0] for _, words in STATES}) == len(STATES)


def test_the_engine_that_is_installed_fits():
    engine, missing = native.load_engine()
    assert engine is not None
    assert missing == ""
    assert info().engine.startswith(engine.active_isa())


def test_a_process_without_an_engine():
    """From the very import on; what `explain` says is tested above."""
    script = """
import sys
sys.modules["unspool._engine"] = None  # as if it were not there
import torch, unspool
outputs, state = unspool.dynamic_rnn(unspool.GRUCell(3, 4), torch.randn(2, 5, 3), [5, 2])
print(unspool.info())
"""
    assert "there is no engine" in run_python(script)
