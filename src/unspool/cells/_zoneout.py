"""Zoneout around any cell."""

from __future__ import annotations

import torch
from torch import nn

from unspool._nest import Nest, describe, flatten, same_kind, unflatten
from unspool.cells._contract import initial_state_of
from unspool.cells._masks import check_probability
from unspool.cells._wrappers import WrappedCell


class ZoneoutCell(WrappedCell):
    r"""Zoneout (Krueger et al., 2017): units keep their previous value at random.

    .. math:: s'_t = d_t\,s_{t-1} + (1 - d_t)\,\tilde s_t

    with d drawn 0 or 1 in training, and its expectation in evaluation. Where the output of the cell inside is a leaf
    of its state (the h of an LSTM), the output follows that leaf.

    Parameters
    ----------
    cell : cell
        The cell inside.
    zoneout : float or nesting of float
        Probability of keeping the previous value, in [0, 1): one for all, or one per leaf of the state, for example
        `LSTMState(0.05, 0.5)`.
    variational : bool
        False, as in the paper, draws d anew at every step. True holds it over a sequence: a unit that is zoned out
        then keeps its initial state all along.

    Raises
    ------
    ValueError
        If a probability is out of range, or there are not as many as the state has leaves.

    References
    ----------
    - D. Krueger and others, Zoneout: regularizing RNNs by randomly preserving hidden activations, 2017,
      arXiv:1606.01305
    """

    def __init__(self, cell: nn.Module, zoneout: float | Nest = 0.1, *, variational: bool = False) -> None:
        super().__init__(cell)
        leaves, spec = flatten(initial_state_of(cell, 0))
        given = [zoneout] * len(leaves) if isinstance(zoneout, int | float) else flatten(zoneout)[0]
        if len(given) != len(leaves):
            raise ValueError(
                f"zoneout is {zoneout!r}; expected one probability, or {len(leaves)} of them for the state "
                f"{describe(unflatten(leaves, spec))}."
            )
        self.zoneout = [check_probability(value, "zoneout") for value in given]
        self.variational = variational

    def _own_rows(
        self, batch_size: int, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> dict[str, Nest]:
        if not self.variational:
            return {}
        leaves, _ = flatten(self.initial_state(batch_size, dtype=dtype, device=device))
        return {"keep": {str(k): self._draw(leaf, k) for k, leaf in enumerate(leaves)}}

    def _draw(self, leaf: torch.Tensor, k: int) -> torch.Tensor:
        return torch.empty(leaf.shape, device=leaf.device).bernoulli(self.zoneout[k]) > 0

    def forward(self, x: Nest, state: Nest, rows: dict[str, Nest] | None = None) -> tuple[Nest, Nest]:
        """Compute one step of the cell inside and keep some of the old state.

        Parameters
        ----------
        x, state
            As the cell inside takes them.
        rows : dict, optional
            Masks: see `row_inputs`. Required in training with `variational=True`.

        Returns
        -------
        output, new_state
            As the cell inside returns them.
        """
        output, new_state = self._inner_step(x, state, rows)
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
