from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler


class ResumableBatchSampler(Sampler[list[int]]):
    """Batches of row numbers whose order depends on the seed and the epoch alone.

    An interrupted epoch continues with the next batch: save `state_dict` with the model, load it, iterate.
    It serves as the ``batch_sampler`` of a `torch.utils.data.DataLoader` without worker processes, or as the
    sampler of a `BatchLoader`.

    Parameters
    ----------
    size : int
        Number of rows of the data set.
    batch_size : int
        Rows per batch, over all replicas together; the last batch of an epoch may be smaller.
    shuffle : bool
        Whether every epoch has an order of its own. Otherwise rows come in order.
    seed : int
        What the orders are drawn from.
    rank, num_replicas : int
        The share of this process where several train together: every `num_replicas`-th row of each batch.

    Raises
    ------
    ValueError
        If an argument is out of range, or a batch would leave a replica without rows.
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
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas
        self.epoch = 0
        self._position = 0
        self._start = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, also after a position was loaded."""
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        self._position, self._start = self._start, 0
        order = self.order(self.epoch)
        while self._position < len(self):
            first = self._position * self.batch_size
            self._position += 1
            yield order[first + self.rank : min(first + self.batch_size, self.size) : self.num_replicas].tolist()

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of the rows in an epoch, an int64 array of shape (size,).

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        """
        if not self.shuffle:
            return np.arange(self.size)
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)

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
        """Return the epoch and the number of its batches that were handed out, with the order's parameters."""
        return {
            "epoch": self.epoch,
            "position": self._position,
            "seed": self.seed,
            "size": self.size,
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state: the next iteration starts with the batch after the last one handed out.

        Parameters
        ----------
        state : dict
            What `state_dict` returned.

        Raises
        ------
        ValueError
            If the state is of a sampler with another seed, size or batch size.
        """
        for name in ("seed", "size", "batch_size"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the state has {name}={state[name]}, this sampler {getattr(self, name)}; "
                    "an order can only be continued with the same numbers"
                )
        self.epoch = state["epoch"]
        self._start = self._position = state["position"]
