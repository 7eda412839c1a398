"""The progress bar, with epochs counted from 1."""

from lightning.pytorch.callbacks import RichProgressBar
from typing_extensions import override


class EpochProgress(RichProgressBar):
    """Lightning's progress bar; "Epoch 1/30" is the first of thirty."""

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
