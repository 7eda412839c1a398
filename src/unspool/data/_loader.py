from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, overload

from torch import Tensor

from ._collate import SequenceBatch, collate
from ._length_sampler import LengthBatchSampler
from ._sampler import ResumableBatchSampler

Sample = TypeVar("Sample")
SampleOf = TypeVar("SampleOf", covariant=True)
Batch = TypeVar("Batch")


class Rows(Protocol[SampleOf]):
    """A data set: samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> SampleOf: ...


class BatchLoader(Generic[Batch]):
    """Iterate over a data set in batches; the data lie in memory, so no worker process is needed.

    Parameters
    ----------
    dataset : SequenceDataset
        The sequences; anything whose items `collate_fn` takes will do.
    sampler : ResumableBatchSampler or LengthBatchSampler
        The order of the rows. Its state is the loader's state.
    collate_fn : callable
        Makes a batch of the data set's items: by default a `SequenceBatch` of (sequence, label) pairs.
    """

    @overload
    def __init__(
        self: "BatchLoader[SequenceBatch]",
        dataset: Rows[tuple[Tensor, int]],
        sampler: ResumableBatchSampler | LengthBatchSampler,
    ) -> None: ...

    @overload
    def __init__(
        self,
        dataset: Rows[Sample],
        sampler: ResumableBatchSampler | LengthBatchSampler,
        collate_fn: Callable[[Iterable[Sample]], Batch],
    ) -> None: ...

    def __init__(
        self,
        dataset: Rows[Any],
        sampler: ResumableBatchSampler | LengthBatchSampler,
        collate_fn: Callable[[Iterable[Any]], Any] = collate,
    ) -> None:
        self.dataset = dataset
        # Both names, as a DataLoader has them: trainers look there for the sampler, to set its epoch.
        self.sampler = self.batch_sampler = sampler
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self.sampler:
            yield self.collate_fn([self.dataset[row] for row in rows])

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's state."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the sampler's state, so that the next iteration continues where it was saved.

        Parameters
        ----------
        state : dict
            What `state_dict` returned.
        """
        self.sampler.load_state_dict(state)
