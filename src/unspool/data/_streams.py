from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from ._errors import DataError


class StreamBatch(NamedTuple):
    """Windows of parallel streams: ``inputs`` (B, T) int64, ``targets`` (B, T) int64, and whether they are the first.

    Targets are the tokens that follow the inputs. Row b goes on where row b of the batch before ended, so a model
    keeps its state from batch to batch; where `first` is True it starts anew.
    """

    inputs: Tensor
    targets: Tensor
    first: bool


class StreamBatchSampler(Sampler[list[slice]]):
    """Windows of one long sequence, cut into streams that are read side by side.

    The sequence's N tokens are cut into B contiguous streams that predict L = (N - 1) // B tokens each: all but the
    first of the N, which nothing comes before, and the last (N - 1) % B of them. Every window covers `steps` tokens
    of each stream and the one after, which is the last one's target; the last window of an epoch covers what is left.
    All epochs have the same windows in the same order.

    Parameters
    ----------
    size : int
        Number of tokens N.
    batch_size : int
        Number of streams B, over all replicas together.
    steps : int
        Number of steps of a window.
    rank, num_replicas : int
        The share of this process where several train together: every `num_replicas`-th stream.

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
        self.size = size
        self.batch_size = batch_size
        self.steps = steps
        self.rank = rank
        self.num_replicas = num_replicas
        self.stream_length = (size - 1) // batch_size
        self.epoch = 0
        self._position = 0
        self._start = 0

    def __len__(self) -> int:
        """Return the number of windows of a whole epoch, also after a position was loaded."""
        return -(-self.stream_length // self.steps)

    def __iter__(self) -> Iterator[list[slice]]:
        self._position, self._start = self._start, 0
        starts = range(self.rank * self.stream_length, self.batch_size * self.stream_length, self.stream_length)
        while self._position < len(self):
            first = self._position * self.steps
            last = min(first + self.steps, self.stream_length)
            self._position += 1
            yield [slice(start + first, start + last + 1) for start in starts[:: self.num_replicas]]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; a loaded position holds for its own epoch only.

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        """
        if epoch != self.epoch:
            self._start = self._position = 0
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of its windows that were handed out, with what they depend on."""
        return {"epoch": self.epoch, "position": self._position, **self._identity()}

    def _identity(self) -> dict[str, int]:
        return {"size": self.size, "batch_size": self.batch_size, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state: the next iteration starts with the window after the last one handed out.

        Parameters
        ----------
        state : dict
            What `state_dict` returned, on any replica. The state of the model is not in it.

        Raises
        ------
        ValueError
            If the state is of a sampler with another size, number of streams or of steps.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ValueError(
                    f"the state has {name}={state.get(name)}, this sampler {value}; "
                    "streams can only be continued with the same numbers"
                )
        self.epoch = state["epoch"]
        self._start = self._position = state["position"]


class StreamLoader:
    """Iterate over a long sequence of tokens for truncated backpropagation through time.

    Parameters
    ----------
    tokens : Tensor or ndarray of shape (N,), whole numbers
        The sequence; an array may be mapped from a file.
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
        # Both names, as a DataLoader has them: trainers look there for the sampler, to set its epoch.
        self.sampler = self.batch_sampler = StreamBatchSampler(
            len(array), batch_size, steps, rank=rank, num_replicas=num_replicas
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[StreamBatch]:
        for windows in self.sampler:
            block = torch.from_numpy(np.stack([self.tokens[window] for window in windows]).astype(np.int64))
            yield StreamBatch(block[:, :-1], block[:, 1:], windows[0].start % self.sampler.stream_length == 0)

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
