"""A schedule whose values nobody asks for: where a program is exported, or `vmap` gives each sample lengths of its own.

Letters: B batch, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unspool.backends._schedule import Schedule


class TracedSchedule(Schedule):
    """Where there are valid steps, as tensors: they cannot be listed, so every step is computed for all sequences.

    Parameters
    ----------
    steps, batch : int
        T and B; symbols where they are dynamic in an exported program.
    lengths : integers of shape (B,), optional
        The valid steps of each sequence.
    mask : BoolTensor of shape (T, B), optional
        With lengths, both must hold.
    resets, reverse, device
        See `Schedule`. Tensors are on the device.

    Attributes
    ----------
    right_padded_lengths : Tensor of shape (B,), or None
        The lengths where they alone say what is computed.
    """

    listed = False

    def __init__(
        self,
        steps: int,
        batch: int,
        lengths: Tensor | None,
        mask: Tensor | None,
        resets: Tensor | None,
        *,
        reverse: bool,
        device: torch.device,
    ) -> None:
        super().__init__(steps, batch, None, None, reverse=reverse, device=device)
        live = mask
        if lengths is not None:
            within = torch.arange(steps, device=device).unsqueeze(1) < lengths
            live = within if mask is None else within & mask
        self.dense = live is None
        self.right_padded_lengths = lengths if mask is None else None
        self._gaps, self._resets, self.has_resets = live, resets, resets is not None

    def _at_last(self, values: Tensor) -> Tensor:
        in_order = values.flip(0) if self.reverse else values
        if self.dense:
            return in_order[-1]
        live = self.valid_in_order
        step = torch.arange(self.steps, device=self.device).unsqueeze(1)
        last = torch.where(live, step, -1).amax(0).view(1, -1, *[1] * (values.dim() - 2))
        found = in_order.gather(0, last.clamp(min=0).expand(1, *values.shape[1:])).squeeze(0)
        return torch.where(last.squeeze(0) < 0, torch.zeros_like(found), found)
