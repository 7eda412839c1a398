"""The command: compare, print, write."""

import dataclasses
import io
import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.comparison.test_results import COMPARISON
from unspool.cli import app
from unspool.comparison import Comparison, ComparisonError, Settings, run_compare
from unspool.comparison import _compare as compare_module
from unspool.comparison import _run as run_module
from unspool.comparison._tables import print_comparison, seconds


def printed(comparison):
    told = io.StringIO()
    print_comparison(Console(file=told, width=160), comparison)
    return re.sub(r"[ \u2500]+", " ", told.getvalue())


def test_tables_hold_figures_and_reasons():
    text = printed(COMPARISON)
    for part in (
        "LSTM, B=32, I=128, H=128, lengths from 15 % to 100 % of T",
        "training step, median",
        " a 2 ms 1.5 s",
        " b > 180 s - ",
        "built for 25 steps, given 38",
        " b static refused ValueError: not [steps]",
        " a 12.5 s \n 50% real",
        "batches measured 2 \n of 3",
        "Rows: somewhere.",
        "skipped, no Python with JAX: c",
        "b, T=10, 25: more than 180 s to build",
        "single, b: wrong",
    ):
        assert part in text, text


def test_tables_of_little():
    text = printed(dataclasses.replace(COMPARISON, batching=None, longer=[], scaling=COMPARISON.scaling[:2]))
    assert "per epoch" not in text
    assert "built for" not in text


def test_a_busy_machine_is_told_of():
    text = printed(dataclasses.replace(COMPARISON, machine={"cores": 2, "load": [1.5]}))
    assert "The machine was busy (load 1.5): these ratios show nothing." in text


def test_seconds_in_words():
    assert [seconds(value) for value in (0.00012345, 0.9, 0.99999, 12.345, 12345.6)] == [
        "0.123 ms", "900 ms", "1 s", "12.3 s", "12,346 s",
    ]  # fmt: skip


def test_without_other_pythons_they_are_skipped(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSPOOL_PEERS", raising=False)
    monkeypatch.setattr(compare_module.Scaling, "run", lambda _: None)
    said = []
    found = compare_module.compare(Settings.of(batching=False), said.append, arguments=["unspool", "compare", "a b"])
    assert found.command == "unspool compare 'a b'"
    assert found.batching is None
    assert len(found.contenders) == 12
    reasons = {entry.library: str(entry.reason) for entry in found.contenders if entry.status == "skipped"}
    assert reasons.keys() == {"tensorflow", "keras", "jax"}
    assert "make peers" in reasons["keras"]
    assert "--tensorflow" in reasons["keras"]
    assert "UNSPOOL_PEERS" in reasons["jax"]
    assert len([line for line in said if "skipped" in line]) == 2


def test_the_file_is_written_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(run_module, "compare", lambda *_, **__: COMPARISON)
    told = io.StringIO()
    console = Console(file=told, width=200)
    output = tmp_path / "found.json"
    run_compare(console, Settings.of(), output)
    assert Comparison.from_json(output.read_text(encoding="utf-8")) == COMPARISON
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    assert f"wrote {output}" in told.getvalue()


@pytest.mark.parametrize("name", ["found.txt", "absent/found.json", "folder.json"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path, name):
    (tmp_path / "folder.json").mkdir()
    monkeypatch.setattr(run_module, "compare", lambda *_, **__: pytest.fail("it was measured"))
    with pytest.raises(ComparisonError, match="received --output"):
        run_compare(Console(file=io.StringIO()), Settings.of(), tmp_path / name)


def test_from_the_command_line(tmp_path):
    output = tmp_path / "found.json"
    arguments = ["compare", "--quick", "--steps", "2", "--only", "torch loop", "--no-batching", "--output", str(output)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = Comparison.from_json(output.read_text(encoding="utf-8"))
    assert [(r.contender, r.steps, r.status) for r in found.scaling] == [("torch loop", 2, "measured")]
    assert [r.outcome for r in found.longer] == ["runs"]
    assert "torch loop" in done.output
    assert "plotly" in (tmp_path / "found.html").read_text(encoding="utf-8")
    (tmp_path / "found.html").unlink()
    done = CliRunner().invoke(app, ["report", str(output), "--output", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "torch loop" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "x"], "received --steps x"),
        (["--only", "x"], "received the contenders"),
        (["--output", "x.txt"], "received --output x.txt"),
        (["--no-batching", "--jax", "/absent"], "received /absent as the Python that has JAX"),
        (["--data-dir", "/absent"], "no IMDB in /absent"),
    ],
)
def test_what_users_can_get_wrong(arguments, message):
    done = CliRunner().invoke(app, ["compare", *arguments])
    assert done.exit_code == 2, done.output
    assert message in done.output.replace("\n", "")
