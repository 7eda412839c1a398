"""Whoever has put a hook into a cell is told where it is, whose it is, and what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from unspool import Cell, StackedRNNCells
from unspool.program.hooks import hook_reason


class Gated(Cell):
    def __init__(self) -> None:
        super().__init__(4)
        self.gates = nn.ModuleDict({"in": nn.Linear(7, 4)})

    def forward(self, x, h):
        h = torch.tanh(self.gates["in"](torch.cat([x, h], 1)))
        return h, h


def listen(module, *anything):
    """A hook of the user's."""


def old_weight_norm(cell):
    with pytest.warns(FutureWarning):
        weight_norm(cell.gates["in"])


HOOKS = {
    "weight norm": (old_weight_norm, "torch.nn.utils.weight_norm", "use torch.nn.utils.parametrizations.weight_norm"),
    "spectral norm": (
        lambda cell: spectral_norm(cell.gates["in"]),
        "torch.nn.utils.spectral_norm, which computes its weight",
        "use torch.nn.utils.parametrizations.spectral_norm",
    ),
    "pruning": (
        lambda cell: prune.l1_unstructured(cell.gates["in"], "bias", 0.5),
        "masks its bias",
        "torch.nn.utils.prune.remove(module, 'bias')",
    ),
    "twice pruned": (
        lambda cell: [prune.l1_unstructured(cell.gates["in"], "weight", 0.5) for _ in range(2)],
        "masks its weight",
        "torch.nn.utils.prune.remove(module, 'weight')",
    ),
    "forward hook": (
        lambda cell: cell.gates["in"].register_forward_hook(listen),
        "a forward hook, listen",
        "remove it",
    ),
    "pre-hook": (
        lambda cell: cell.gates["in"].register_forward_pre_hook(listen, with_kwargs=True),
        "a forward pre-hook, listen",
        "remove it",
    ),
    "backward hook": (
        lambda cell: cell.gates["in"].register_full_backward_hook(listen),
        "a backward hook, listen",
        "on the layer that runs the cell",
    ),
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_named_with_its_module_and_a_cure(name):
    put, kind, cure = HOOKS[name]
    cell = StackedRNNCells([Gated(), Gated()])
    put(cell.cells[1])
    reason = hook_reason(cell)
    assert reason.startswith("its part 'cells.1.gates.in' (Linear) has a ")
    assert kind in reason
    assert cure in reason


def test_hooks_of_the_cell_itself_and_of_all_modules():
    cell = Gated()
    handle = cell.register_forward_hook(listen)
    assert hook_reason(cell).startswith("the cell (Gated) has a forward hook, listen, which")
    handle.remove()
    assert hook_reason(cell) == ""
    handle = register_module_forward_hook(listen)
    try:
        assert hook_reason(cell).startswith("there is a forward hook on all modules, listen, which expects")
    finally:
        handle.remove()


def test_what_is_recommended_has_no_hooks():
    cell = Gated()
    parametrizations.weight_norm(cell.gates["in"])
    assert hook_reason(cell) == ""
    prune.l1_unstructured(cell.gates["in"], "bias", 0.5)
    prune.remove(cell.gates["in"], "bias")
    assert hook_reason(cell) == ""
