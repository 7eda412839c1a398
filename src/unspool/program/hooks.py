"""Hooks on modules: functions that expect to be called at every step."""

from __future__ import annotations

from torch import nn


def has_hooks(cell: nn.Module) -> bool:
    """Tell whether somebody listens to the calls of the cell or of a module in it."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in cell.modules()
    )
