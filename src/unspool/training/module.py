"""The LightningModule that trains a recipe's network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import CatMetric, MeanMetric
from typing_extensions import override

from unspool._nest import map_leaves
from unspool.training.checkpoint_form import check_progress, check_same_form
from unspool.training.errors import RunError
from unspool.training.models import SequenceNetwork
from unspool.training.objectives import Scored, objective
from unspool.training.recipes import Recipe


class TestRows(NamedTuple):
    """The test sequences one by one.

    ``lengths`` int64 (R,) and ``correct`` float32 (R,), the share of right answers in a sequence; for classes also
    ``labels`` and ``predicted`` int64 (R,), otherwise empty. ``expected`` and ``found`` are as in `Scored`.
    """

    lengths: Tensor
    correct: Tensor
    labels: Tensor
    predicted: Tensor
    expected: Tensor
    found: Tensor


class SequenceModule(pl.LightningModule):
    """Train and test the network of a recipe.

    Parameters
    ----------
    recipe : dict
        `Recipe.to_dict()`; plain values, so that checkpoints load with ``weights_only=True``.
    class_names : sequence of str
        What each class, label or token is called.
    tokenizer : str, optional
        What makes tokens of a text, as JSON: see `unspool.data.TextTokenizer`.

    Attributes
    ----------
    model : SequenceNetwork
        The network, which takes raw inputs.

    Notes
    -----
    The metrics of an epoch in training are part of the state dict, and the state that streams carry is part of the
    checkpoint: a run that continues within an epoch ends it with the averages over the whole epoch.
    """

    def __init__(self, recipe: dict[str, Any], class_names: Sequence[str], tokenizer: str | None = None) -> None:
        super().__init__()
        class_names = list(class_names)
        self.save_hyperparameters()
        self.recipe = Recipe.from_dict(recipe)
        self.class_names = tuple(class_names)
        self.tokenizer = tokenizer
        self.model = SequenceNetwork(self.recipe)
        self.objective = objective(self.recipe)
        self.train_loss, self.train_accuracy = MeanMetric(), MeanMetric()
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()
        self.test_loss, self.test_accuracy = MeanMetric(), MeanMetric()
        self._rows = {name: CatMetric(nan_strategy="ignore") for name in TestRows._fields}
        self._rows_on_device = torch.nn.ModuleList(self._rows.values())  # moves them with the module
        self._carried: dict[str, Any] = {}
        self._continued: dict[str, Any] | None = None

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of raw inputs (B, T, I), or tokens (B, T), with their lengths (B,)."""
        return self.model(inputs, lengths)

    def name_of(self, number: int) -> str:
        """Return what a class, label or token is called.

        Parameters
        ----------
        number : int
            One that the network has an output for.

        Raises
        ------
        RunError
            If it has no name: the model was trained on a part of the data that has it not.
        """
        if number >= len(self.class_names):
            raise RunError(
                f"the model predicts class {number}, which has no name: its checkpoint has {len(self.class_names)} "
                f"class_names for {self.recipe.num_classes} outputs. Train it on data with all classes"
            )
        return self.class_names[number]

    def _score(self, part: str, batch: Any) -> Scored:
        scored, self._carried[part] = self.objective.score(self.model, batch, self._carried.get(part))
        getattr(self, f"{part}_loss").update(scored.loss.detach(), scored.weight)
        getattr(self, f"{part}_accuracy").update(scored.accuracy, scored.answers)
        return scored

    @override
    def on_train_start(self) -> None:
        """Bring the state that streams carry, which a checkpoint gives back on the CPU, to the module's device."""
        if self._carried.get("train") is not None:
            self._carried["train"] = map_leaves(lambda leaf: leaf.to(self.device), self._carried["train"])

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch."""
        scored = self._score("train", batch)
        self.log("loss", scored.loss.detach(), prog_bar=True, logger=False, batch_size=scored.weight)
        return scored.loss

    @override
    def on_train_epoch_end(self) -> None:
        """Log the epoch's averages."""
        self._log_epoch("train")

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count a batch that was held out."""
        self._score("val", batch)

    @override
    def on_validation_epoch_end(self) -> None:
        """Log the averages over the rows that were held out."""
        self._log_epoch("val")

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Count a batch of the test data."""
        scored = self._score("test", batch)
        for name, metric in self._rows.items():
            values = getattr(scored, name)
            if len(values):
                metric.update(values)

    @override
    def on_test_epoch_end(self) -> None:
        """Log the averages over the test data."""
        self._log_epoch("test")

    def test_rows(self) -> TestRows:
        """Return the sequences of the last test one by one."""
        rows = {}
        for name, metric in self._rows.items():
            values = torch.atleast_1d(torch.as_tensor(metric.compute() if metric.update_called else []))
            rows[name] = values.long() if name in ("lengths", "labels", "predicted") else values.float()
        return TestRows(**rows)

    def _log_epoch(self, part: str) -> None:
        for name in ("loss", "accuracy"):
            metric: MeanMetric = getattr(self, f"{part}_{name}")
            shown = (part, name) == ("val", "accuracy")
            self.log(f"{part}_{name}", metric.compute(), prog_bar=shown, logger=False, sync_dist=True)
            metric.reset()

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that the training streams carry."""
        checkpoint["carried"] = self._carried.get("train")

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state that the training streams carried."""
        check_progress(checkpoint)
        self._carried["train"] = checkpoint["carried"]
        self._continued = checkpoint

    @override
    def configure_optimizers(self) -> Any:
        """Return Adam, with the recipe's schedule."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        if recipe.schedule == "constant":
            self._check_continued(optimizer)
            return optimizer
        # Not Trainer.estimated_stepping_batches: it sets up the training data before the trainer has loaded the
        # state of a resumed run, whose batches would then start anew in the middle of an epoch.
        loader = self.trainer.datamodule.train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]
        steps = recipe.epochs * len(loader)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
        self._check_continued(optimizer, scheduler.state_dict())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _check_continued(self, optimizer: torch.optim.Optimizer, *schedules: dict[str, Any]) -> None:
        """Compare what a checkpoint has for the optimizer and the schedule with what they are."""
        if self._continued is None:
            return
        states = [
            {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter} for parameter in self.parameters()
        ]
        expected = {"state": dict(enumerate(states)), "param_groups": optimizer.state_dict()["param_groups"]}
        check_same_form("optimizer_states", self._continued.get("optimizer_states"), [expected])
        check_same_form("lr_schedulers", self._continued.get("lr_schedulers"), list(schedules))
        self._continued = None
