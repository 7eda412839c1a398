"""Batches of sequences of similar length, or of one length."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from unspool.data._length_sampler import LengthBatchSampler, as_lengths


class BucketBatchSampler(LengthBatchSampler):
    """Sample batches by length, within bounds, like TensorFlow's ``bucket_by_sequence_length``.

    Parameters
    ----------
    lengths : sequence of int, ndarray or Tensor of shape (N,)
        The number of steps of each sequence of the data set.
    boundaries : sequence of int, optional
        Ascending; G - 1 of them bound G buckets. A sequence as long as a boundary is in the bucket above it. By default
        those of `bucket_boundaries`, for which one batch size must do.
    batch_sizes : int or sequence of int, optional
        Sequences per batch, for all buckets or for each of the G. The last batch of a bucket may have fewer.
    tokens_per_batch : int, optional
        Instead of `batch_sizes`: the most steps of a padded batch, sequences times the longest. A bucket's batches have
        as many sequences as its longest one allows, so the number of batches per epoch does not depend on the order.
    shuffle : bool
        Whether every epoch has a different order. Otherwise sequences come in order, bucket after bucket.
    seed : int
        Seed of the orders.
    rank, num_replicas : int
        The share of this process if several train together: see `LengthBatchSampler`.
    drop_uneven : bool
        Whether to drop batches that do not make a full step for all replicas.

    Raises
    ------
    ValueError
        If an argument is out of range, one sequence alone exceeds the budget, or there are too few for the replicas.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray | Tensor,
        boundaries: Sequence[int] | None = None,
        batch_sizes: int | Sequence[int] | None = None,
        *,
        tokens_per_batch: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        drop_uneven: bool = False,
    ) -> None:
        steps = as_lengths(lengths)
        bounds = np.asarray(bucket_boundaries(steps) if boundaries is None else boundaries, np.int64)
        if bounds.ndim != 1 or np.any(np.diff(bounds) <= 0) or np.any(bounds < 1):
            raise ValueError(f"received boundaries={boundaries}; expected ascending whole numbers from 1")
        groups = np.searchsorted(bounds, steps, side="right")
        longest = np.zeros(len(bounds) + 1, np.int64)
        np.maximum.at(longest, groups, steps)
        super().__init__(
            steps,
            groups,
            _rows_per_batch(longest, batch_sizes, tokens_per_batch),
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            drop_uneven=drop_uneven,
        )
        self.boundaries = tuple(bounds.tolist())
        self.tokens_per_batch = tokens_per_batch


class SameLengthBatchSampler(LengthBatchSampler):
    """Sample batches of sequences of one length, which need no padding; with ``batch_size=1``, single sequences.

    Parameters
    ----------
    lengths : sequence of int, ndarray or Tensor of shape (N,)
        The number of steps of each sequence of the data set.
    batch_size : int, optional
        Most sequences per batch; the last batch of a length may have fewer.
    tokens_per_batch : int, optional
        Instead of `batch_size`: the most steps of a batch.
    shuffle : bool
        Whether every epoch has a different order. Otherwise sequences come in order, from the shortest to the longest.
    seed : int
        Seed of the orders.
    rank, num_replicas : int
        The share of this process if several train together: see `LengthBatchSampler`.
    drop_uneven : bool
        Whether to drop batches that do not make a full step for all replicas.

    Raises
    ------
    ValueError
        If an argument is out of range, one sequence alone exceeds the budget, or there are too few for the replicas.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray | Tensor,
        batch_size: int | None = None,
        *,
        tokens_per_batch: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        drop_uneven: bool = False,
    ) -> None:
        steps = as_lengths(lengths)
        values, groups = np.unique(steps, return_inverse=True)
        super().__init__(
            steps,
            groups.astype(np.int64),
            _rows_per_batch(values, batch_size, tokens_per_batch),
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            drop_uneven=drop_uneven,
        )
        self.tokens_per_batch = tokens_per_batch


def bucket_boundaries(lengths: Sequence[int] | np.ndarray | Tensor, buckets: int = 16) -> list[int]:
    """Return boundaries of buckets that hold about equally many sequences, whatever the lengths are like.

    Parameters
    ----------
    lengths : sequence of int, ndarray or Tensor of shape (N,)
        The number of steps of each sequence.
    buckets : int
        The most buckets; there are fewer where many sequences are of one length.

    Returns
    -------
    list of int
        Ascending quantiles of the lengths, at most `buckets` - 1 of them.

    Raises
    ------
    ValueError
        If `buckets` is not positive, or the lengths are no numbers of steps.
    """
    if buckets < 1:
        raise ValueError(f"received buckets={buckets}; expected at least 1")
    quantiles = np.quantile(as_lengths(lengths), np.arange(1, buckets) / buckets).astype(int)
    return [bound for bound in np.unique(quantiles).tolist() if bound > 0]


def _rows_per_batch(
    longest: np.ndarray, batch_sizes: int | Sequence[int] | None, tokens_per_batch: int | None
) -> np.ndarray:
    if (batch_sizes is None) == (tokens_per_batch is None):
        raise ValueError("received both or none of the batch size and tokens_per_batch; expected one of them")
    if tokens_per_batch is not None:
        if tokens_per_batch < max(1, longest.max()):
            raise ValueError(
                f"received tokens_per_batch={tokens_per_batch} and a row of {longest.max()} steps, which no batch "
                "can hold; raise the budget or shorten the row"
            )
        # Rows of no steps cost nothing; a bucket of them takes as many rows as one of single steps.
        return tokens_per_batch // np.maximum(longest, 1)
    sizes = np.asarray(batch_sizes, np.int64)
    if sizes.ndim == 0:
        sizes = np.full(len(longest), sizes)
    if len(sizes) != len(longest):
        raise ValueError(f"received {len(sizes)} batch sizes; expected {len(longest)}, one more than boundaries")
    if sizes.min() < 1:
        raise ValueError(f"received a batch size of {sizes.min()}; expected at least 1")
    return sizes
