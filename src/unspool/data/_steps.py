"""Sequences with a target for every step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unspool.data._collate import StepSample
from unspool.data._errors import DataError


class StepLabelledDataset:
    """Sequences of any lengths with a target for every step, held in memory.

    Parameters
    ----------
    inputs : sequence of Tensor of shape (T, I)
        The inputs of a model; every sequence has its own number of steps T.
    targets : sequence of Tensor of shape (T, K)
        The targets at each step.
    class_names : sequence of str, K of them, optional
        Names of the values of a target; their indices by default.

    Raises
    ------
    DataError
        If there is no sequence, inputs and targets differ in number or steps, widths differ between sequences, or
        there are not K names.
    """

    def __init__(
        self, inputs: Sequence[Tensor], targets: Sequence[Tensor], class_names: Sequence[str] | None = None
    ) -> None:
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise DataError(
                f"received {len(inputs)} inputs and {len(targets)} targets; expected one each, at least one"
            )
        for index, (steps, wanted) in enumerate(zip(inputs, targets, strict=True)):
            if steps.ndim != 2 or steps.shape[1:] != inputs[0].shape[1:]:
                raise DataError(
                    f"inputs {index} have shape {tuple(steps.shape)}; expected (steps, features) with as many features "
                    f"as the first, of shape {tuple(inputs[0].shape)}"
                )
            if wanted.ndim != 2 or wanted.shape[1:] != targets[0].shape[1:] or len(wanted) != len(steps):
                raise DataError(
                    f"targets {index} have shape {tuple(wanted.shape)}; expected ({len(steps)}, values), a row "
                    f"for each step, as wide as the first, of shape {tuple(targets[0].shape)}"
                )
        self.inputs = inputs
        self.targets = targets
        self.class_names = tuple(map(str, range(self.target_size)) if class_names is None else class_names)
        if len(self.class_names) != self.target_size:
            raise DataError(f"received {len(self.class_names)} names; expected {self.target_size}, one for each value")

    @property
    def input_size(self) -> int:
        """Number of features of one step."""
        return self.inputs[0].shape[1]

    @property
    def target_size(self) -> int:
        """Number of values of one step's target."""
        return self.targets[0].shape[1]

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each sequence, int64 of shape (N,): what samplers batch by."""
        return torch.tensor([len(steps) for steps in self.inputs])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> StepSample:
        return StepSample(self.inputs[index], self.targets[index])

    def subset(self, indices: Sequence[int]) -> "StepLabelledDataset":
        """Return the data set of the given rows, in the given order.

        Parameters
        ----------
        indices : sequence of int
            Rows of this data set.
        """
        return StepLabelledDataset(
            [self.inputs[row] for row in indices], [self.targets[row] for row in indices], self.class_names
        )
