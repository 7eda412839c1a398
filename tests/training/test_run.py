import csv
import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import tiny
from unspool.data import load_japanese_vowels
from unspool.training import (
    RunError,
    RunResult,
    SequenceData,
    SequenceModule,
    evaluate,
    fit,
    load_module,
    mnist_recipe,
    vowels_recipe,
)
from unspool.training.run_lock import alone_in


def rows(directory):
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_few_epochs_of_the_recipe_learn_the_speakers(tmp_path):
    result = fit(vowels_recipe("gru", epochs=6), tmp_path, accelerator="cpu", show=False)
    assert result.test_accuracy > 0.9
    assert result.val_accuracy > 0.9
    assert result.parameters == 55_689


def test_a_run_leaves_its_files(finished):
    names = {path.name for path in finished.directory.iterdir()}
    assert names == {"recipe.json", "metrics.csv", "last.ckpt", "best.ckpt", "test.npz", "result.json"}
    assert json.loads((finished.directory / "recipe.json").read_text()) == tiny().to_dict()
    assert RunResult.read(finished.directory) == finished


def test_the_test_sequences_are_written_down_one_by_one(finished):
    with np.load(finished.directory / "test.npz", allow_pickle=False) as archive:
        rows = dict(archive)
    test = load_japanese_vowels("test")
    assert rows["lengths"].tolist() == test.lengths.tolist()
    assert rows["labels"].tolist() == test.labels.tolist()
    assert rows["correct"].tolist() == (rows["labels"] == rows["predicted"]).tolist()
    assert rows["correct"].mean() == pytest.approx(finished.test_accuracy)


def test_the_log_has_every_step_and_every_epoch_once(finished):
    log = rows(finished.directory)
    steps = [int(row["step"]) for row in log if row["loss"]]
    assert steps == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    epochs = [row for row in log if row["val_loss"]]
    assert [(int(row["epoch"]), int(row["step"])) for row in epochs] == [(1, 6), (2, 12)]
    best = min(epochs, key=lambda row: float(row["val_loss"]))
    assert int(best["epoch"]) == finished.epoch
    assert float(best["val_loss"]) == finished.val_loss
    assert finished.seconds_per_epoch == pytest.approx(sum(float(row["seconds"]) for row in epochs) / 2)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_checkpoints_hold_plain_values_only(finished, name):
    checkpoint = torch.load(finished.directory / name, weights_only=True)
    assert checkpoint["hyper_parameters"] == {
        "recipe": tiny().to_dict(),
        "class_names": [str(speaker) for speaker in range(1, 10)],
        "tokenizer": None,
    }
    assert checkpoint["callbacks"]["RunRecord"]["rows"]


def test_evaluation_of_the_best_checkpoint_gives_the_runs_figures(finished):
    evaluation = evaluate(finished.directory / "best.ckpt", accelerator="cpu")
    assert evaluation.accuracy == finished.test_accuracy
    assert evaluation.loss == pytest.approx(finished.test_loss, rel=1e-5)
    assert evaluation.parameters == finished.parameters
    confusion = torch.tensor(evaluation.confusion)
    assert confusion.sum(1).tolist() == torch.bincount(load_japanese_vowels("test").labels).tolist()
    assert confusion.diagonal().sum() / 370 == pytest.approx(finished.test_accuracy)
    held_out = evaluate(finished.directory / "best.ckpt", split="validation", accelerator="cpu")
    assert held_out.accuracy == pytest.approx(finished.val_accuracy)
    assert torch.tensor(held_out.confusion).sum(1).tolist() == [3] * 9


def test_no_test_utterance_takes_part_in_training():
    def sequences(rows):
        return [rows[index][0] for index in range(len(rows))]

    data = SequenceData(tiny())
    seen = {tuple(s.flatten().tolist()) for part in (data.train, data.validation) for s in sequences(part)}
    assert len(seen) == 45 + 27
    assert not seen & {tuple(s.flatten().tolist()) for s in sequences(data.test)}
    normalisation = data.normalisation()
    assert normalisation is not None
    mean, scale = normalisation
    torch.testing.assert_close(mean, torch.cat(sequences(data.train)).mean(0))
    assert scale.shape == (12,)


def test_static_batches_have_a_fixed_number_of_steps():
    data = SequenceData(tiny(execution="static"))
    assert {batch.inputs.shape[1] for batch in data.train_dataloader()} == {29}


def test_a_recipe_may_have_its_last_epoch_tested(tmp_path):
    result = fit(tiny(tested="last"), tmp_path, accelerator="cpu", show=False)
    assert result.epoch == 2
    assert result.checkpoint == tmp_path / "last.ckpt"
    assert evaluate(result.checkpoint, accelerator="cpu").accuracy == result.test_accuracy
    assert vowels_recipe().tested == "last"
    assert mnist_recipe().tested == "best"


def test_static_and_dynamic_runs_end_with_the_same_figures(finished, tmp_path):
    result = fit(tiny(execution="static"), tmp_path, accelerator="cpu", show=False)
    assert result.test_accuracy == pytest.approx(finished.test_accuracy, abs=0.01)
    assert result.val_loss == pytest.approx(finished.val_loss, rel=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        fit(tiny(seed=seed, epochs=1, limit_train=16), tmp_path / name, accelerator="cpu", show=False)
    weights = [load_module(tmp_path / name / "last.ckpt").model.head.weight for name in ("first", "again", "other")]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_run_is_not_overwritten_unless_asked(finished, tmp_path):
    with pytest.raises(RunError, match=r"holds a run already .*--resume.*--overwrite.*--output-dir"):
        fit(tiny(), finished.directory, accelerator="cpu", show=False)
    with pytest.raises(RunError, match="received both --resume and --overwrite"):
        fit(tiny(), finished.directory, resume=True, overwrite=True)
    (tmp_path / "metrics.csv").write_text("mine")
    with pytest.raises(RunError, match=r"holds a run already \(metrics.csv\)"):
        fit(tiny(), tmp_path)
    with pytest.raises(RunError, match=r"has metrics.csv but no recipe.json, so it cannot be continued"):
        fit(tiny(), tmp_path, resume=True)
    (tmp_path / "report.html").write_text("the former one")
    (tmp_path / "mine.txt").write_text("mine")
    result = fit(tiny(epochs=1, limit_train=16), tmp_path, overwrite=True, accelerator="cpu", show=False)
    assert result.epoch == 1
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "mine.txt").exists()


def test_one_process_at_a_time_trains_in_a_directory(tmp_path):
    messages = []
    with alone_in(tmp_path / "run", messages.append):
        with pytest.raises(RunError, match=r"another process is training in .*run; wait for its end"):
            fit(tiny(), tmp_path / "run", accelerator="cpu", show=False)
        assert not list((tmp_path / "run").iterdir())
    fit(tiny(epochs=1, limit_train=16), tmp_path / "run", accelerator="cpu", show=False)
    assert not messages


def test_a_directory_that_cannot_be_locked_is_told(tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    messages = []
    with alone_in(tmp_path, messages.append):
        pass
    assert messages == [
        f"{tmp_path} cannot be locked ([Errno {errno.ENOLCK}] No locks available); start no second process there"
    ]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"cannot make .*file: File exists; name another place with --output-dir"):
        fit(tiny(), tmp_path / "file", accelerator="cpu", show=False)

    recipe = tiny(epochs=1, limit_train=16, checkpoint_every=1)

    def fill_the_disk(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_the_disk)  # at the first checkpoint
        with pytest.raises(RunError, match=r"cannot write .*last\.ckpt: No space left on device"):
            fit(recipe, tmp_path / "run", accelerator="cpu", show=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.json", "metrics.csv"}
    fit(recipe, tmp_path / "run", resume=True, accelerator="cpu", show=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_signals_code(number, code, tmp_path, monkeypatch):
    recipe = tiny(epochs=1, limit_train=24, checkpoint_every=1)
    original = SequenceModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == 1:
            signal.raise_signal(number)
        return original(self, batch, batch_idx)

    messages = []
    before = signal.getsignal(signal.SIGINT)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(SequenceModule, "training_step", training_step)
            with pytest.raises(SystemExit) as end:
                fit(recipe, tmp_path, accelerator="cpu", show=False, report=messages.append)
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores a second Ctrl-C
    assert end.value.code == code
    assert messages == ["interrupted; the same command with --resume continues"]
    fit(recipe, tmp_path, resume=True, accelerator="cpu", show=False)


def test_a_finished_run_says_so_and_gives_its_result_again(finished):
    messages = []
    assert fit(tiny(), finished.directory, resume=True, report=messages.append) == finished
    assert messages == [f"the run in {finished.directory} is finished; this is its result"]


def test_other_settings_are_not_resumed(finished):
    with pytest.raises(RunError, match=r"other settings \(epochs: 2 there, 5 here; seed: 3 there, 0 here\)"):
        fit(tiny(epochs=5, seed=0), finished.directory, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "tpus"}, "Lightning cannot use accelerator=tpus"),
        ({"accelerator": "cpu", "precision": "31-true"}, "precision=31-true"),
        ({"accelerator": "cpu", "precision": "16-true"}, "received precision=16-true.*; use 16-mixed or bf16-true"),
    ],
)
def test_what_lightning_refuses_is_reported(tmp_path, options, message):
    recipe = tiny(precision=options.pop("precision", None))
    with pytest.raises(RunError, match=message):
        fit(recipe, tmp_path, show=False, **options)


def test_too_many_rows_cannot_be_held_out(tmp_path):
    with pytest.raises(RunError, match="holds out 270 of 270 rows"):
        fit(tiny(held_out=270), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK no zip", None])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if content is None:
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"x\.ckpt: no checkpoint"):
        load_module(path)
    with pytest.raises(RunError, match="no such checkpoint"):
        load_module(tmp_path / "none.ckpt")


def test_a_directory_is_no_checkpoint_but_has_one(finished):
    with pytest.raises(RunError, match=r"no such checkpoint; did you mean .*best\.ckpt"):
        load_module(finished.directory)


def test_mnist_runs_on_small_files(monkeypatch, tmp_path):
    from tests.data.test_mnist import make_small

    directory = make_small(monkeypatch, tmp_path / "data", train=20, test=10)
    recipe = mnist_recipe("gru", epochs=1, batch_size=5, held_out=10, threads=1)
    result = fit(recipe, tmp_path / "run", data_dir=directory, accelerator="cpu", show=False)
    assert result.parameters == 369_162
    evaluation = evaluate(tmp_path / "run" / "best.ckpt", data_dir=directory, accelerator="cpu")
    assert torch.tensor(evaluation.confusion).sum() == 10


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_run(precision, tmp_path):
    result = fit(tiny(precision=precision, epochs=1, limit_train=16), tmp_path, accelerator="cpu", show=False)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state["model.head.weight"].dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert evaluate(tmp_path / "best.ckpt", accelerator="cpu").accuracy == pytest.approx(result.test_accuracy, abs=0.01)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_run_that_cannot_be_replaced_stays(number, finished, tmp_path, monkeypatch):
    directory = tmp_path / "run"
    shutil.copytree(finished.directory, directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    def refuse(self, **_):
        raise OSError(number, os.strerror(number), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(RunError, match=rf"cannot replace .*: {os.strerror(number)}; name another place"):
            fit(tiny(), directory, overwrite=True, accelerator="cpu", show=False)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_directory_below_a_file_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make .*run: Not a directory; name another place with --output-dir"):
        fit(tiny(), tmp_path / "file" / "run", overwrite=True, accelerator="cpu", show=False)


@pytest.mark.filterwarnings("ignore:Encountered `nan` values")
def test_a_training_that_diverged_is_told_and_its_checkpoint_refused(tmp_path):
    told = []
    recipe = tiny(learning_rate=1e30, epochs=1, tested="last", limit_train=16)
    fit(recipe, tmp_path, accelerator="cpu", show=False, report=told.append)
    assert any(line.startswith("the training diverged: ") for line in told)
    with pytest.raises(
        RunError, match=r"its weights are no numbers to compute with \(.* are not finite\): the training"
    ):
        load_module(tmp_path / "last.ckpt")
