"""How the rows of a recipe become batches: in which order, and put together how."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from unspool.data import (
    BatchLoader,
    BucketBatchSampler,
    ResumableBatchSampler,
    ResumableLoader,
    ResumableSampler,
    SameLengthBatchSampler,
    StreamLoader,
    collate,
    collate_ragged,
)
from unspool.training.errors import RunError
from unspool.training.recipes import Recipe
from unspool.training.recipes._recipe import PER_SEQUENCE
from unspool.training.sources import Sequences, Stream

_EVALUATION_BATCH, _EVALUATION_STEPS = 256, 1_000_000


def evaluation_batch(longest: int) -> int:
    """Return how many sequences are evaluated together.

    Parameters
    ----------
    longest : int
        The steps of the longest: there is memory for about a million steps.
    """
    return max(1, min(_EVALUATION_BATCH, _EVALUATION_STEPS // longest))


class Batches(Protocol):
    """Makes the batches of a recipe; `rank` of `num_replicas` says which share of them."""

    def train(self, rows: Any, rank: int, num_replicas: int) -> ResumableLoader[Any]:
        """Return the training batches; their order depends on the seed and the epoch."""
        ...

    def evaluate(self, rows: Any, rank: int, num_replicas: int) -> ResumableLoader[Any]:
        """Return the batches of an evaluation, in order."""
        ...


class SequenceBatches:
    """Batches of sequences, as the recipe's `batching` and `execution` say.

    Parameters
    ----------
    recipe : Recipe
        Its objective decides what a batch has besides the inputs.

    Raises
    ------
    RunError
        If batches with a target for every step are to be ragged.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        per_step = recipe.objective not in PER_SEQUENCE
        if per_step and recipe.batching == "ragged":
            raise RunError(
                f"received batching 'ragged' for {recipe.dataset}, which has a target for every step; expected padded, "
                "bucketed, same-length or single"
            )
        self._collate: Callable[[Any], Any] = collate
        if recipe.execution == "static":
            self._collate = partial(collate, pad_to=recipe.num_steps)
        elif recipe.batching != "padded" and not per_step:
            self._collate = collate_ragged

    def train(self, rows: Sequences, rank: int, num_replicas: int) -> BatchLoader[Any]:
        """Return the training batches; their order depends on the seed and the epoch."""
        return BatchLoader(rows, self._sampler(rows, rank=rank, num_replicas=num_replicas), self._collate)

    def evaluate(self, rows: Sequences, rank: int, num_replicas: int) -> BatchLoader[Any]:
        """Return the batches of an evaluation, in order."""
        sampler = ResumableBatchSampler(
            len(rows), evaluation_batch(self.recipe.num_steps), shuffle=False, rank=rank, num_replicas=num_replicas
        )
        return BatchLoader(rows, sampler, self._collate)

    def _sampler(self, rows: Sequences, **share: int) -> ResumableSampler[list[int]]:
        recipe = self.recipe
        options: dict[str, Any] = {"seed": recipe.seed, **share}
        if recipe.batching == "bucketed":
            return BucketBatchSampler(rows.lengths, batch_sizes=recipe.batch_size, **options)
        if recipe.batching == "same-length":
            return SameLengthBatchSampler(rows.lengths, recipe.batch_size, **options)
        size = 1 if recipe.batching == "single" else recipe.batch_size
        return ResumableBatchSampler(len(rows), size, **options)


class StreamBatches:
    """Windows of one text, read as so many streams side by side as a batch has rows.

    Parameters
    ----------
    recipe : Recipe
        `batch_size` is the number of streams, `num_steps` that of the steps of a window.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def train(self, rows: Stream, rank: int, num_replicas: int) -> StreamLoader:
        """Return the windows of the training text; they are the same in every epoch."""
        recipe = self.recipe
        try:
            return StreamLoader(rows.tokens, recipe.batch_size, recipe.num_steps, rank=rank, num_replicas=num_replicas)
        except ValueError as error:
            raise RunError(f"{recipe.dataset}: {error}") from error

    def evaluate(self, rows: Stream, rank: int, num_replicas: int) -> StreamLoader:
        """Return the windows of a text that is not trained on."""
        return self.train(rows, rank, num_replicas)


def batches_of(recipe: Recipe) -> Batches:
    """Return what makes a recipe's batches.

    Parameters
    ----------
    recipe : Recipe
        Its objective says of what kind its data are.

    Raises
    ------
    RunError
        If the recipe's batching is not possible for its objective.
    """
    return StreamBatches(recipe) if recipe.objective == "next-token" else SequenceBatches(recipe)
