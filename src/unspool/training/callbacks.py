"""Callbacks: random numbers that depend on the step alone, and the record of a run in its directory."""

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from typing_extensions import override

from unspool.training.checkpoint_io import write_text

LAST, BEST, LOG = "last.ckpt", "best.ckpt", "metrics.csv"
COLUMNS: tuple[str, ...] = (
    "epoch", "step", "loss", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"
)  # fmt: skip


class StepSeeds(Callback):
    """Seed torch before every training step from the run's seed and the number of the step.

    Dropout and noise of a step are then the same whether or not the run was interrupted before it.

    Parameters
    ----------
    seed : int
        The seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed all generators; every device of several has numbers of its own."""
        entropy = [self.seed, trainer.global_step, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))


class RunRecord(Checkpoint):
    """Keep a run's directory: ``metrics.csv``, ``last.ckpt`` and ``best.ckpt``.

    ``last.ckpt`` carries the rows of the log up to its step, so a run that continues from it rewrites the log as it
    was at that step and goes on: no row is lost and none is there twice. ``best.ckpt`` is that of the epoch with the
    smallest loss on the rows held out; of equal ones the first.

    Parameters
    ----------
    directory : Path
        Where to write; it exists.
    checkpoint_every, log_every : int
        Steps between two checkpoints, and two rows of the log, within an epoch.
    patience : int, optional
        Epochs after the best one with which training ends.

    Attributes
    ----------
    started : bool
        Whether training has begun: what a run continues from has been taken up then.
    """

    def __init__(self, directory: Path, checkpoint_every: int, log_every: int, patience: int | None = None) -> None:
        self.directory = directory
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.patience = patience
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self.started = False
        self._seconds_before = 0.0
        self._started = time.perf_counter()

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The rows of the log that end an epoch."""
        return [row for row in self.rows if "seconds" in row]

    @property
    def last(self) -> dict[str, float] | None:
        """The row of the last epoch that ended, if any did."""
        return self.epochs[-1] if self.epochs else None

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the log, the best epoch's row, and the seconds that this epoch has taken."""
        return {"rows": self.rows, "best": self.best, "seconds": self._seconds()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.rows = list(state_dict["rows"])
        self.best = state_dict["best"]
        self._seconds_before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the log to the state of the checkpoint that the run continues from."""
        self.started = True
        self._started = time.perf_counter()
        self._write_log(trainer)
        self._stop_if_due(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._seconds_before, self._started = 0.0, time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log and save, every so many steps.

        The last batch of an epoch is left to the epoch's end: a checkpoint between the two would skip validation.
        """
        if trainer.is_last_batch:
            return
        step = trainer.global_step
        if step % self.log_every == 0:
            self._append(trainer, {"loss": float(outputs["loss"])})
        if step % self.checkpoint_every == 0:
            trainer.save_checkpoint(self.directory / LAST, weights_only=False)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's averages and save: ``best.ckpt`` where it is the best so far, then ``last.ckpt``."""
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        row = self._append(
            trainer,
            {**{name: float(trainer.callback_metrics[name]) for name in names}, "seconds": self._seconds()},
        )
        if self.best is None or math.isnan(self.best["val_loss"]) or row["val_loss"] < self.best["val_loss"]:
            self.best = row
            trainer.save_checkpoint(self.directory / BEST, weights_only=False)
        trainer.save_checkpoint(self.directory / LAST, weights_only=False)
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: pl.Trainer) -> None:
        if self.patience is not None and self.best is not None and self.last is not None:
            trainer.should_stop = self.last["epoch"] - self.best["epoch"] >= self.patience

    def _append(self, trainer: pl.Trainer, values: dict[str, float]) -> dict[str, float]:
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            **values,
        }
        self.rows.append(row)
        self._write_log(trainer)
        return row

    def _write_log(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.directory / LOG, text.getvalue())
