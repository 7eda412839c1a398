from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from ._collate import SequenceBatch, collate
from ._dataset import SequenceDataset
from ._sampler import ResumableBatchSampler


class BatchLoader:
    """Iterate over a `SequenceDataset` in batches; the data lie in memory, so no worker process is needed.

    Parameters
    ----------
    dataset : SequenceDataset
        The sequences.
    sampler : ResumableBatchSampler
        The order of the rows. Its state is the loader's state.
    collate_fn : callable
        Makes a `SequenceBatch` of (sequence, label) pairs.
    """

    def __init__(
        self,
        dataset: SequenceDataset,
        sampler: ResumableBatchSampler,
        collate_fn: Callable[[Iterable[tuple[Tensor, int]]], SequenceBatch] = collate,
    ) -> None:
        self.dataset = dataset
        # Both names, as a DataLoader has them: trainers look there for the sampler, to set its epoch.
        self.sampler = self.batch_sampler = sampler
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[SequenceBatch]:
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
