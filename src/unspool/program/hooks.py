"""Hooks of a cell and of the modules in it: who put them there, and what to do instead.

A hook expects to be called at every step. Read natively, a cell is called a few times and then no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as _modules
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from unspool._reason import Reason

_KINDS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
}


def hook_reason(cell: nn.Module) -> Reason:
    """Return why a cell with hooks cannot be read.

    Parameters
    ----------
    cell : Module

    Returns
    -------
    Reason
        The module, by its path and class, the kind of hook, and what to do about it; empty without hooks.
    """
    for path, module in cell.named_modules():
        name = f"its part {path!r} ({type(module).__name__})" if path else f"the cell ({type(module).__name__})"
        for kind, hook in _hooks_of(module):
            return _what_it_is(kind, hook).about(name)
    return reason_for_all()


def reason_for_all() -> Reason:
    """Return why no cell can be read now: a hook on all modules, but for those that unspool watches with."""
    for attribute, kind in _KINDS.items():
        for hook in getattr(_modules, f"_global{attribute}").values():
            if getattr(hook, "__module__", None) and hook.__module__.startswith("unspool."):
                continue
            return Reason(
                f"there is a {kind} on all modules{_called(hook)}, which expects to see every call; remove it around "
                "the run, by the handle that registering it returned",
                f"remove the {kind} on all modules around the run, by the handle that registering it returned",
            )
    return Reason()


def _hooks_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for attribute, kind in _KINDS.items():
        for hook in getattr(module, attribute).values():
            yield kind, hook


def _what_it_is(kind: str, hook: Any) -> Reason:
    if isinstance(hook, WeightNorm | SpectralNorm):
        norm = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
        return Reason(
            f"has a hook of torch.nn.utils.{norm}, which computes its {hook.name} before every call; use "
            f"torch.nn.utils.parametrizations.{norm} in its place",
            "use torch.nn.utils.parametrizations in place of torch.nn.utils",
        )
    if isinstance(hook, BasePruningMethod):
        tensor = hook._tensor_name
        return Reason(
            f"has a hook of torch.nn.utils.prune, which masks its {tensor} before every call; make that permanent with "
            f"torch.nn.utils.prune.remove(module, {tensor!r})",
            "make the pruning permanent with torch.nn.utils.prune.remove",
        )
    return Reason(
        f"has a {kind}{_called(hook)}, which expects to see every step; remove it by the handle that registering it "
        "returned, or register it on the layer that runs the cell",
        "remove the hooks of the cell in {code}, or let them listen to {code} itself",
    )


def _called(hook: Any) -> str:
    name = getattr(hook, "__qualname__", "")
    return f", {name.rsplit('.', 1)[-1]}" if name else ""
