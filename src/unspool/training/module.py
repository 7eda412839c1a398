"""The LightningModule that trains a recipe's network."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from typing_extensions import override

from unspool.data import SequenceBatch

from .models import SequenceClassifier
from .recipes import Recipe


class SequenceModule(pl.LightningModule):
    """Train and test the classifier of a recipe.

    Parameters
    ----------
    recipe : dict
        `Recipe.to_dict()`; plain values, so that checkpoints load with ``weights_only=True``.

    Attributes
    ----------
    model : SequenceClassifier
        The network, which takes raw inputs.
    test_confusion : MulticlassConfusionMatrix
        After a test: how often each true class (row) was taken for each class (column).

    Notes
    -----
    The metrics of an epoch in training are part of the state dict: a run that continues within an epoch ends it with
    the averages over the whole epoch.
    """

    def __init__(self, recipe: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.recipe = Recipe.from_dict(recipe)
        classes = self.recipe.num_classes
        self.model = SequenceClassifier(self.recipe)
        self.train_loss = MeanMetric()
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)
        self.val_loss = MeanMetric()
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")
        self.test_loss = MeanMetric()
        self.test_accuracy = MulticlassAccuracy(classes, average="micro")
        self.test_confusion = MulticlassConfusionMatrix(classes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (B, K) of raw inputs (B, T, I) with their lengths (B,)."""
        return self.model(inputs, lengths)

    def _loss(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        logits = self(batch.inputs, batch.lengths)
        return cross_entropy(logits.float(), batch.labels), logits

    @override
    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch."""
        loss, logits = self._loss(batch)
        self.train_loss.update(loss.detach(), len(batch.labels))
        self.train_accuracy.update(logits.detach(), batch.labels)
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=len(batch.labels))
        return loss

    @override
    def on_train_epoch_end(self) -> None:
        """Log the epoch's averages."""
        self._log_epoch("train", self.train_loss, self.train_accuracy)

    @override
    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Count a batch that was held out."""
        loss, logits = self._loss(batch)
        self.val_loss.update(loss, len(batch.labels))
        self.val_accuracy.update(logits, batch.labels)

    @override
    def on_validation_epoch_end(self) -> None:
        """Log the averages over the rows that were held out."""
        self._log_epoch("val", self.val_loss, self.val_accuracy)

    @override
    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Count a batch of the test data."""
        loss, logits = self._loss(batch)
        self.test_loss.update(loss, len(batch.labels))
        self.test_accuracy.update(logits, batch.labels)
        self.test_confusion.update(logits, batch.labels)

    @override
    def on_test_epoch_end(self) -> None:
        """Log the averages over the test data."""
        self._log_epoch("test", self.test_loss, self.test_accuracy)

    def _log_epoch(self, part: str, loss: MeanMetric, accuracy: MulticlassAccuracy) -> None:
        for name, metric in (("loss", loss), ("accuracy", accuracy)):
            self.log(f"{part}_{name}", metric.compute(), prog_bar=part == "val", logger=False, sync_dist=True)
            metric.reset()

    @override
    def configure_optimizers(self) -> Any:
        """Return Adam, with the recipe's schedule."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        if recipe.schedule == "constant":
            return optimizer
        # Not Trainer.estimated_stepping_batches: it sets up the training data before the trainer has loaded the
        # state of a resumed run, whose batches would then start anew in the middle of an epoch.
        loader = self.trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]
        steps = recipe.epochs * len(loader)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
