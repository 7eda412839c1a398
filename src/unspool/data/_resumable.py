"""Interrupt and resume epochs: the common base of all samplers and loaders."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

from torch.utils.data import Sampler

Item = TypeVar("Item", covariant=True)
Batch = TypeVar("Batch", covariant=True)


class ResumableSampler(Sampler[Item], ABC):
    """Sample batches in an order that can be resumed: it depends only on the sampler's arguments and the epoch.

    Every iteration is a new epoch, under any loader: the one after the last, unless `set_epoch` or a loaded state says
    which.

    A subclass makes the batches (`_batches`, `__len__`) and names what their order depends on (`_identity`). Use it as
    the ``batch_sampler`` of a `torch.utils.data.DataLoader`, or as the sampler of a `ResumableLoader`.
    """

    _must_be_equal: ClassVar[str] = "arguments"
    """What a message says that two samplers must have in common, for one to continue the other's order."""

    def __init__(self) -> None:
        self.epoch = 0
        self._position = 0  # batches of this epoch that were handed out
        self._start = 0  # where the next iteration starts
        self._begun = False  # whether an iteration of this epoch has begun

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of this process's batches in a whole epoch, even after a position was loaded."""

    @abstractmethod
    def _batches(self, start: int) -> Iterator[Item]:
        """Yield this process's batches of the epoch from number `start` on."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Return what the order depends on besides the epoch, for the state."""

    def __iter__(self) -> Iterator[Item]:
        if self._begun:  # trainers do not look for `set_epoch` on the batch sampler of a DataLoader
            self.set_epoch(self.epoch + 1)
        self._begun = True
        start, self._start = self._start, 0
        self._position = start
        for done, batch in enumerate(self._batches(start), start=start + 1):
            self._position = done
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; a loaded position applies only to its own epoch.

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        """
        if epoch != self.epoch:
            self._start = self._position = 0
        self.epoch = epoch
        self._begun = False

    def state_dict(self, *, position: int | None = None) -> dict[str, Any]:
        """Return the position in this epoch, with what its order depends on. It is the same for all replicas.

        Parameters
        ----------
        position : int, optional
            How many batches of the epoch were trained on, counted from its start; by default the number that was
            handed out. The two differ if a `DataLoader` has workers, since these fetch batches ahead.

        Raises
        ------
        ValueError
            If `position` is out of range.
        """
        done = self._position if position is None else position
        if not 0 <= done <= len(self):
            raise ValueError(f"received position={done}; expected 0 to {len(self)}, the batches of an epoch")
        return {"epoch": self.epoch, "position": done, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state: the next iteration starts with the batch after those it counts.

        Parameters
        ----------
        state : dict
            What `state_dict` returned, on any replica. The state of the model is not in it.

        Raises
        ------
        ValueError
            If the state is that of a sampler with another order.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ValueError(
                    f"the state has {name}={state.get(name)}, this sampler {value}; an order can only be continued "
                    f"with the same {self._must_be_equal}"
                )
        self.set_epoch(state["epoch"])
        self._start = self._position = state["position"]


class ResumableLoader(Generic[Batch], ABC):
    """Iterate over batches of data in the order of a sampler, whose state is the loader's state.

    Parameters
    ----------
    sampler : ResumableSampler
        The order.
    """

    def __init__(self, sampler: ResumableSampler[Any]) -> None:
        # Both names, as a DataLoader has them: trainers look there for the sampler, to set its epoch.
        self.sampler = self.batch_sampler = sampler

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch."""

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
