"""The benchmark of short calls: every case computes the same both ways, and says what it has measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import steps


@pytest.mark.parametrize("sizes", [(6,)])
def test_every_case_computes_the_same_both_ways(sizes):
    found = list(steps.cases(sizes, batches=(2,), trained=((2, 6),)))
    assert {case.name for case in found} >= {"LSTM", "accelerated GRU", "SimpleRNN with resets", "RNN(own cell)"}
    assert {case.training for case in found} == {True, False}
    for case in found:
        result = steps.measure(case, rounds=1)
        assert result["ours_us"] > 0
        assert result["theirs_us"] > 0


def test_a_report_is_written(tmp_path, capsys, monkeypatch):
    first = list(steps.cases((4,), batches=(1,), trained=()))[:1]
    monkeypatch.setattr(steps, "cases", lambda sizes: first)
    steps.main(["--rounds", "1", "--sizes", "4", "--json", str(tmp_path / "steps.json")])
    report = json.loads((tmp_path / "steps.json").read_text())
    (case,) = report["results"]
    assert (case["name"], case["T"], case["B"], case["H"]) == ("LSTM", 1, 1, 4)
    assert "LSTM" in capsys.readouterr().out
