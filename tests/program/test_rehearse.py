"""What a rehearsal has written is put back: values of tensors, how often they were written, globals, variables."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.trust.snapshots import differences, snapshot
from unspool.program.rehearse import rehearsed

COUNT = 0
LOG: list[int] = []


class Written(nn.Module):
    """Has all kinds of tensors, and writes into them."""

    def __init__(self, write: Callable[[Any], object]) -> None:
        super().__init__()
        self.lin: Any = nn.Linear(3, 3)
        self.norm: Any = nn.BatchNorm1d(3)
        self.register_buffer("mean", torch.zeros(3))
        self.plain = [torch.ones(3)]
        self.part = self.plain[0][:2]
        self.calls = 0
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            self.write(self)
        return self.norm(self.lin(x))


def in_a_global(module: Any) -> None:
    global COUNT
    COUNT += 1
    LOG.append(COUNT)


def stepped(module: Any) -> None:
    optimizer = torch.optim.SGD([module.mean, module.plain[0]], foreach=True)
    module.mean.grad = module.plain[0].grad = torch.ones(3)
    optimizer.step()
    module.mean.grad = module.plain[0].grad = None


WRITES: dict[str, Callable[[Any], object]] = {
    "a parameter": lambda m: m.lin.weight.add_(1),
    "a parameter by data": lambda m: m.lin.weight.data.mul_(2),
    "a buffer": lambda m: m.mean.copy_(torch.ones(3)),
    "a view": lambda m: m.part.zero_(),
    "an item": lambda m: m.plain[0].__setitem__(1, 7.0),
    "twice": lambda m: (m.mean.fill_(1), m.mean.fill_(2)),
    "out": lambda m: torch.add(m.plain[0], 1, out=m.mean),
    "an optimizer": stepped,
    "statistics of a norm alone": lambda m: None,
    "a global": in_a_global,
    "another parameter": lambda m: setattr(m.lin, "weight", nn.Parameter(torch.zeros(3, 3))),
    "random numbers": lambda m: m.mean.normal_(),
    "a list": lambda m: m.plain.append(torch.zeros(1)),
}


@pytest.mark.parametrize("name", WRITES)
def test_everything_is_put_back(name: str) -> None:
    module = Written(WRITES[name])
    tensors = [*module.parameters(), *module.buffers(), *module.plain, module.part]
    before, versions = snapshot(module), [t._version for t in tensors]
    drawn = torch.get_rng_state()
    with rehearsed(module):
        module(torch.rand(4, 3))
        assert module.calls == 1
        assert differences(snapshot(module), before)
    found = differences(snapshot(module), before)
    assert not found, found
    assert [t._version for t in tensors] == versions
    assert torch.equal(torch.get_rng_state(), drawn)
    assert COUNT == 0
    assert LOG == []


def test_variables_of_outer_functions_are_put_back() -> None:
    count, seen = 0, torch.zeros(2)

    def step() -> None:
        nonlocal count
        count += 1
        seen.add_(count)

    with rehearsed(step):
        step()
        step()
        assert seen.tolist() == [3, 3]
    assert count == 0
    assert seen.tolist() == [0, 0]


def test_a_graph_over_what_was_written_can_still_be_gone_back() -> None:
    module = Written(lambda m: m.lin.weight.mul_(2))
    loss = module.lin(torch.ones(2, 3, requires_grad=True)).square().sum()
    with rehearsed(module):
        module(torch.rand(4, 3))
    loss.backward()  # would raise, were the weight's version another one
    assert module.lin.weight.grad is not None


def test_everything_is_put_back_after_an_error() -> None:
    def fails(module: Any) -> None:
        module.mean.fill_(3.0)
        raise LookupError("on the way")

    module = Written(fails)
    with pytest.raises(LookupError, match="on the way"), rehearsed(module):
        module(torch.rand(4, 3))
    assert module.get_buffer("mean").sum() == 0
    assert module.calls == 0
    assert sys.getprofile() is None


LAZY = """
class Registry:
    known = {}

def register(name):
    setattr(Registry, name, len(Registry.known))
    Registry.known[name] = name

for name in ("a", "b"):
    register(name)

SCALE = 2.0
"""


class Importing(us.Cell):
    """Imports what it needs when it needs it."""

    def __init__(self, name: str) -> None:
        super().__init__(3)
        self.name = name

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.tanh(x + state) * importlib.import_module(self.name).SCALE
        return state, state


@pytest.mark.parametrize("run", [us.dynamic_rnn, us.explain], ids=["run", "explain"])
def test_what_a_step_imports_stays_as_its_import_has_made_it(run, tmp_path, monkeypatch):
    name = f"unspool_lazy_{run.__name__}"
    (tmp_path / f"{name}.py").write_text(LAZY)
    monkeypatch.syspath_prepend(tmp_path)
    run(Importing(name), torch.randn(2, 4, 3))
    module = sys.modules.pop(name)
    assert module.Registry.known == {"a": "a", "b": "b"}
    assert (module.Registry.a, module.Registry.b) == (0, 1)
