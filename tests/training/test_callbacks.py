import csv
import math
from types import SimpleNamespace

import pytest
import torch

from unspool.training import RunRecord, StepSeeds


def trainer(**values):
    saved = []
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    defaults = {
        "global_step": 1,
        "global_rank": 0,
        "current_epoch": 0,
        "is_last_batch": False,
        "is_global_zero": True,
        "optimizers": [optimizer],
        "saved": saved,
        "save_checkpoint": lambda path, weights_only: saved.append(path.name),
    }
    return SimpleNamespace(**{**defaults, **values})


def epoch_end(record, number, val_loss):
    metrics = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": val_loss, "val_accuracy": 0.5}
    run = trainer(current_epoch=number, global_step=10 * (number + 1), callback_metrics=metrics)
    record.on_train_epoch_end(run, None)
    return run.saved


def test_draws_depend_on_seed_step_and_device_alone():
    def draw(seed, step, rank=0):
        StepSeeds(seed).on_train_batch_start(trainer(global_step=step, global_rank=rank), None, None, 0)  # pyright: ignore
        return torch.rand(3).tolist()

    first = draw(0, 0)
    torch.rand(100)
    assert draw(0, 0) == first
    others = [draw(0, 1), draw(1, 0), draw(0, 0, rank=1)]
    assert len({tuple(numbers) for numbers in [first, *others]}) == 4


def test_best_is_the_first_of_the_smallest_losses(tmp_path):
    record = RunRecord(tmp_path, checkpoint_every=5, log_every=5)
    saved = [epoch_end(record, number, loss) for number, loss in enumerate([math.nan, 0.5, 0.5, 0.7, 0.4])]
    last = ["last.ckpt"]
    both = ["best.ckpt", "last.ckpt"]
    assert saved == [both, both, last, last, both]
    assert record.best is not None
    assert record.best["epoch"] == 5
    assert record.last is record.epochs[-1]


def test_steps_are_logged_and_saved_every_so_often_but_not_at_an_epochs_end(tmp_path):
    record = RunRecord(tmp_path, checkpoint_every=4, log_every=2)
    saved = []
    for step in range(1, 9):
        run = trainer(global_step=step, is_last_batch=step == 8)
        record.on_train_batch_end(run, None, {"loss": torch.tensor(0.25)}, None, step - 1)  # pyright: ignore
        saved += [(step, name) for name in run.saved]
    assert saved == [(4, "last.ckpt")]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(file)] == [
            ("2", "0.25"),
            ("4", "0.25"),
            ("6", "0.25"),
        ]


def test_the_log_and_the_clock_go_on_from_a_state(tmp_path):
    record = RunRecord(tmp_path, 1, 1)
    epoch_end(record, 0, 0.5)
    state = record.state_dict()
    (tmp_path / "metrics.csv").unlink()
    again = RunRecord(tmp_path, 1, 1)
    again.load_state_dict({**state, "seconds": 100.0})
    again.on_train_start(trainer(), None)  # pyright: ignore
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 2
    epoch_end(again, 1, 0.6)
    assert again.rows[-1]["seconds"] == pytest.approx(100, abs=5)
    assert [row["epoch"] for row in again.rows] == [1, 2]
    assert len(state["rows"]) == 1, "a state is not changed by what comes after it"
