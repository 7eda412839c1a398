"""Where two runs of the same sequences differ by more than rounding explains.

Letters: T steps, n sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unspool._nest import leaves_of, map_leaves
from unspool.backends.base import Call

UNITS = 16
"""Of the last place: how far inputs and states are off in a run that is shaken."""

GROWTH = 100
"""How many times as far as a shaken run may another one be off, whose rounding is not that of one step alone."""


@dataclass(frozen=True)
class Place:
    """Where two tensors differ, in words, and how early in the work."""

    text: str
    order: int


def first_place(
    what: str,
    got: Tensor,
    want: Tensor,
    off: Callable[[], Tensor],
    axes: int,
    allowed: float,
    rows: Sequence[int],
    *,
    latest: bool,
    lost: Callable[[], Tensor] | None = None,
) -> Place | None:
    """Return where two tensors differ first, or None.

    Parameters
    ----------
    what : str
        Their name.
    got, want : Tensor of shape (T, n, ...), (n, ...) or any
    off : callable
        Gives `want` as a shaken run has it; called if they differ by more than `allowed`.
    axes : {2, 1, 0}
        How many of the axes are steps and sequences.
    allowed : float
        By which they may differ.
    rows : sequence of int
        The numbers of the sequences in the whole batch.
    latest : bool
        Whether the latest step is worked on first.
    lost : callable, optional
        Gives the sequences, BoolTensor of shape (n,), of which nothing can be said; called as `off` is.
    """
    wrong = ~torch.isclose(got, want, rtol=0.0, atol=allowed, equal_nan=True)
    if bool(wrong.any()):
        slack = _slack(want, off(), axes, latest)
        wrong &= ~((got - want).abs() <= allowed + slack)  # what is no number stays wrong
        if lost is not None:
            unsaid = lost() if axes else lost().any()
            wrong &= ~unsaid.view(*unsaid.shape, *[1] * (wrong.dim() - axes)).to(wrong.device)
    if not bool(wrong.any()):
        return None
    order, where = 0, f"sequences {list(rows)} together"
    if axes == 2:
        steps = wrong.flatten(1).any(1).nonzero().flatten().tolist()
        step = steps[-1 if latest else 0]
        order = -step if latest else step
        got, want, wrong = got[step], want[step], wrong[step]
    if axes:
        row = int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0])
        where = f"sequence {rows[row]}" + (f" at step {abs(order)}" if axes == 2 else "")
        got, want, wrong = got[row], want[row], wrong[row]
    index = tuple(wrong.nonzero()[0].tolist())
    element = f", element {list(index)}" if index else ""
    values = f"{got[index].item():.7g} instead of {want[index].item():.7g}, which the Python loop gives"
    return Place(f"{what} of {where}{element} is {values} (they may differ by {allowed:.2g})", order)


def _slack(want: Tensor, off: Tensor, axes: int, latest: bool) -> Tensor:
    """Return what rounding may do to tensors, one number for all features of a sequence's step; it does not shrink."""
    apart = (off.detach() - want).abs().nan_to_num(torch.inf, torch.inf)
    apart = GROWTH * apart.reshape(*apart.shape[:axes], -1).amax(-1)
    if axes == 2:
        apart = apart.flip(0).cummax(0).values.flip(0) if latest else apart.cummax(0).values
    return apart.view(*apart.shape, *[1] * (want.dim() - axes))


def rows_apart(one: Any, other: Any, share: Callable[[Tensor], float]) -> Tensor:
    """Return in which sequences two runs differ so much that nothing can be said of their gradients: BoolTensor (n,).

    Parameters
    ----------
    one, other : nesting of Tensor of shape (T, n, ...)
    share : callable
        Gives by how much a tensor may differ.
    """
    apart = [
        (GROWTH * (a - b).detach().abs().nan_to_num(torch.inf) > share(b)).transpose(0, 1).flatten(1).any(1)
        for a, b in zip(leaves_of(one), leaves_of(other), strict=True)
    ]
    return torch.stack(apart).any(0)


def shaken(call: Call) -> Call:
    """Return a call with inputs and states that are off by some units of the last place, up or down by chance.

    Parameters
    ----------
    call : Call
    """

    def shake(tensor: Any) -> Any:
        if not (isinstance(tensor, Tensor) and tensor.is_floating_point()):
            return tensor
        signs = torch.randint(0, 2, tensor.shape, device=tensor.device).to(tensor.dtype) * 2 - 1
        unit = torch.finfo(tensor.dtype).eps * (largest(tensor) or 1.0)
        return (tensor.detach() + UNITS * unit * signs).requires_grad_(tensor.requires_grad)

    rows = None if call.row_inputs is None else map_leaves(shake, call.row_inputs)
    inputs, initial = map_leaves(shake, call.inputs), map_leaves(shake, call.initial_state)
    return replace(call, inputs=inputs, initial_state=initial, row_inputs=rows)


def largest(tensor: Tensor) -> float:
    """Return the largest finite magnitude in a tensor, 0 where there is none."""
    return float(tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


def rounding(values: Any) -> float:
    """Return what rounding does where values of this size are added: sums that should be zero are not.

    Parameters
    ----------
    values : nesting of Tensor
    """
    floats = [t for t in leaves_of(values) if isinstance(t, Tensor) and t.is_floating_point()]
    return max((100 * torch.finfo(t.dtype).eps * largest(t) for t in floats), default=0.0)
