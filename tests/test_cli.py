import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import unspool
from unspool.cli import app
from unspool.data import load_japanese_vowels
from unspool.data.datasets import mnist
from unspool.training import Prediction, vowels_recipe
from unspool.training.results import Evaluation
from unspool.training.tables import print_evaluation, print_predictions, write_predictions

TINY = ["--epochs", "2", "--limit-train", "45", "--batch-size", "8", "--hidden-size", "8", "--accelerator", "cpu"]


def run(*arguments, code=0):
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.output
    return outcome


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "run"
    outcome = run("train", "vowels", "--model", "gru", *TINY, "--output-dir", directory)
    return directory, outcome.stdout


def words(text):
    """Make one line of what a help page or table has broken into several."""
    return re.sub(r"[\s│╭╮╰╯─┃━]+", " ", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], ["train", "evaluate", "predict", "demo", "info", "Start with: unspool train vowels"]),
        (["train", "--help"], ["vowels", "mnist", "nine speakers", "handwritten digits"]),
        (["train", "vowels", "--help"], ["--model", "--execution", "--resume", "--seed", "--accelerator", "--devices"]),
        (["train", "mnist", "--help"], ["--data-dir", "UNSPOOL_DATA_DIR", "206,858", "819,722", "369,162"]),
        (["evaluate", "--help"], ["checkpoint", "confusion table"]),
        (["predict", "--help"], ["--input", "--output", ".jsonl"]),
        (["demo", "--help"], ["LSTM and GRU"]),
        (["train", "--help"], ["digits", "names", "splice", "promoters", "chorales", "shakespeare"]),
        (["train", "digits", "--help"], ["--features", "mel bands", "--batching", "--hidden-size", "--data-dir"]),
        (["train", "promoters", "--help"], ["--fold", "--folds"]),
        (["train", "chorales", "--help"], ["--batching", "bucketed", "negative log-likelihood"]),
        (["train", "shakespeare", "--help"], ["--steps", "--hidden-size", "nats per character"]),
        (["export", "--help"], ["--to", "onnx", "--streaming", "--int8", "--output"]),
        (["generate", "--help"], ["--prompt", "--length", "--temperature", "--seed"]),
    ],
)
def test_help_names_what_there_is(arguments, expected):
    text = words(run(*arguments).stdout)
    for part in expected:
        assert part in text


def test_version_and_info():
    assert re.fullmatch(r"unspool \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    assert run("info").stdout.strip() == str(unspool.info()).strip()


def test_training_prints_the_model_and_the_figures(trained):
    directory, output = trained
    for part in ("recurrent.0", "GRU", "head", "Linear", "609 parameters", "held out", "test", "seconds per epoch"):
        assert part in output
    assert str(directory / "last.ckpt") in output
    figures = json.loads((directory / "result.json").read_text())
    assert f"{figures['test_accuracy']:.4f}" in output


def test_the_same_command_with_resume_prints_the_same_result(trained):
    directory, output = trained
    again = run("train", "vowels", "--model", "gru", *TINY, "--output-dir", directory, "--resume").stdout
    assert "is finished; this is its result" in again
    assert output.splitlines()[-2:] == again.splitlines()[-2:]


def test_evaluate_prints_figures_and_confusion(trained):
    directory, _ = trained
    output = run("evaluate", directory / "last.ckpt", "--accelerator", "cpu").stdout
    figures = json.loads((directory / "result.json").read_text())
    assert f"accuracy {figures['test_accuracy']:.4f}" in output
    assert "on 370 sequences" in output
    assert "confusion" in output
    assert "on 27 sequences" in run("evaluate", directory / "best.ckpt", "--split", "validation").stdout


def test_predict_prints_or_writes(trained, tmp_path):
    directory, _ = trained
    source = tmp_path / "x.jsonl"
    utterances = load_japanese_vowels("test").sequences[:3]
    source.write_text("".join(json.dumps({"sequence": utterance.tolist()}) + "\n" for utterance in utterances))
    table = run("predict", directory / "best.ckpt", "--input", source).stdout
    assert "probability" in table
    output = run("predict", directory / "best.ckpt", "--input", source, "--output", tmp_path / "x.csv").stdout
    assert f"wrote 3 predictions to {tmp_path / 'x.csv'}" in output.replace("\n", "")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert f"{float(rows[0]['probability']):.4f}" in table


def test_mistakes_get_one_message_and_code_2(trained, tmp_path, monkeypatch):
    directory, _ = trained
    checkpoint = directory / "best.ckpt"
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    (tmp_path / "x.csv").write_text("1,2\n")
    for arguments, message in [
        (["train", "vowels", "--model", "gru", *TINY, "--output-dir", directory], "holds a run already"),
        (["train", "vowels", "--output-dir", directory, "--resume"], "other settings"),
        (["train", "vowels", "--accelerator", "tpus", "--output-dir", tmp_path / "a"], "accelerator=tpus"),
        (["train", "mnist", "--data-dir", tmp_path, "--output-dir", tmp_path / "b"], "no MNIST in"),
        (["evaluate", tmp_path / "none.ckpt"], "no such checkpoint"),
        (["evaluate", tmp_path / "x.csv"], "no checkpoint"),
        (["predict", checkpoint, "--input", tmp_path / "x.csv"], "has 2 values a step"),
        (["predict", checkpoint, "--input", tmp_path / "none.csv"], "no such file"),
        (
            ["predict", checkpoint, "--input", tmp_path / "x.csv", "--output", "x.txt"],
            "ends in .csv, .parquet or .json",
        ),
    ]:
        outcome = run(*arguments, code=2)
        assert outcome.stderr.startswith("error: "), arguments
        assert message in outcome.stderr
        assert "Traceback" not in outcome.output


def test_mnist_without_data_and_network_says_so_in_two_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    outcome = run("train", "mnist", "--output-dir", tmp_path / "run", code=2)
    lines = outcome.stderr.splitlines()
    assert len(lines) == 2
    assert "--data-dir or UNSPOOL_DATA_DIR" in lines[1]
    assert outcome.stdout == ""
    assert not (tmp_path / "run").exists()


def test_the_demo_prints_one_table_of_four_runs(tmp_path, monkeypatch):
    output = run("demo", "--epochs", "1", "--output-dir", tmp_path).stdout
    table = output[output.index("Japanese Vowels") :]
    for model in ("lstm", "gru"):
        for execution in ("dynamic", "static"):
            assert re.search(rf"{model} +{execution} +0\.\d{{4}} +\d+\.\d\d +\d\d,\d{{3}}", table)
    assert output.endswith(f"try: unspool evaluate {tmp_path / 'lstm-dynamic' / 'last.ckpt'}\n")
    monkeypatch.setattr(sys, "argv", [".venv/bin/unspool", "demo"])
    again = run("demo", "--epochs", "1", "--output-dir", tmp_path).stdout
    assert "try: .venv/bin/unspool evaluate" in again
    assert (tmp_path / "lstm-static" / "best.ckpt").is_file()


def test_the_package_runs_as_the_command_and_does_not_wait_for_lightning():
    command = [sys.executable, "-X", "importtime", "-m", "unspool", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"unspool \d+\.\d+\.\d+\n", done.stdout)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "unspool.cli" in imported
    assert not {"lightning", "torchmetrics"} & imported


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_one_message():
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-m", "unspool", "info"], stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 2
    assert ended.stderr.decode() == "error: the output cannot be written: No space left on device\n"


def test_names_of_classes_reach_terminal_and_table_without_their_powers(tmp_path):
    names = ["\x1b[2Jgone", "=HYPERLINK(1)", "@x", "-1", "+x", "plain"]
    written = io.StringIO()
    console = Console(file=written, width=200)
    confusion = [[0] * 6 for _ in names]
    recipe = vowels_recipe("gru")
    evaluation = Evaluation(recipe, 1, 0.5, 0.5, 6, 6, confusion, tuple(names))
    print_evaluation(console, evaluation)
    predictions = [Prediction(index, name, 0.5) for index, name in enumerate(names)]
    print_predictions(console, predictions)
    shown = written.getvalue()
    assert "\x1b" not in shown
    assert shown.count(r"\x1b[2Jgone") == 3
    write_predictions(tmp_path / "x.csv", predictions)
    with (tmp_path / "x.csv").open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert labels == ["\x1b[2Jgone", "'=HYPERLINK(1)", "'@x", "-1", "'+x", "plain"]
    write_predictions(tmp_path / "x.json", predictions)
    assert [row["label"] for row in json.loads((tmp_path / "x.json").read_text())] == names


def test_messages_show_control_characters_as_they_are_written(tmp_path):
    path = tmp_path / "\x1b[2J.ckpt"
    outcome = run("evaluate", path, code=2)
    assert "\x1b" not in outcome.stderr
    assert r"\x1b[2J.ckpt: no such checkpoint" in outcome.stderr


def test_a_checkpoint_is_exported(trained, tmp_path):
    directory, _ = trained
    path = tmp_path / "step.onnx"
    output = words(
        run("export", directory / "last.ckpt", "--to", "onnx", "--streaming", "--int8", "--output", path).stdout
    )
    for part in ("input h 1, batch, 8", "output h_new", "compared with the model", f"wrote {path}"):
        assert part in output
    assert path.is_file()
    failed = run("export", directory / "last.ckpt", "--output", tmp_path / "missing" / "step.onnx", code=2)
    assert "there is no directory" in words(failed.stderr)
    assert list(tmp_path.iterdir()) == [path]
