"""Batches drawn at random, in an order that can be resumed."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from unspool.data._resumable import ResumableSampler


class ResumableBatchSampler(ResumableSampler[list[int]]):
    """Sample batches of indices whose order depends only on the seed and the epoch.

    An interrupted epoch resumes with the next batch: save `state_dict` with the model, load it, iterate. Use it as the
    ``batch_sampler`` of a `torch.utils.data.DataLoader`, which consumes it in the main process even if it has workers,
    or as the sampler of a `BatchLoader`.

    Parameters
    ----------
    size : int
        Number of sequences of the data set.
    batch_size : int
        Sequences per batch, over all replicas together; the last batch of an epoch may be smaller.
    shuffle : bool
        Whether every epoch has a different order. Otherwise sequences come in order.
    seed : int
        Seed of the orders.
    rank, num_replicas : int
        The share of this process if several train together: every `num_replicas`-th sequence of each batch.

    Raises
    ------
    ValueError
        If an argument is out of range, or a batch would leave a replica without sequences.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        if size < 1 or batch_size < 1:
            raise ValueError(f"received size={size} and batch_size={batch_size}; expected both to be at least 1")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"received rank={rank}; expected 0 to {num_replicas - 1} with {num_replicas} replicas")
        smallest = size % batch_size or batch_size
        if smallest < num_replicas:
            raise ValueError(
                f"the smallest batch of {size} rows in batches of {batch_size} has {smallest} rows, too few for "
                f"{num_replicas} replicas; choose another batch_size"
            )
        super().__init__()
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch, even after a position was loaded."""
        return -(-self.size // self.batch_size)

    def _batches(self, start: int) -> Iterator[list[int]]:
        order = self.order(self.epoch)
        for first in range(start * self.batch_size, self.size, self.batch_size):
            yield order[first + self.rank : min(first + self.batch_size, self.size) : self.num_replicas].tolist()

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of the sequences in an epoch, an int64 array of shape (size,).

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        """
        if not self.shuffle:
            return np.arange(self.size)
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "size": self.size, "batch_size": self.batch_size}
