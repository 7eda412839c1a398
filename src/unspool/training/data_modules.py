"""The LightningDataModule of the recipes."""

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from unspool.data import (
    BatchLoader,
    ResumableBatchSampler,
    SequenceDataset,
    collate,
    load_japanese_vowels,
    load_mnist,
    stratified_split,
)
from unspool.data.datasets import DIGITS, SPEAKERS

from .errors import RunError
from .recipes import Recipe

CLASS_NAMES = {"vowels": SPEAKERS, "mnist": DIGITS}
_EVALUATION_BATCH = 256


class SequenceData(pl.LightningDataModule):
    """The training, validation and test sequences of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Which data set, how many rows to hold out, the size and the order of the batches.
    data_dir : str or Path, optional
        Where data sets lie that the package does not ship.

    Notes
    -----
    Where several devices train together, each takes its part of every batch: the batch size is that of all together.
    """

    def __init__(self, recipe: Recipe, data_dir: str | Path | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.data_dir = data_dir
        self._train: SequenceDataset | None = None
        self._validation: SequenceDataset | None = None
        self._test: SequenceDataset | None = None

    @property
    def train(self) -> SequenceDataset:
        """The rows to train on."""
        self._divide()
        assert self._train is not None
        return self._train

    @property
    def validation(self) -> SequenceDataset:
        """The rows that were held out of the training data."""
        self._divide()
        assert self._validation is not None
        return self._validation

    @property
    def test(self) -> SequenceDataset:
        """The test rows."""
        if self._test is None:
            self._test = self._load("test")
        return self._test

    def load(self) -> None:
        """Load all parts now, so that what is missing is known before anything else is done.

        Raises
        ------
        DataError
            If data are missing or damaged.
        RunError
            If the recipe holds out all rows.
        """
        self._divide()
        _ = self.test

    def _load(self, split: str) -> SequenceDataset:
        part = "train" if split == "train" else "test"
        if self.recipe.dataset == "vowels":
            return load_japanese_vowels(part)
        return load_mnist(part, data_dir=self.data_dir)

    def _divide(self) -> None:
        if self._train is not None:
            return
        whole = self._load("train")
        if not 0 < self.recipe.held_out < len(whole):
            raise RunError(f"the recipe holds out {self.recipe.held_out} of {len(whole)} rows; choose fewer")
        # The rows are the same for every seed, so that runs with different seeds can be compared.
        kept, held = stratified_split(whole.labels, self.recipe.held_out)
        limit = self.recipe.limit_train
        if limit is not None and limit < len(kept):
            _, rows = stratified_split(whole.labels[kept], limit)
            kept = [kept[row] for row in rows]
        self._train, self._validation = whole.subset(kept), whole.subset(held)

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Return what to subtract from raw inputs and what to divide by then, each of shape (I,).

        For Japanese Vowels the mean and the standard deviation of each channel over all steps of the training rows;
        for MNIST 0 and 255, which brings the pixels to 0 to 1.
        """
        width = self.recipe.input_size
        if self.recipe.dataset == "mnist":
            return torch.zeros(width), torch.full((width,), 255.0)
        steps = torch.cat(list(self.train.sequences))
        return steps.mean(0), steps.std(0)

    def _loader(self, dataset: SequenceDataset, batch_size: int, shuffle: bool) -> BatchLoader:
        trainer = self.trainer
        sampler = ResumableBatchSampler(
            len(dataset),
            batch_size,
            shuffle=shuffle,
            seed=self.recipe.seed,
            rank=trainer.global_rank if trainer else 0,
            num_replicas=trainer.world_size if trainer else 1,
        )
        pad_to = self.recipe.num_steps if self.recipe.execution == "static" else None
        return BatchLoader(dataset, sampler, partial(collate, pad_to=pad_to))

    @override
    def train_dataloader(self) -> BatchLoader:
        """Return the training batches; their order depends on the seed and the epoch."""
        return self._loader(self.train, self.recipe.batch_size, shuffle=True)

    @override
    def val_dataloader(self) -> BatchLoader:
        """Return the rows that were held out, in order."""
        return self._loader(self.validation, _EVALUATION_BATCH, shuffle=False)

    @override
    def test_dataloader(self) -> BatchLoader:
        """Return the test rows, in order."""
        return self._loader(self.test, _EVALUATION_BATCH, shuffle=False)
