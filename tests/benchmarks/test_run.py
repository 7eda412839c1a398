import json

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import measure, run


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Run the smallest case with other options; returns exit status, what was printed and the report."""
    monkeypatch.setattr(run, "first_calls", list)
    monkeypatch.setenv("UNSPOOL_PEERS", str(tmp_path))
    app = typer.Typer()
    app.command()(run.main)

    def start(*options):
        path = tmp_path / "report.json"
        words = ["--quick", "--only", "step", "--cells", "SimpleRNN", "--output", str(path), *options]
        done = CliRunner().invoke(app, words)
        return done.exit_code, done.output, json.loads(path.read_text()) if path.exists() else None

    return start


def test_a_report_is_written_where_a_peer_is_absent(benchmark):
    status, printed, report = benchmark("--peers")
    assert status == 0, printed
    assert report["skipped"].keys() >= {"keras", "tf1", "jax"}
    assert "jax: skipped, no Python with JAX in " in printed
    assert report["results"][0]["times"].keys() == {"ours", "padded", "static"}
    assert report["command"] == "python -m benchmarks.run --quick --peers --only step --cells SimpleRNN"
    assert "threading" in report["machine"]


def test_no_speed_for_wrong_numbers(benchmark, monkeypatch):
    monkeypatch.setattr(measure, "verify", lambda _: "outputs differ")
    status, printed, report = benchmark()
    assert status == 1
    assert report["results"][0]["times"] == {}
    assert "WRONG: outputs differ" in printed


def test_a_broken_peer_is_an_error_and_the_report_is_written(benchmark):
    status, printed, report = benchmark("--peers", "--jax", "/bin/false")
    assert status == 1
    assert report["failed"].keys() == {"jax"}
    assert "jax failed" in printed


@pytest.mark.parametrize("options", [("--only", "other"), ("--peers", "--jax", "/other")])
def test_unknown_names(benchmark, options):
    status, printed, report = benchmark(*options)
    assert status == 2
    assert "other" in printed
    assert report is None
