"""Random masks of dropout and zoneout."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor


def check_probability(value: float, name: str) -> float:
    """Return a probability of dropping, and refuse one outside [0, 1).

    Parameters
    ----------
    value : float
    name : str
        The argument's name, for the error.

    Raises
    ------
    ValueError
        If it is outside, or not a number.
    """
    if not (isinstance(value, Real) and 0.0 <= value < 1.0):
        raise ValueError(f"{name} is {value!r}; expected a probability of dropping in [0, 1).")
    return float(value)


def holds_activations(leaf: Tensor) -> bool:
    """Return whether a leaf of a state may be dropped or zoned out: integers and flags (counters, for example) may not.

    Parameters
    ----------
    leaf : Tensor
    """
    return leaf.is_floating_point() or leaf.is_complex()


def dropout_mask(
    probability: float,
    shape: tuple[int, ...],
    *,
    shared_over_batch: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw an inverted-dropout mask: 0 with `probability`, else 1 / (1 - probability).

    Returns
    -------
    Tensor of the given shape (B, ...)
        With `shared_over_batch`, one mask repeated B times.
    """
    keep = 1.0 - probability
    drawn = (1, *shape[1:]) if shared_over_batch else shape
    # Not in place: `vmap` can give each sample a draw of its own only then.
    return torch.empty(drawn, dtype=dtype, device=device).bernoulli(keep).div_(keep).expand(shape)
