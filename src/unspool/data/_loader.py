"""Batches of a data set in memory, in an order that can be resumed."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar, overload

from torch import Tensor

from unspool.data._collate import SequenceBatch, collate
from unspool.data._resumable import ResumableLoader, ResumableSampler

Sample = TypeVar("Sample")
SampleOf = TypeVar("SampleOf", covariant=True)
Batch = TypeVar("Batch")


class Rows(Protocol[SampleOf]):
    """A data set: samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> SampleOf: ...


class BatchLoader(ResumableLoader[Batch]):
    """Iterate over a data set in batches, without worker processes, for data in memory.

    Parameters
    ----------
    dataset : SequenceDataset
        The sequences, or anything whose items `collate_fn` accepts.
    sampler : ResumableBatchSampler or LengthBatchSampler
        The order of the sequences. Its state is the loader's state.
    collate_fn : callable
        Makes a batch of the data set's items: by default a `SequenceBatch` of (sequence, label) pairs.
    """

    @overload
    def __init__(
        self: "BatchLoader[SequenceBatch]",
        dataset: Rows[tuple[Tensor, int]],
        sampler: ResumableSampler[list[int]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        dataset: Rows[Sample],
        sampler: ResumableSampler[list[int]],
        collate_fn: Callable[[Iterable[Sample]], Batch],
    ) -> None: ...

    def __init__(
        self,
        dataset: Rows[Any],
        sampler: ResumableSampler[list[int]],
        collate_fn: Callable[[Iterable[Any]], Any] = collate,
    ) -> None:
        super().__init__(sampler)
        self.dataset = dataset
        self.collate_fn = collate_fn

    def __iter__(self) -> Iterator[Batch]:
        for rows in self.sampler:
            yield self.collate_fn([self.dataset[row] for row in rows])
