import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import typer
from scripts.result_tables import examples_table
from typer.testing import CliRunner

from benchmarks import examples


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Run the benchmark with small models; returns exit status, what was printed and the report."""
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    monkeypatch.setattr(examples, "EXAMPLES", [small(example) for example in examples.EXAMPLES])
    app = typer.Typer()
    app.command()(examples.main)

    def start():
        path = tmp_path / "examples.json"
        done = CliRunner().invoke(app, ["--threads", "1", "--steps", "6", "--output", str(path)])
        return done.exit_code, done.output, json.loads(path.read_text())

    return start


def small(example):
    module = SimpleNamespace(
        build=partial(example.module.build, embedding=6, hidden=8),
        batches=partial(example.module.batches, size=3, longest=9),
        train=example.module.train,
    )
    return replace(example, module=module)


def test_a_report_is_written_and_makes_a_table(benchmark):
    status, printed, report = benchmark()
    assert status == 0, printed
    assert report["command"] == "python -m benchmarks.examples --threads 1 --steps 6"
    assert report["data"] == "made up"
    for result in report["results"]:
        assert result["before"][3] == result["after"][3] == 3  # steps timed
        assert 0.0 <= result["apart"] <= examples.CLOSE
        assert 0.0 < result["real"] < 1.0
    lines = examples_table(report).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [f"| {example.name}" for example in examples.EXAMPLES]
    assert lines[0].count("|") == lines[2].count("|")


def test_no_speed_where_losses_differ(benchmark, monkeypatch):
    def another(model, copy):
        assert copy
        return type(model)(6, 8)

    monkeypatch.setattr(examples.us, "accelerate", another)
    status, printed, report = benchmark()
    assert status == 1
    assert printed.count("WRONG, losses differ by") == len(report["results"]) == 3
    assert all("before" not in result and "ratio" not in result for result in report["results"])
    assert "| - | - | - | WRONG: losses differ by" in examples_table(report)
