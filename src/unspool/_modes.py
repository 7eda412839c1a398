"""What PyTorch is doing while code runs: compiling, exporting, tracing, transforming, observing, autocasting.

All such questions are asked here, and most of PyTorch's private names that the answers need stand here alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]

# These are PyTorch's own functions, which the compiler knows by their identity.
is_compiling = torch.compiler.is_dynamo_compiling
"""Tell whether `torch.compile`, or a strict export, is reading the code that runs."""

is_exporting = torch.compiler.is_exporting
"""Tell whether `torch.export` is putting what runs into a program."""

is_tracing = torch.jit.is_tracing  # type: ignore[attr-defined]
"""Tell whether `torch.jit.trace` records what runs."""

is_inference = torch.is_inference_mode_enabled
"""Tell whether tensors that are made now are of no use outside of inference mode."""


set_grad = torch._C._set_grad_enabled
"""Turn gradients on or off: `torch.set_grad_enabled` without an object for each time."""


def is_transformed() -> bool:
    """Tell whether a transform of `torch.func` wraps tensors, whose memory cannot be had."""
    return _functorch.maybe_current_level() is not None


def is_batched(value: Any) -> bool:
    """Tell whether `torch.func.vmap` gives each sample a value of its own, so that there is none to ask for.

    Parameters
    ----------
    value : object
        A tensor, perhaps inside of several transforms, or anything else.
    """
    while isinstance(value, Tensor) and _functorch.is_functorch_wrapped_tensor(value):
        if _functorch.is_batchedtensor(value):
            return True
        value = _functorch.get_unwrapped(value)
    return False


def is_observed() -> bool:
    """Tell whether a transform of `torch.func`, dual numbers or a function mode see every operation.

    That of a default device (`torch.set_default_device`) does not count: it gives a device to new tensors, no more.
    """
    if torch.autograd.forward_ad._current_level >= 0 or is_transformed():
        return True
    if not torch._C._is_torch_function_mode_enabled():
        return False
    return any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def is_ordinary() -> bool:
    """Tell whether PyTorch computes on the CPU and does nothing else: no mode, transform, trace or global hook."""
    return not (
        torch._C._is_torch_function_mode_enabled()
        or torch._C._is_tracing()  # type: ignore[attr-defined]
        or _has_any_global_hook()
        or torch.autograd.forward_ad._current_level >= 0
        or _functorch.maybe_current_level() is not None
        or torch.is_autocast_enabled("cpu")
    )


def is_in_backward() -> bool:
    """Tell whether a backward pass is what has called: `torch.utils.checkpoint` computes again in one."""
    return torch._C._current_graph_task_id() != -1


def has_values() -> bool:
    """Tell whether tensors have values that may be read: not in an export, under a transform or a dispatch mode."""
    return not (_get_current_dispatch_mode_stack() or is_transformed() or is_exporting())


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return the dtype of `torch.autocast` where it is on for a kind of device; some, such as `"meta"`, have none.

    Parameters
    ----------
    device_type : str
    """
    available = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if available else None


@contextmanager
def unobserved() -> Iterator[None]:
    """Leave modes and transforms for a moment: what runs in the `with` block is none of their business."""
    with _disable_current_modes(), temporarily_clear_interpreter_stack():
        yield
