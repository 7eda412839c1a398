import math

import pytest
from benchmarks.configurations import KINDS, SHAPES, Case
from benchmarks.targets import (
    GROUPS,
    TRAIN_RATIOS,
    WORDS,
    Target,
    all_targets,
    involved,
    judge,
    summary,
    targets_of,
    worst,
)

PEERS = {"keras": 3.0, "tf1": 3.0, "jax": 3.0}


def case(shape, kind, lengths, mode):
    (shape,) = (s for s in SHAPES if s.name == shape)
    (kind,) = (k for k in KINDS if k.name == kind)
    return Case(shape, kind, lengths, mode)


def bounds(*which):
    return {target.quantity: target.bound for target in targets_of(case(*which))}


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (("imdb", "LSTM", "full", "train"), {"ratio": 1.6, "peak": 0.6, "memory": 1.1}),
        (("imdb", "GRU", "ragged", "train"), {"ratio": 4.0, "peak": 0.6, "memory": 1.1, **PEERS}),
        (("imdb-1000", "GRU", "real", "train"), {"ratio": 4.0, "peak": 0.6, "memory": 1.1, **PEERS}),
        (("mid", "SimpleRNN", "ragged", "forward"), {"ratio": 1.6}),
        (("mid", "SimpleRNN", "full", "forward"), {"ratio": 1.5}),
        (("big", "LSTM", "full", "forward"), {"ratio": 1.0, "peak": 0.75}),
        (("step", "LSTM", "full", "forward"), {"us_per_step": 60}),
        (("b1", "GRU", "full", "forward"), {"us_per_step": 15}),
        (("b1", "GRU", "full", "train"), {}),
        (("imdb", "layer-norm LSTM", "ragged", "train"), {"ratio": 8, "memory": 1.1}),
        (("mnist", "layer-norm LSTM", "full", "train"), {}),
        (("mnist", "plain LSTM, user's", "full", "forward"), {"over_builtin": 1.25}),
    ],
)  # fmt: skip
def test_floors_of_a_case(which, expected):
    assert bounds(*which) == expected


def test_every_quantity_has_words_and_a_group():
    assert WORDS.keys() == GROUPS.keys()
    assert len(TRAIN_RATIOS) == 12


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("ratio", 2.0), 2.0, True),
        (Target("ratio", 2.0), 1.99, False),
        (Target("memory", 1.1, at_least=False), 1.1, True),
        (Target("memory", 1.1, at_least=False), 1.11, False),
        (Target("ratio", 2.0), math.nan, False),
        (Target("memory", 1.1, at_least=False), math.nan, False),
    ],
)
def test_met(target, value, met):
    assert target.judged(value)["met"] is met
    assert target.judged(value, noisy=True)["met"] is None


def result(**changed):
    times = {"ours": [10, 9, 12, 7], "padded": [20, 19, 21, 7], "packed": [40, 39, 41, 7]}
    values = {"ratio": 2.0, "us_per_step": 1.0, "memory": 3.0, "keras": 3.5, "tf1": 2.5}
    return {"wrong": "", "times": times, "values": values, "gflops": 130.0} | changed


def verdicts(judged):
    return {target["quantity"]: target["met"] for target in judged["targets"]}


def test_judge():
    judged = judge(case("big", "LSTM", "ragged", "train"), result(), peak=200.0)
    assert judged["values"]["peak"] == 0.65
    assert verdicts(judged) == {"memory": False, "ratio": True, "keras": True, "tf1": False, "peak": True}


def test_noise_keeps_from_judging_what_it_touches_only():
    times = {"ours": [10, 9, 12, 7], "padded": [20, 19, 21, 7], "keras": [90, 20, 95, 7], "tf1": [25, 24, 26, 7]}
    judged = judge(case("big", "LSTM", "ragged", "train"), result(times=times), peak=200.0)
    assert judged["noisy"] == ["keras"]
    assert verdicts(judged) == {"memory": False, "ratio": True, "keras": None, "tf1": False, "peak": True}
    times["ours"] = [16, 9, 20, 7]
    noisy = verdicts(judge(case("big", "LSTM", "ragged", "train"), result(times=times), peak=200.0))
    assert noisy == {"memory": False, "ratio": None, "keras": None, "tf1": None, "peak": None}


def test_a_wrong_case_is_judged_by_nothing():
    assert judge(case("big", "LSTM", "ragged", "train"), {"wrong": "outputs differ"}, 200.0)["targets"] == []


def test_the_reset_gate_of_tensorflow_1_is_compared_with_its_like():
    assert involved("tf1", ["ours", "before", "tf1"]) == {"before", "tf1"}
    assert involved("tf1", ["ours", "tf1"]) == {"ours", "tf1"}


def test_summary_and_the_worst():
    targets = [Target("ratio", 2.0).judged(1.0), Target("ratio", 1.0).judged(0.8), Target("ratio", 8.0).judged(1, True)]
    targets.append(Target("ratio", 1.0).judged(5.0))
    assert summary(targets) == "Targets: 1 of 3 met; 1 not judged because of noise."
    found = worst(targets)
    assert found is not None
    assert (found["value"], found["bound"]) == (1.0, 2.0)
    assert worst(targets[2:3]) is None
    report = {"results": [{"targets": targets[:1]}], "first_calls": [{"targets": targets[1:2]}]}
    assert all_targets(report) == targets[:2]
