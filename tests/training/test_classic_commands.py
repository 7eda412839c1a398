"""The commands of the classic data sets, on small files of the same layout."""

import pytest

from tests.test_cli import run
from tests.training.small_sets import WRITERS
from unspool.training import load_module

SMALL = ["--epochs", "1", "--hidden-size", "6", "--batch-size", "4", "--accelerator", "cpu"]


@pytest.fixture
def data_dir(request, monkeypatch, tmp_path):
    WRITERS[request.param](monkeypatch, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("data_dir", ["chorales"], indirect=True)
def test_chorales_are_trained_and_evaluated(data_dir, tmp_path):
    command = ["train", "chorales", "--data-dir", data_dir, "--batching", "bucketed", *SMALL]
    run(*command, "--output-dir", tmp_path / "run")
    output = run("evaluate", tmp_path / "run" / "best.ckpt", "--data-dir", data_dir).stdout
    assert "on 6 sequences, 32 steps" in output
    assert "confusion" not in output


@pytest.mark.parametrize("data_dir", ["shakespeare"], indirect=True)
def test_shakespeare_is_trained_and_goes_on(data_dir, tmp_path):
    command = ["train", "shakespeare", "--data-dir", data_dir, "--steps", "20", *SMALL]
    run(*command, "--output-dir", tmp_path / "run")
    checkpoint = tmp_path / "run" / "best.ckpt"
    assert load_module(checkpoint).recipe.num_steps == 20
    assert "on 64 steps" in run("evaluate", checkpoint, "--data-dir", data_dir).stdout
    failed = run("generate", checkpoint, "--prompt", "\N{SNOWMAN}", code=2)
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: received the prompt")
    failed = run(*command[:4], "--batch-size", "70", "--output-dir", tmp_path / "other", code=2)
    assert "shakespeare: received 64 tokens for 70 streams" in failed.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("data_dir", ["promoters"], indirect=True)
def test_folds_are_counted_from_nought(data_dir, tmp_path):
    command = ["train", "promoters", "--data-dir", data_dir, "--output-dir", tmp_path / "run"]
    failed = run(*command, "--fold", "10", code=2)
    assert failed.stderr == "error: received fold 10 of 10; expected 0 to 9 of at most 106\n"
