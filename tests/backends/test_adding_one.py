"""The backend that the documentation adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conformance.oracle import assert_close
from tests.docs.pages import PAGES, blocks
from tests.refusal import refused
from unspool import GRU, LSTM, BackendError, GRUCell, dynamic_rnn, explain
from unspool.backends import dispatch

PAGE = "docs/dev/adding-a-backend.md"


@pytest.fixture(autouse=True)
def dense(monkeypatch) -> None:
    """Put the page's backend before the others."""
    (code,) = (block.code for block in blocks(PAGES[PAGE]) if "class DenseBackend" in block.code)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE, "exec"), names)
    monkeypatch.setattr(dispatch, "BACKENDS", (names["DenseBackend"](), *dispatch.BACKENDS))


def test_it_has_resets_and_all_states_without_knowing_of_them():
    cell, x, resets = GRUCell(3, 4), torch.randn(2, 5, 3), torch.rand(2, 5) < 0.5
    ran = [
        dynamic_rnn(cell, x, resets=resets, return_all_states=True, backend=backend)
        for backend in ("dense", "reference")
    ]
    names = ("outputs", "final state", "all states")
    assert_close(dict(zip(names, ran[0], strict=True)), dict(zip(names, ran[1], strict=True)), torch.float32)


@pytest.mark.parametrize("kind", [GRU, LSTM])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"reverse": True}])
def test_it_is_chosen_and_gives_the_numbers_of_the_reference_backend(kind, options):
    layer, x = kind(3, 4, dtype=torch.float64, **options), torch.randn(5, 2, 3, dtype=torch.float64)
    assert {decision.chosen for decision in explain(layer, x).decisions} == {"dense"}
    ran = {}
    for backend in ("dense", "reference"):
        layer.backend = backend
        output, state = layer(x)
        gradients = torch.autograd.grad(output.sum(), list(layer.parameters()))
        ran[backend] = {"output": output, "h": state[0]} | {str(i): g for i, g in enumerate(gradients)}
    assert_close(ran["dense"], ran["reference"], torch.float64)


def test_its_reasons_are_asked_for_and_its_name_is_known():
    x = torch.zeros(5, 2, 3)
    (decision,) = explain(GRU(3, 4), x, lengths=[5, 2]).decisions
    assert decision.chosen != "dense"
    assert decision.reasons["dense"] == ["there is padding, or nothing to compute"]
    with refused(BackendError, "backend 'dense' cannot run GRUCell over [5, 2, 3]", "dense: there is padding"):
        GRU(3, 4, backend="dense")(x, lengths=[5, 2])
    with refused(ValueError, "backend is 'sparse'", "expected one of 'auto', 'dense', "):
        GRU(3, 4, backend="sparse")
