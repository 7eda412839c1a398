"""One long sequence, cut into streams that are read side by side."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._resumable import ResumableLoader, ResumableSampler


class StreamBatch(NamedTuple):
    """Windows of parallel streams: ``inputs`` (B, T) int64, ``targets`` (B, T) int64, and whether they are the first.

    Targets are the tokens that follow the inputs. Stream b continues where stream b of the previous batch ended, so a
    model keeps its state from batch to batch; if `first` is True, it starts over.
    """

    inputs: Tensor
    targets: Tensor
    first: bool


class StreamBatchSampler(ResumableSampler[list[slice]]):
    """Sample windows of one long sequence, cut into streams that are read side by side.

    The sequence's N tokens are cut into B contiguous streams that predict L = (N - 1) // B tokens each: all but the
    first of the N, which has no predecessor, and the last (N - 1) % B of them. Every window covers `steps` tokens of
    each stream and the one after, which is the last one's target; the last window of an epoch covers what is left. All
    epochs have the same windows in the same order.

    Parameters
    ----------
    size : int
        Number of tokens N.
    batch_size : int
        Number of streams B, over all replicas together.
    steps : int
        Number of steps per window.
    rank, num_replicas : int
        The share of this process if several train together: every `num_replicas`-th stream.

    Raises
    ------
    ValueError
        If an argument is out of range, there are fewer tokens than B + 1, or a replica would have no stream.
    """

    def __init__(self, size: int, batch_size: int, steps: int, *, rank: int = 0, num_replicas: int = 1) -> None:
        if batch_size < 1 or steps < 1:
            raise ValueError(f"received batch_size={batch_size} and steps={steps}; expected both to be at least 1")
        if size <= batch_size:
            raise ValueError(
                f"received {size} tokens for {batch_size} streams; expected at least {batch_size + 1}, one for each "
                "stream and one to predict. Use fewer streams"
            )
        if not 0 <= rank < num_replicas or num_replicas > batch_size:
            raise ValueError(
                f"received rank={rank} of {num_replicas} replicas and {batch_size} streams; expected a rank from 0 to "
                f"{num_replicas - 1} and at least one stream for each"
            )
        super().__init__()
        self.size = size
        self.batch_size = batch_size
        self.steps = steps
        self.rank = rank
        self.num_replicas = num_replicas
        self.stream_length = (size - 1) // batch_size

    def __len__(self) -> int:
        """Return the number of windows in a whole epoch, even after a position was loaded."""
        return -(-self.stream_length // self.steps)

    def _batches(self, start: int) -> Iterator[list[slice]]:
        starts = range(self.rank * self.stream_length, self.batch_size * self.stream_length, self.stream_length)
        for first in range(start * self.steps, self.stream_length, self.steps):
            last = min(first + self.steps, self.stream_length)
            yield [slice(stream + first, stream + last + 1) for stream in starts[:: self.num_replicas]]

    def _identity(self) -> dict[str, int]:
        return {"size": self.size, "batch_size": self.batch_size, "steps": self.steps}


class StreamLoader(ResumableLoader[StreamBatch]):
    """Iterate over a long sequence of tokens for truncated backpropagation through time.

    Parameters
    ----------
    tokens : Tensor or ndarray of shape (N,), whole numbers
        The sequence; an array may be memory-mapped.
    batch_size, steps, rank, num_replicas : int
        As in `StreamBatchSampler`. The sampler's state is the loader's state.

    Raises
    ------
    DataError
        If `tokens` are of another shape or type.
    ValueError
        As `StreamBatchSampler` does: a number is out of range, or there are too few tokens for so many streams.
    """

    def __init__(
        self, tokens: Tensor | np.ndarray, batch_size: int, steps: int, *, rank: int = 0, num_replicas: int = 1
    ) -> None:
        array = tokens.numpy(force=True) if isinstance(tokens, Tensor) else tokens
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"received tokens of shape {array.shape} and type {array.dtype}; expected (N,) whole numbers"
            )
        self.tokens = array
        sampler = StreamBatchSampler(len(array), batch_size, steps, rank=rank, num_replicas=num_replicas)
        self._stream_length = sampler.stream_length
        super().__init__(sampler)

    def __iter__(self) -> Iterator[StreamBatch]:
        for windows in self.sampler:
            block = torch.from_numpy(np.stack([self.tokens[window] for window in windows]).astype(np.int64))
            yield StreamBatch(block[:, :-1], block[:, 1:], windows[0].start % self._stream_length == 0)
