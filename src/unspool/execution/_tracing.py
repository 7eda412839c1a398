"""Where a run is recorded or batched, so that nobody may ask for values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_batched(value: Any) -> bool:
    """Tell whether `torch.func.vmap` gives each sample a value of its own, so that there is none to ask for.

    Parameters
    ----------
    value : object
        A tensor, perhaps inside of several transforms, or anything else.
    """
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    while isinstance(value, Tensor) and functorch.is_functorch_wrapped_tensor(value):
        if functorch.is_batchedtensor(value):
            return True
        value = functorch.get_unwrapped(value)
    return False
