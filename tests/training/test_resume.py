"""A run that is killed and resumed ends as one that was left alone: bit by bit, on a CPU."""

import csv
import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from tests.training.conftest import tiny
from unspool.training import RunRecord, RunResult, SequenceModule, fit
from unspool.training import run as run_module


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


def kill_at_call(owner, name, number, after=False):
    """Kill at the `number`-th call of a method, before or after it has done its work."""

    def patch(monkeypatch):
        original = getattr(owner, name)
        calls = itertools.count(1)

        def method(*args, **kwargs):
            count = next(calls)
            if count == number and not after:
                raise Killed
            result = original(*args, **kwargs)
            if count == number:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, method)

    return patch


# Two epochs of six steps; checkpoints after steps 2 and 4 of each and at its end, a row of the log for every step.
MOMENTS = {
    "in the first step": kill_at_step(0),
    "before the first checkpoint": kill_at_step(1),
    "after a checkpoint": kill_at_step(2),
    "between checkpoints": kill_at_step(3),
    "in the last step of an epoch": kill_at_step(5),
    "in the first step of the second epoch": kill_at_step(6),
    "in the middle of the second epoch": kill_at_step(9),
    "in validation": kill_at_call(SequenceModule, "validation_step", 1),
    "after validation": kill_at_call(SequenceModule, "on_validation_epoch_end", 2, after=True),
    "before a checkpoint of the second epoch": kill_at_call(RunRecord, "on_train_epoch_end", 2),
    "in the test": kill_at_call(SequenceModule, "test_step", 1),
    "before the result is written": kill_at_call(RunResult, "write", 1),
    "before the recipe is written": kill_at_call(run_module, "write_text", 1),
    **{
        f"before checkpoint or log {number} is moved to its place": kill_at_call(Path, "replace", number)
        for number in (3, 4, 5, 8, 11, 12, 13, 14)
    },
    "after a checkpoint is moved to its place": kill_at_call(Path, "replace", 5, after=True),
    "after the last checkpoint": kill_at_call(pl.Trainer, "save_checkpoint", 8, after=True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_end(moment, finished, tmp_path, monkeypatch):
    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        MOMENTS[moment](patch)
        with pytest.raises(Killed):
            fit(tiny(), directory, accelerator="cpu", show=False)
    messages = []
    fit(tiny(), directory, resume=True, accelerator="cpu", show=False, report=messages.append)
    assert messages
    assert_same_run(directory, finished)


@pytest.mark.parametrize("model", ["lstm", "simple_rnn"])
def test_a_run_that_is_killed_again_and_again_gets_there(model, tmp_path, monkeypatch):
    recipe = tiny(model=model, execution="static", checkpoint_every=1)
    reference = fit(recipe, tmp_path / "reference", accelerator="cpu", show=False)
    for step in range(1, 12):
        with monkeypatch.context() as patch:
            kill_at_step(step)(patch)
            with pytest.raises(Killed):
                fit(recipe, tmp_path / "run", resume=True, accelerator="cpu", show=False)
    fit(recipe, tmp_path / "run", resume=True, accelerator="cpu", show=False)
    assert_same_run(tmp_path / "run", reference)


def test_double_precision_resumes_without_losing_digits(tmp_path, monkeypatch):
    recipe = tiny(precision="64-true")
    reference = fit(recipe, tmp_path / "reference", accelerator="cpu", show=False)
    with monkeypatch.context() as patch:
        kill_at_step(9)(patch)
        with pytest.raises(Killed):
            fit(recipe, tmp_path / "run", accelerator="cpu", show=False)
    fit(recipe, tmp_path / "run", resume=True, accelerator="cpu", show=False)
    assert_same_run(tmp_path / "run", reference)


COMMAND = """
import sys
from tests.training.conftest import tiny
from unspool.training import fit
fit(tiny(epochs=10), sys.argv[1], resume=True, accelerator="cpu", show=False)
"""


def test_sigkill_at_any_moment(tmp_path):
    reference = fit(tiny(epochs=10), tmp_path / "reference", accelerator="cpu", show=False)
    directory = tmp_path / "run"
    command = [sys.executable, "-c", COMMAND, str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2]) as process:
        deadline = time.monotonic() + 120
        while not (directory / "metrics.csv").is_file() or len(log_without_times(directory)) < 10:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert RunResult.read(directory) is None
    fit(tiny(epochs=10), directory, resume=True, accelerator="cpu", show=False)
    assert_same_run(directory, reference)
