"""Dropout around any cell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unspool._nest import Nest, describe, flatten, map_leaves, same_kind, unflatten
from unspool.cells._contract import LSTMState, size_of
from unspool.cells._masks import check_probability, dropout_mask, holds_activations
from unspool.cells._wrappers import WrappedCell

StateFilter = Callable[[Nest], Nest]


def drop_all_but_memory(state: Nest) -> Nest:
    """Return True for every leaf of a state but the memory cell c of an LSTM, which is never dropped by default."""

    def chosen(part: Nest) -> Nest:
        return LSTMState(True, False) if isinstance(part, LSTMState) else True  # type: ignore[arg-type]

    return map_leaves(chosen, state, stop_at=lambda part: isinstance(part, LSTMState))


class DropoutCell(WrappedCell):
    r"""Dropout on the input, the output and the state of any cell, in training.

    .. math:: (y_t, s_t) = (m_y\,\tilde y_t, \tilde s_t) \qquad
        (\tilde y_t, \tilde s_t) = \mathrm{cell}(m_x\,x_t, m_s\,s_{t-1})

    where each number of a mask m is 0 with its probability p, and else 1 / (1 - p).

    By default one mask is drawn per sequence and held over all of its steps (variational dropout: Gal and Ghahramani,
    2016). State dropout acts on the state that *enters* the step, so the state that a run returns is never dropped
    (TensorFlow 1's `DropoutWrapper` drops the state that leaves it).

    Parameters
    ----------
    cell : cell
        The cell inside. With `variational=True`, it must have the attributes `input_size` and `output_size` if input or
        output are dropped, since the masks are drawn before the first step.
    input, output, state : float
        Probabilities of dropping, in [0, 1).
    variational : bool
        Hold the masks over a sequence. False draws new ones at every step, as plain `DropoutWrapper` does.
    shared_over_batch : bool
        Draw one mask for the whole batch, as TensorFlow's variational wrapper does.
    state_filter : callable, optional
        Takes a state and returns the same structure with True for each leaf to drop. By default, all are dropped except
        the memory cell c of an `LSTMState`. Integer leaves (counters, for example) are never dropped.

    Raises
    ------
    ValueError
        If a probability is out of range; when run, if the filter returns another structure.

    References
    ----------
    - Y. Gal, Z. Ghahramani, A theoretically grounded application of dropout in recurrent neural networks, 2016,
      arXiv:1512.05287
    """

    def __init__(
        self,
        cell: nn.Module,
        *,
        input: float = 0.0,
        output: float = 0.0,
        state: float = 0.0,
        variational: bool = True,
        shared_over_batch: bool = False,
        state_filter: StateFilter | None = None,
    ) -> None:
        super().__init__(cell)
        self.input = check_probability(input, "input")
        self.output = check_probability(output, "output")
        self.state = check_probability(state, "state")
        self.variational = variational
        self.shared_over_batch = shared_over_batch
        self.state_filter = state_filter or drop_all_but_memory

    def _own_rows(
        self, batch_size: int, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> dict[str, Nest]:
        rows: dict[str, Nest] = {}
        if not self.variational:
            return rows
        like = next(iter(self.parameters()), None)
        if like is not None:
            dtype, device = dtype or like.dtype, device or like.device

        def mask(probability: float, shape: tuple[int, ...]) -> Tensor:
            return dropout_mask(
                probability, shape, shared_over_batch=self.shared_over_batch, dtype=dtype, device=device
            )

        if self.input:
            rows["input"] = mask(self.input, (batch_size, size_of(self.cell, "input_size", "DropoutCell")))
        if self.output:
            rows["output"] = mask(self.output, (batch_size, size_of(self.cell, "output_size", "DropoutCell")))
        if self.state:
            state = self.initial_state(batch_size, dtype=dtype, device=device)
            rows["state"] = {
                str(k): mask(self.state, tuple(leaf.shape))
                for k, (leaf, drop) in enumerate(self._chosen(state))
                if drop
            }
        return rows

    def _chosen(self, state: Nest) -> list[tuple[Tensor, bool]]:
        """Return the leaves of a state, each with whether it is dropped."""
        (leaves, structure), (flags, own) = flatten(state), flatten(same_kind(self.state_filter(state), state))
        if own != structure:
            raise ValueError(
                f"state_filter returned {describe(unflatten(flags, own))}; expected True or False for each leaf of the "
                f"state {describe(state)}, in its structure."
            )
        return [(leaf, flag and holds_activations(leaf)) for leaf, flag in zip(leaves, flags, strict=True)]

    def forward(
        self, x: Nest, state: Nest, rows: dict[str, Nest] | None = None, constants: Nest | None = None
    ) -> tuple[Nest, Nest]:
        """Compute one step of the cell inside, with dropout around it.

        Parameters
        ----------
        x, state
            As for the cell inside.
        rows : dict, optional
            Masks: see `row_inputs`. Required in training with `variational=True`.
        constants : nesting of Tensor of shape (B, ...), optional
            Constants of the run, for the cell inside.

        Returns
        -------
        output, new_state
            As from the cell inside, with dropout on the output, not on the state.
        """
        if not self.training or not (self.input or self.output or self.state):
            return self._inner_step(x, state, rows, constants)
        if self.variational:
            return self._with_held_masks(x, state, self._rows_in_training(rows), constants)
        x = self._drop(x, self.input)
        if self.state:
            leaves = [self._drop(leaf, self.state) if drop else leaf for leaf, drop in self._chosen(state)]
            state = unflatten(leaves, flatten(state)[1])
        output, new_state = self._inner_step(x, state, rows, constants)
        return self._drop(output, self.output), new_state

    def _with_held_masks(
        self, x: Nest, state: Nest, rows: dict[str, Nest], constants: Nest | None
    ) -> tuple[Nest, Nest]:
        if "input" in rows:
            x = x * rows["input"]
        if "state" in rows:
            leaves, spec = flatten(state)
            masks = rows["state"]
            state = unflatten(
                [leaf * masks[str(k)] if str(k) in masks else leaf for k, leaf in enumerate(leaves)], spec
            )
        output, new_state = self._inner_step(x, state, rows, constants)
        return output * rows["output"] if "output" in rows else output, new_state

    def _drop(self, value: Nest, probability: float) -> Nest:
        if not probability:
            return value
        if not self.shared_over_batch:
            return map_leaves(lambda leaf: F.dropout(leaf, probability), value)
        return map_leaves(lambda leaf: leaf * F.dropout(torch.ones_like(leaf[:1]), probability), value)

    def extra_repr(self) -> str:
        """Return the probabilities."""
        shared = ", shared_over_batch=True" if self.shared_over_batch else ""
        return f"input={self.input}, output={self.output}, state={self.state}, variational={self.variational}{shared}"
