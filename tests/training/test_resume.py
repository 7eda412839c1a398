"""A run that is killed and resumed ends as one that was left alone: bit by bit, on a CPU."""

import csv
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.training.conftest import tiny
from unspool.training import RunResult, SequenceModule, fit


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it."""


def log_without_times(directory):
    with (directory / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def tensors(value, path=""):
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors(item, f"{path}/{index}")


def assert_same_run(directory: Path, reference: RunResult):
    result = RunResult.read(directory)
    assert result is not None
    assert (
        dataclasses.replace(result, directory=reference.directory, seconds_per_epoch=reference.seconds_per_epoch)
        == reference
    )
    assert log_without_times(directory) == log_without_times(reference.directory)
    for name in ("last.ckpt", "best.ckpt"):
        received = torch.load(directory / name, weights_only=True)
        expected = torch.load(reference.directory / name, weights_only=True)
        for part in ("state_dict", "optimizer_states"):
            pairs = itertools.zip_longest(tensors(received[part]), tensors(expected[part]))
            for (path, tensor), (expected_path, expected_tensor) in pairs:
                assert path == expected_path
                assert torch.equal(tensor, expected_tensor), f"{name}: {part}{path} differs"
        assert received["lr_schedulers"] == expected["lr_schedulers"]
        assert received["global_step"] == expected["global_step"]


def kill_at_step(step):
    def patch(monkeypatch):
        original = SequenceModule.training_step

        def training_step(self, batch, batch_idx):
            if self.global_step == step:
                raise Killed
            return original(self, batch, batch_idx)

        monkeypatch.setattr(SequenceModule, "training_step", training_step)

    return patch


# Two epochs of six steps; checkpoints after steps 2 and 4 of each and at its end, a row of the log for every step.
EPOCH = ("last.ckpt", "last.ckpt", "best.ckpt", "last.ckpt")
MOVES = ("recipe.json", "metrics.csv", *EPOCH, *EPOCH, "test.npz", "result.json")
"""What the run moves to its place, in this order: checkpoints and its other files, and the first log."""


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> list[Path]:
    """Copies of a run's directory as a kill leaves it before each move: the log is as far ahead then as it gets."""
    run, copies = tmp_path_factory.mktemp("left") / "run", []
    replace = Path.replace

    def copy_and_replace(path, target):
        if target.name != "metrics.csv" or not target.exists():
            copies.append(Path(shutil.copytree(run, run.with_name(f"{len(copies)}-{target.name}"))))
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", copy_and_replace)
        fit(tiny(), run, accelerator="cpu", show=False)
    return copies


def test_a_run_moves_its_files_in_this_order(left):
    assert [copy.name for copy in left] == [f"{number}-{name}" for number, name in enumerate(MOVES)]


@pytest.mark.parametrize("move", range(len(MOVES)))
def test_a_killed_run_resumes_to_the_same_end(move, left, finished, tmp_path):
    directory = Path(shutil.copytree(left[move], tmp_path / "run"))
    messages = []
    fit(tiny(), directory, resume=True, accelerator="cpu", show=False, report=messages.append)
    assert messages
    assert_same_run(directory, finished)


def killed_at_every_step(recipe, directory, steps):
    """Run to the end, resumed after it was killed in each of the steps."""
    for step in range(steps):
        with pytest.MonkeyPatch.context() as patch:
            kill_at_step(step)(patch)
            with pytest.raises(Killed):
                fit(recipe, directory, resume=True, accelerator="cpu", show=False)
    fit(recipe, directory, resume=True, accelerator="cpu", show=False)


@pytest.mark.parametrize(
    ("model", "changes"),
    [("lstm", {"execution": "static", "checkpoint_every": 1}), ("simple_rnn", {"precision": "64-true"})],
    ids=["after every step", "without losing digits"],
)
def test_a_run_that_is_killed_again_and_again_gets_there(model, changes, tmp_path):
    """Two epochs of three steps."""
    recipe = tiny(model=model, limit_train=24, **changes)
    reference = fit(recipe, tmp_path / "reference", accelerator="cpu", show=False)
    killed_at_every_step(recipe, tmp_path / "run", 6)
    assert_same_run(tmp_path / "run", reference)


def test_a_run_that_is_killed_where_no_step_is_gets_there(finished, tmp_path):
    for method in ("validation_step", "on_validation_epoch_end", "test_step"):

        def killed(*_):
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SequenceModule, method, killed)
            with pytest.raises(Killed):
                fit(tiny(), tmp_path, resume=True, accelerator="cpu", show=False)
    fit(tiny(), tmp_path, resume=True, accelerator="cpu", show=False)
    assert_same_run(tmp_path, finished)


def slowly(directory):
    flush = os.fsync
    os.fsync = lambda file: (flush(file), time.sleep(0.2))  # a slow disk: time to be killed in
    fit(tiny(), directory, resume=True, accelerator="cpu", show=False)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_sigkill_at_any_moment(finished, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=slowly, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "metrics.csv").is_file() or len(log_without_times(tmp_path)) < 4:
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert RunResult.read(tmp_path) is None
    fit(tiny(), tmp_path, resume=True, accelerator="cpu", show=False)
    assert_same_run(tmp_path, finished)
