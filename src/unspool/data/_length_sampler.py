"""What the samplers that know lengths share."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from unspool.data._resumable import ResumableSampler
from unspool.data._shard import divide, full_steps


class LengthBatchSampler(ResumableSampler[list[int]]):
    """Sample batches of similar length: the common base of `BucketBatchSampler` and `SameLengthBatchSampler`.

    Every sequence is in one batch of an epoch. Sequences are divided into groups, and batches are cut within a group.
    With `shuffle`, the composition and the order of the batches are drawn for every epoch, from the seed and the epoch
    alone. The number of batches is the same in every epoch.

    Use it as the ``batch_sampler`` of a `torch.utils.data.DataLoader`, which consumes it in the main process even if it
    has workers, or as the sampler of a `BatchLoader`.

    Parameters
    ----------
    lengths : sequence of int, ndarray or Tensor of shape (N,)
        The number of steps of each sequence of the data set.
    groups : ndarray of shape (N,), int64
        The group of each sequence, from 0.
    batch_sizes : ndarray of shape (G,), int64
        The most sequences of a batch, for each group.
    shuffle : bool
        Whether every epoch has a different order. Otherwise sequences come in order, group after group.
    seed : int
        Seed of the orders.
    rank, num_replicas : int
        The share of this process if several train together: one whole batch of every step. All have the same number of
        batches, and the batches of one step have nearly the same number of valid steps. The remainder after the last
        full step is filled up by halving the largest batches.
    drop_uneven : bool
        Whether to drop the batches that do not make a full step instead.

    Raises
    ------
    ValueError
        If an argument is out of range, or there are too few sequences to give every replica the same number of batches.
    """

    _must_be_equal = "arguments (batching is a checksum of lengths, bounds and batch sizes)"

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray | Tensor,
        groups: np.ndarray,
        batch_sizes: np.ndarray,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        drop_uneven: bool = False,
    ) -> None:
        if not 0 <= rank < num_replicas:
            raise ValueError(f"received rank={rank}; expected 0 to {num_replicas - 1} with {num_replicas} replicas")
        super().__init__()
        self.lengths = as_lengths(lengths)
        self.size = len(self.lengths)
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas
        self.drop_uneven = drop_uneven
        self._groups = groups
        self._batch_sizes = batch_sizes
        counts = np.bincount(groups, minlength=len(batch_sizes))
        batches = int((-(-counts // batch_sizes)).sum())
        self._steps = batches // num_replicas if drop_uneven else -(-batches // num_replicas)
        if self._steps == 0 or self._steps * num_replicas > self.size:
            raise ValueError(
                f"received {self.size} rows in {batches} batches for {num_replicas} replicas: too few to give each "
                "equally many batches. Leave rows out with drop_uneven=True, or use fewer replicas"
            )

    def __len__(self) -> int:
        """Return the number of this process's batches in a whole epoch, even after a position was loaded."""
        return self._steps

    def _batches(self, start: int) -> Iterator[list[int]]:
        for batch in self.batches(self.epoch)[start:]:
            yield batch.tolist()

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return this process's batches of an epoch, in order: an int64 array of indices for each.

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        """
        generator = np.random.default_rng([self.seed, epoch])
        batches = self._cut(generator.permutation(self.size) if self.shuffle else np.arange(self.size))
        if self.drop_uneven:
            chosen = generator.permutation(len(batches)) if self.shuffle else np.arange(len(batches))
            batches = [batches[index] for index in chosen[: self._steps * self.num_replicas]]
        else:
            batches = full_steps(batches, self.num_replicas)
        tokens = np.array([int(self.lengths[batch].sum()) for batch in batches])
        steps = divide(tokens, self.num_replicas)
        if self.shuffle:
            steps = generator.permutation(steps)
        return [batches[index] for index in steps[:, self.rank]]

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Cut rows into batches within their groups; the last of a group may be smaller."""
        order = order[np.argsort(self._groups[order], kind="stable")]
        batches = []
        first = 0
        for count, size in zip(np.bincount(self._groups), self._batch_sizes, strict=False):
            batches += [order[start : min(start + size, first + count)] for start in range(first, first + count, size)]
            first += count
        return batches

    def _identity(self) -> dict[str, Any]:
        checksum = 0
        for array in (self.lengths, self._groups, self._batch_sizes):
            checksum = zlib.crc32(np.ascontiguousarray(array, np.int64).tobytes(), checksum)
        names = ("seed", "size", "shuffle", "num_replicas", "drop_uneven")
        return {**{name: getattr(self, name) for name in names}, "batching": checksum}


def as_lengths(lengths: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
    """Return lengths as an int64 array of shape (N,).

    Parameters
    ----------
    lengths : sequence of int, ndarray or Tensor of shape (N,)
        The number of steps of each sequence.

    Raises
    ------
    ValueError
        If there is none, one is negative, or they are not integers.
    """
    array = lengths.numpy(force=True) if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"received lengths of shape {array.shape} and type {array.dtype}; expected (N,) whole numbers")
    if int(array.min()) < 0:
        raise ValueError(f"received a length of {int(array.min())}; expected 0 or more")
    return array.astype(np.int64)
