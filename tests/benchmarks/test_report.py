import json
import math

import pytest
from benchmarks.configurations import KINDS, SHAPES, Case
from benchmarks.report import as_text
from benchmarks.table import BEGIN, END, insert, markdown, tables
from benchmarks.targets import FIRST_CALL, judge


def result(kind="GRU", **changed):
    found = {
        "config": "big", "shape": [32, 50, 512, 512], "cell": kind, "lengths": "ragged", "mode": "train", "tokens": 9,
        "real": 0.57, "gflop": 1.0, "wrong": "", "backend": "native", "gflops": 130.123456,
        "times": {"ours": [10, 9, 12, 7], "padded": [20, 9, 21, 7], "before": [11, 10, 12, 7], "tf1": [40, 39, 41, 7]},
        "values": {"ratio": 2.0, "us_per_step": 1.0, "memory": 3.0, "tf1": 40 / 11},
        "memory": {"kept": 9.0, "results": 3.0, "ours": 30.0, "padded": 54.8},
    } | changed  # fmt: skip
    shape = next(shape for shape in SHAPES if shape.name == "big")
    case = Case(shape, next(found for found in KINDS if found.name == kind), "ragged", "train")
    return judge(case, found, 200.0)


@pytest.fixture
def report():
    machine = {
        "cpu": "a CPU", "cores": 2, "threads": 2, "threading": {"OMP_NUM_THREADS": "2"}, "instruction_set": "avx2",
        "load": [0.1], "versions": {"unspool": "0", "torch": "2"},
    }  # fmt: skip
    return {
        "date": "2026-01-02T03:04:05", "command": "python -m benchmarks.run --peers", "seconds": 60.0,
        "machine": machine, "peers": {"tf1": {"tensorflow": "2"}}, "skipped": {"jax": "no environment"}, "failed": {},
        "peak_gflops": [200.0, 199.0, 201.0], "results": [result(), result(wrong="outputs differ", times={})],
        "first_calls": [{"steps": 10_000, "first": [30.0, 1, 2, 3], "second": [5.0, 1, 2, 3], "extra": [25.0, 1, 2, 3],
                         "targets": [FIRST_CALL.judged(0.025)]}],
    }  # fmt: skip


def test_tables(report):
    found = {table.title: table for table in tables(report)}
    assert list(found) == ["Speed", "Peers", "Memory of a training step", "First calls", "Targets"]
    assert all(len(row) == len(table.headers) for table in found.values() for row in table.rows)
    speed = found["Speed"].rows
    assert speed[0][-2:] == ["≥ 2x, ≥ 60% of peak", "noisy, yes"]
    assert "20.0~" in speed[0]
    assert speed[1][-1] == "WRONG: outputs differ"
    assert found["Peers"].rows[0][-2:] == ["≥ 3x TensorFlow 1 dynamic_rnn", "yes"]
    assert found["Memory of a training step"].rows[0][-4:] == ["", "3.00", "≤ 1.1x what must be kept", "no"]
    assert found["First calls"].rows[0][0] == "T = 10,000"


def test_markdown_is_the_same_from_the_file(report):
    text = markdown(json.loads(as_text(report)))
    assert "Targets: 3 of 4 met; 1 not judged because of noise." in text
    assert "lax.scan: skipped, no environment." in text
    assert "OMP_NUM_THREADS=2" in text
    assert "big 57%" in text


def test_a_report_is_json_with_a_line_for_each_case(report):
    report["results"][0]["values"]["ratio"] = math.nan
    text = as_text(report)
    assert json.loads(text)["results"][0]["values"]["ratio"] is None
    assert json.loads(text)["results"][0]["gflops"] == 130.1
    assert sum('"config"' in line for line in text.splitlines()) == 2
    assert json.loads(as_text({**report, "results": []}))["results"] == []


def test_insert():
    assert insert(f"a\n{BEGIN}\nold\n{END}\nb", "new\n") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"
    with pytest.raises(ValueError, match="lacks"):
        insert("nothing", "new")
