"""explain: what runs where, and why not elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from tests.conformance.user_cells import ProbeCell
from tests.refusal import refused
from unspool import GRU, LSTM, RNN, GRUCell, LSTMCell, explain, info
from unspool.execution import Explanation


def test_a_cell_is_explained_as_dynamic_rnn_runs_it():
    answer = explain(LSTMCell(3, 4), torch.zeros(2, 5, 3), lengths=[5, 1], backend="reference")
    assert isinstance(answer, Explanation)
    (decision,) = answer.decisions
    assert decision.chosen == "reference"
    assert decision.reasons["reference"] == []
    assert str(answer) == repr(answer)
    first, second = str(answer).splitlines()[:2]
    assert first == "LSTMCell over [5, 2, 3] (T, B, ...), dynamic, ragged"
    assert second == "  runs on reference"


def test_a_backend_that_was_asked_for_is_the_reason_against_others_that_could():
    text = str(explain(GRU(3, 4, backend="reference"), torch.zeros(2, 5, 3)))
    assert "others come first" not in text
    if not info().engine.startswith("there is no engine"):
        assert "not on native: backend='reference' was asked for" in text


def test_what_cannot_be_run_is_refused():
    with refused(TypeError, "model is the class LSTM", "expected a cell, a layer, a model or a function"):
        explain(LSTM, torch.zeros(2, 5, 3))
    with refused(TypeError, "model is str", "expected a cell, a layer, a model or a function"):
        explain("lstm", torch.zeros(2, 5, 3))


def test_every_layer_and_direction_of_a_model_is_explained():
    model = nn.Sequential(GRU(3, 4, 2, bidirectional=True, return_state=False), nn.Linear(8, 2))
    answer = explain(model, torch.zeros(5, 2, 3))
    assert len(answer.decisions) == 4
    assert [line for line in str(answer).splitlines() if line.startswith("GRUCell")] == [
        "GRUCell over [5, 2, 3] (T, B, ...), dynamic, all rows real",
        "GRUCell over [5, 2, 3] (T, B, ...), dynamic, all rows real, reverse",
        "GRUCell over [5, 2, 8] (T, B, ...), dynamic, all rows real",
        "GRUCell over [5, 2, 8] (T, B, ...), dynamic, all rows real, reverse",
    ]


def test_the_static_mode_and_token_ids_are_named():
    text = str(explain(LSTM(3, 4, unroll=True), torch.zeros(5, 2, 3)))
    assert "[5, 2, 3] (T, B, ...), static, all rows real" in text
    assert str(explain(nn.Linear(3, 4), torch.zeros(2, 3))).startswith("no cell was run over time; ")


def test_explaining_changes_nothing():
    layer = LSTM(3, 4, num_layers=2, dropout=0.5, recurrent_dropout=0.5, unroll=True)
    x = torch.zeros(5, 2, 3, requires_grad=True)
    before = torch.get_rng_state()
    explain(layer, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer.num_steps is None
    assert layer.training
    assert x.grad is None


def test_calls_are_explained_whichever_way_a_cell_is_run():
    assert len(explain(nn.LSTMCell(3, 4), torch.zeros(2, 5, 3), [5, 1], time_major=False).decisions) == 1
    assert len(explain(RNN(ProbeCell()), torch.zeros(5, 2, 2)).decisions) == 1
    assert explain(lambda: GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 4))).decisions == ()
