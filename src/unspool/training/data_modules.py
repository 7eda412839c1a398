"""The LightningDataModule of the recipes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch import Tensor
from typing_extensions import override

from unspool.data import (
    BatchLoader,
    BucketBatchSampler,
    LabelledTexts,
    LengthBatchSampler,
    ResumableBatchSampler,
    SameLengthBatchSampler,
    TextTokenizer,
    collate,
    collate_ragged,
    stratified_split,
    token_dataset,
)

from .errors import RunError
from .recipes import Recipe
from .sources import Part, Rows, source_of

_EVALUATION_BATCH = 256
_BUCKETS = 16


class SequenceData(pl.LightningDataModule):
    """The training, validation and test sequences of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Which data set, how many rows to hold out, the size and the order of the batches.
    data_dir : str or Path, optional
        Where data sets lie that the package does not ship.
    tokenizer : str, optional
        What makes tokens of texts, as JSON, where a checkpoint has it; otherwise the recipe's source makes it.

    Notes
    -----
    Where several devices train together, each takes its part of every batch: the batch size is that of all together.
    """

    def __init__(self, recipe: Recipe, data_dir: str | Path | None = None, tokenizer: str | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.data_dir = data_dir
        self._source = source_of(recipe)
        self._tokenizer = tokenizer
        self._parts: dict[Part, Rows] = {}

    @property
    def train(self) -> Rows:
        """The rows to train on."""
        return self._part("train")

    @property
    def validation(self) -> Rows:
        """The rows that were held out of the training data, or the data set's own part for validation."""
        return self._part("validation")

    @property
    def test(self) -> Rows:
        """The test rows."""
        return self._part("test")

    def load(self) -> None:
        """Load all parts now, so that what is missing is known before anything else is done.

        Raises
        ------
        DataError
            If data are missing or damaged.
        RunError
            If the recipe holds out all rows, or none where it should.
        """
        self.tokenizer()
        for part in ("train", "validation", "test"):
            self._part(part)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each class, label or token is called."""
        return self.train.class_names

    def tokenizer(self) -> str | None:
        """Return what makes tokens of a text, as JSON, or None where the data set has no such thing."""
        if self._tokenizer is None and self._source.tokenizer is not None:
            self._tokenizer = self._source.tokenizer(self.recipe, self.data_dir)
        return self._tokenizer

    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """Return what to subtract from raw features and what to divide by then, each (I,); None for tokens."""
        return None if self._source.normalise is None else self._source.normalise(self.train)

    def _part(self, part: Part) -> Rows:
        if part not in self._parts:
            if part == "test" or self._source.has_validation:
                self._parts[part] = self._load(part)
                if part == "train":
                    self._parts[part] = self._limited(self._parts[part])
            else:
                self._divide()
        return self._parts[part]

    def _load(self, part: Part) -> Rows:
        rows = self._source.load(self.recipe, part, self.data_dir)
        if not isinstance(rows, LabelledTexts):
            return rows
        tokenizer = self.tokenizer()
        assert tokenizer is not None
        return token_dataset(rows, TextTokenizer.from_json(tokenizer), maxlen=self.recipe.num_steps)

    def _divide(self) -> None:
        whole = self._load("train")
        if not 0 < self.recipe.held_out < len(whole):
            raise RunError(f"the recipe holds out {self.recipe.held_out} of {len(whole)} rows; choose fewer")
        # The rows are the same for every seed, so that runs with different seeds can be compared.
        kept, held = stratified_split(whole.labels, self.recipe.held_out)
        self._parts["train"] = self._limited(whole.subset(kept))
        self._parts["validation"] = whole.subset(held)

    def _limited(self, rows: Rows) -> Rows:
        limit = self.recipe.limit_train
        if limit is None or limit >= len(rows):
            return rows
        return rows.subset(stratified_split(rows.labels, limit)[1])

    def _replicas(self) -> dict[str, int]:
        trainer = self.trainer
        return {
            "rank": trainer.global_rank if trainer else 0,
            "num_replicas": trainer.world_size if trainer else 1,
        }

    def _sampler(self, rows: Rows) -> ResumableBatchSampler | LengthBatchSampler:
        recipe = self.recipe
        options: dict[str, Any] = {"seed": recipe.seed, **self._replicas()}
        if recipe.batching == "bucketed":
            lengths = rows.lengths
            # Equally many rows per bucket, whatever the lengths are like.
            bounds = np.unique(np.quantile(lengths.numpy(), np.arange(1, _BUCKETS) / _BUCKETS).astype(int))
            return BucketBatchSampler(
                lengths, [bound for bound in bounds.tolist() if bound > 0], recipe.batch_size, **options
            )
        if recipe.batching == "same-length":
            return SameLengthBatchSampler(rows.lengths, recipe.batch_size, **options)
        size = 1 if recipe.batching == "single" else recipe.batch_size
        return ResumableBatchSampler(len(rows), size, **options)

    @property
    def _collate(self) -> Callable[[Any], Any]:
        recipe = self.recipe
        if recipe.execution == "static":
            return partial(collate, pad_to=recipe.num_steps)
        return collate if recipe.batching == "padded" else collate_ragged

    def _evaluation(self, rows: Rows) -> BatchLoader[Any]:
        sampler = ResumableBatchSampler(len(rows), _EVALUATION_BATCH, shuffle=False, **self._replicas())
        return BatchLoader(rows, sampler, self._collate)

    @override
    def train_dataloader(self) -> BatchLoader[Any]:
        """Return the training batches; their order depends on the seed and the epoch."""
        return BatchLoader(self.train, self._sampler(self.train), self._collate)

    @override
    def val_dataloader(self) -> BatchLoader[Any]:
        """Return the rows that were held out, in order."""
        return self._evaluation(self.validation)

    @override
    def test_dataloader(self) -> BatchLoader[Any]:
        """Return the test rows, in order."""
        return self._evaluation(self.test)
