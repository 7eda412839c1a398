"""The progress bar, with epochs counted from 1."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn
from rich.progress import BarColumn
from typing_extensions import override


class EpochProgress(RichProgressBar):
    """Lightning's progress bar, on one line of 80 columns; "Epoch 1/30" is the first of thirty."""

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    @override
    def configure_columns(self, trainer: pl.Trainer) -> list:
        """Return Lightning's columns, with a short bar, and without the speed: the figures need the room."""
        columns = [c for c in super().configure_columns(trainer) if not isinstance(c, ProcessingSpeedColumn)]
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = 8
        return columns
