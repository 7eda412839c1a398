"""Computing with other tensors in the places of a module's parameters and buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Holder(nn.Module):
    """Lets `torch.func.functional_call` run something else than a module's forward."""

    def __init__(self, module: nn.Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self) -> Any:
        return self.function()


def call_with(module: nn.Module, tensors: dict[str, Tensor], function: Callable[[], Any]) -> Any:
    """Call a function while a module computes with other parameters and buffers; no other thread may use it then.

    Parameters
    ----------
    module : Module
    tensors : dict of str to Tensor
        By name, all of the module's.
    function : callable
        Without arguments.
    """
    values = {f"module.{name}": tensor for name, tensor in tensors.items()}
    return torch.func.functional_call(_Holder(module, function), values, ())
