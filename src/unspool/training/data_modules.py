"""The LightningDataModule of the recipes."""

from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from unspool.data import ResumableLoader, grouped_split, stratified_split
from unspool.training.batches import batches_of
from unspool.training.errors import RunError
from unspool.training.recipes import Recipe
from unspool.training.sources import LabelledSequences, Part, Rows, source_of


class SequenceData(pl.LightningDataModule):
    """The training, validation and test data of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Which data set, how many rows to hold out, the size and the order of the batches.
    data_dir : str or Path, optional
        Where data sets lie that the package does not ship.
    tokenizer : str, optional
        What makes tokens of texts, as JSON, where a checkpoint has it; otherwise the recipe's source makes it.

    Raises
    ------
    RunError
        If the recipe's data set is unknown.

    Notes
    -----
    Where several devices train together, each takes its part of every batch: the batch size is that of all together.
    """

    def __init__(self, recipe: Recipe, data_dir: str | Path | None = None, tokenizer: str | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.data_dir = data_dir
        self._source = source_of(recipe)
        self._batches = batches_of(recipe)
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
        """Load all parts and make their loaders, so that what is amiss is known before anything else is done.

        Raises
        ------
        DataError
            If data are missing or damaged.
        RunError
            If the recipe holds out all rows, or none where it should, or a part is too small for its batches.
        """
        self.tokenizer()
        self.train_dataloader()
        self.val_dataloader()
        self.test_dataloader()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each class, label or token is called."""
        return self.train.class_names

    def tokenizer(self) -> str | None:
        """Return what makes tokens of a text, as JSON, or None where the data set has no such thing."""
        if self._tokenizer is None and self._source.tokenizer is not None:
            self._tokenizer = self._source.tokenizer(self.recipe, self.data_dir)
        return self._tokenizer

    def notes(self) -> list[str]:
        """Return lines to tell the user of the data."""
        return self._source.notes(self.recipe, self.data_dir)

    def split(self) -> dict[str, list[str]] | None:
        """Return what went into which part, by id, or None where that is known."""
        return None if self._source.split is None else self._source.split(self.recipe, self.data_dir)

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
        if self._source.tokenize is None:
            return cast(Rows, rows)
        tokenizer = self.tokenizer()
        assert tokenizer is not None
        return self._source.tokenize(rows, self._source.read_tokenizer(tokenizer), self.recipe)

    def _divide(self) -> None:
        whole = cast(LabelledSequences, self._load("train"))
        held_out = self.recipe.held_out
        if not 0 < held_out < len(whole):
            raise RunError(f"the recipe holds out {held_out} of {len(whole)} rows; choose fewer")
        # The rows are the same for every seed, so that runs with different seeds can be compared.
        if self._source.repeats:
            keys = [tuple(whole[row][0].flatten().tolist()) for row in range(len(whole))]
            kept, held = grouped_split(keys, whole.labels.tolist(), held_out / len(whole))
        else:
            kept, held = stratified_split(whole.labels, held_out)
        self._parts["train"] = self._limited(whole.subset(kept))
        self._parts["validation"] = whole.subset(held)

    def _limited(self, rows: Rows) -> Rows:
        limit = self.recipe.limit_train
        if limit is None or limit >= len(rows):
            return rows
        if self.recipe.objective == "classes":
            return rows.subset(stratified_split(cast(LabelledSequences, rows).labels, limit)[1])
        return rows.subset(list(range(limit)))

    def _share(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @override
    def train_dataloader(self) -> ResumableLoader[Any]:
        """Return the training batches; their order depends on the seed and the epoch."""
        return self._batches.train(self.train, *self._share())

    @override
    def val_dataloader(self) -> ResumableLoader[Any]:
        """Return the batches to validate on, in order."""
        return self._batches.evaluate(self.validation, *self._share())

    @override
    def test_dataloader(self) -> ResumableLoader[Any]:
        """Return the batches to test on, in order."""
        return self._batches.evaluate(self.test, *self._share())
