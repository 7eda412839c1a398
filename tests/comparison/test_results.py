"""Results as JSON, settings as values."""

import dataclasses
import json
from pathlib import Path

import pytest

from unspool.comparison import (
    BatchingResult,
    Comparison,
    ComparisonError,
    ContenderResult,
    LongerResult,
    ModeResult,
    ScalingResult,
    Settings,
    parse_steps,
)
from unspool.comparison._results import rounded, skipped

COMPARISON = Comparison(
    command="unspool compare",
    created="2026-01-02T03:04:05+00:00",
    seconds=1.5,
    machine={"cpu": "a", "cores": 2, "threads": 2, "load": [0.1, 0.1, 0.1]},
    versions={"unspool": "0.1.0"},
    settings=Settings.of(steps=(10, 25)).to_dict(),
    contenders=[
        ContenderResult("a", "dynamic", "unspool", "measured"),
        ContenderResult("b", "static", "torch", "measured"),
        ContenderResult("c", "static", "jax", "skipped", "no Python with JAX"),
    ],
    scaling=[
        ScalingResult("a", 10, "measured", None, 0.001, 0.5, 0.002, 0.0019, 0.0021, 50.0, 16, 1e-7),
        ScalingResult("a", 25, "measured", None, 0.001, 0.5, 1.5, 1.4, 1.6, None, None, 1e-7),
        ScalingResult("b", 10, "over_limit", "more than 180 s to build"),
        ScalingResult("b", 25, "not_tried", "at 10 steps: more than 180 s to build"),
    ],
    longer=[
        LongerResult("a", 25, 38, "runs", 0.25),
        LongerResult("b", 25, 38, "refused", None, "ValueError: not [steps]"),
    ],
    batching=BatchingResult("somewhere", 9, 4, [ModeResult("padded", "a", 12.5, 3, 2, 0.5)], ["single, b: wrong"]),
)


@pytest.mark.parametrize("batching", [True, False], ids=["batching", "without"])
def test_json_and_back(batching):
    comparison = COMPARISON if batching else dataclasses.replace(COMPARISON, batching=None)
    text = comparison.to_json()
    assert Comparison.from_json(text) == comparison
    values = json.loads(text)
    assert values["format"] == 1
    assert values["scaling"][0] == {
        "contender": "a", "steps": 10, "status": "measured", "reason": None, "build_s": 0.001, "first_call_s": 0.5,
        "step_s": 0.002, "step_low_s": 0.0019, "step_high_s": 0.0021, "peak_mb": 50.0, "graph_nodes": 16,
        "max_error": 1e-7,
    }  # fmt: skip
    assert {"batch", "input_size", "hidden_size", "cell", "steps", "limit_s", "seed"} <= values["settings"].keys()


def changed(**changes):
    return json.dumps({**json.loads(COMPARISON.to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a comparison"),
        ("[]", "not a comparison"),
        ("{}", "not a comparison"),
        (changed(format=2), "received a comparison of format 2; expected 1"),
        (changed(scaling=[{"steps": 1}]), "not a comparison"),
        (changed(batching={}), "not a comparison"),
        (changed(more=1), "not a comparison"),
    ],
    ids=["cut", "list", "empty", "later", "case", "batching", "more"],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(ComparisonError, match=message):
        Comparison.from_json(text)


def test_reasons_are_told_once():
    entries = [ContenderResult(name, "static", "x", "skipped", "none") for name in "ab"]
    assert skipped([*COMPARISON.contenders, *entries]) == ["skipped, no Python with JAX: c", "skipped, none: a; b"]
    assert rounded(0.123456) == 0.1235


def test_usual_and_quick_settings():
    usual, quick = Settings.of(), Settings.of(quick=True)
    assert (usual.steps, usual.built_for, usual.longer) == ((10, 25, 50, 100, 200, 400), 100, 150)
    assert (quick.steps, quick.built_for, quick.longer) == ((10, 25, 50), 25, 38)
    assert Settings.of(steps=(10, 50, 200)).built_for == 50
    assert Settings.of(steps=(200, 300)).built_for == 200
    assert Settings.of(quick=True, data_dir=Path("a"), seed=3).seed == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": ()}, "no steps"),
        ({"steps": (2, 1)}, "ascending numbers from 1"),
        ({"steps": (0, 1)}, "ascending numbers from 1"),
        ({"built_for": 3}, "one of the steps"),
        ({"limit_s": 0.0}, "limit_s=0.0; expected more than 0"),
        ({"limit_s": float("nan")}, "limit_s=nan; expected more than 0"),
        ({"batch": -1}, "batch=-1"),
        ({"only": ("x",)}, "expected some of"),
    ],
    ids=["none", "order", "zero", "built-for", "limit", "nan", "batch", "only"],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(ComparisonError, match=message):
        Settings.of(**values)


def test_steps_as_text():
    assert parse_steps(None) is None
    assert parse_steps("10, 25") == (10, 25)
    with pytest.raises(ComparisonError, match="received --steps 10;20"):
        parse_steps("10;20")
