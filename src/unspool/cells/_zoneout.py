"""Zoneout around any cell."""

from __future__ import annotations

from numbers import Real

import torch
from torch import nn

from unspool._nest import Nest, describe, flatten, require_tensors, same_kind, unflatten
from unspool.cells._contract import initial_state_of
from unspool.cells._masks import check_probability, holds_activations
from unspool.cells._wrappers import WrappedCell


class ZoneoutCell(WrappedCell):
    r"""Zoneout (Krueger et al., 2017): units keep their previous value at random.

    .. math:: s'_t = d_t\,s_{t-1} + (1 - d_t)\,\tilde s_t

    where d is drawn as 0 or 1 in training, and is its expectation in evaluation. If the output of the cell inside is a
    leaf of its state (the h of an LSTM), the output follows that leaf.

    Parameters
    ----------
    cell : cell
        The cell inside.
    zoneout : float or nesting of float
        Probability of keeping the previous value, in [0, 1): one for all leaves of the state but integers (counters,
        say), or one for each, in the structure of the state, for example `LSTMState(0.05, 0.5)`.
    variational : bool
        False, as in the paper, draws a new d at every step. True holds it over a sequence: a unit that is zoned out
        then keeps its initial state throughout.

    Raises
    ------
    ValueError
        If a probability is out of range, not 0 for integers, or they are not in the structure of the state.
    TypeError
        If a leaf of the initial state is not a tensor.

    References
    ----------
    - D. Krueger and others, Zoneout: regularizing RNNs by randomly preserving hidden activations, 2017,
      arXiv:1606.01305
    """

    def __init__(self, cell: nn.Module, zoneout: float | Nest = 0.1, *, variational: bool = False) -> None:
        super().__init__(cell)
        state = initial_state_of(cell, 0)
        require_tensors(state, f"{type(cell).__name__}.initial_state(0)")
        leaves, structure = flatten(state)
        if isinstance(zoneout, Real):
            given, own = [float(zoneout) if holds_activations(leaf) else 0.0 for leaf in leaves], structure
        else:
            given, own = flatten(same_kind(zoneout, state))
        if own != structure:
            raise ValueError(
                f"zoneout is {zoneout!r}; expected one probability, or one for each leaf of the state "
                f"{describe(state)}, in its structure."
            )
        self.zoneout = [check_probability(value, "zoneout") for value in given]
        if any(p and not holds_activations(leaf) for p, leaf in zip(self.zoneout, leaves, strict=True)):
            raise ValueError(
                f"zoneout is {zoneout!r}; expected 0 for the leaves of the state {describe(state)} that hold integers."
            )
        self.variational = variational

    # What to do where the step cannot be read, since it draws.
    _remedy = "take recurrent_dropout, which draws once per sequence, in place of ZoneoutCell"

    def _own_rows(
        self, batch_size: int, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> dict[str, Nest]:
        if not self.variational:
            return {}
        leaves, _ = flatten(self.initial_state(batch_size, dtype=dtype, device=device))
        return {"keep": {str(k): self._draw(leaf, k) for k, leaf in enumerate(leaves)}}

    def _draw(self, leaf: torch.Tensor, k: int) -> torch.Tensor:
        return torch.empty(leaf.shape, device=leaf.device).bernoulli(self.zoneout[k]) > 0

    def forward(
        self, x: Nest, state: Nest, rows: dict[str, Nest] | None = None, constants: Nest | None = None
    ) -> tuple[Nest, Nest]:
        """Compute one step of the cell inside and keep some of the old state.

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
            As from the cell inside.
        """
        output, new_state = self._inner_step(x, state, rows, constants)
        new_state = same_kind(new_state, state)
        old, _ = flatten(state)
        new, spec = flatten(new_state)
        if not self.training:
            kept = [p * a + (1.0 - p) * b if p else b for p, a, b in zip(self.zoneout, old, new, strict=True)]
        elif self.variational:
            keep = self._rows_in_training(rows)["keep"]
            kept = [torch.where(keep[str(k)], a, b) for k, (a, b) in enumerate(zip(old, new, strict=True))]
        else:
            kept = [torch.where(self._draw(a, k), a, b) for k, (a, b) in enumerate(zip(old, new, strict=True))]
        output = next((k for k, leaf in zip(kept, new, strict=True) if leaf is output), output)
        return output, unflatten(kept, spec)

    def extra_repr(self) -> str:
        """Return the probabilities."""
        return f"zoneout={self.zoneout}, variational={self.variational}"
