"""The benchmark of short calls: every case computes the same both ways, and says what it has measured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import Tensor

import unspool as us
from benchmarks import steps


@pytest.mark.parametrize("sizes", [(6,)])
def test_every_case_computes_the_same_both_ways(sizes, monkeypatch):
    exported, export = [], steps._in_onnx_runtime

    def one_of_each_kind(model: Any, x: Tensor) -> Any:  # an export takes two seconds
        exported.append(model)
        return export(model, x) if isinstance(model, us.GRU | steps.MinimalGatedUnit) else None

    monkeypatch.setattr(steps, "_in_onnx_runtime", one_of_each_kind)
    found = list(steps.cases(sizes, batches=(2,), trained=((2, 6),)))
    assert len(exported) == 4
    assert sum(case.against == "ONNX Runtime" for case in found) == 2
    assert {case.name for case in found} >= {"LSTM", "accelerated GRU", "SimpleRNN with resets", "RNN(own cell)"}
    assert {case.training for case in found} == {True, False}
    for case in found:
        result = steps.measure(case, rounds=1)
        assert result["ours_us"] > 0
        assert result["theirs_us"] > 0


def test_a_report_is_written(tmp_path, capsys, monkeypatch):
    first = [next(steps.cases((4,), batches=(1,), trained=()))]
    monkeypatch.setattr(steps, "cases", lambda sizes: first)
    steps.main(["--rounds", "1", "--sizes", "4", "--json", str(tmp_path / "steps.json")])
    report = json.loads((tmp_path / "steps.json").read_text())
    (case,) = report["results"]
    assert (case["name"], case["T"], case["B"], case["H"]) == ("LSTM", 1, 1, 4)
    assert "LSTM" in capsys.readouterr().out
