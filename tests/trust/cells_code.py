"""Steps whose code changes between runs: methods, classes and functions replaced, as notebooks and reloaders do."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import unspool as us
from tests.trust.worlds import FEATURES, H, Made, Small, World, case


class Gated(Small):
    """Gives the state to a method."""

    def act(self, h: Tensor) -> Tensor:
        return torch.sigmoid(h)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.act(self.mix(x, h))
        return h, h


def twice(self: Any, h: Tensor) -> Tensor:
    return 2 * h


def other_step(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    h = 0.5 * h + self.mix(x, h)
    return h, h


@case(native=True)
def a_method_replaced_in_the_class() -> Made:
    class Cell(Gated):
        pass

    return Cell(), lambda: setattr(Cell, "act", twice), lambda: delattr(Cell, "act")


@case(native=True)
def a_method_replaced_in_a_base_class() -> Made:
    class Base(Gated):
        def act(self, h: Tensor) -> Tensor:
            return torch.relu(h)

    class Cell(Base):
        pass

    return Cell(), lambda: setattr(Base, "act", twice)


@case(native=True)
def a_method_put_into_the_instance() -> Made:
    class Cell(Gated):
        pass

    cell = Cell()
    return cell, lambda: setattr(cell, "act", lambda h: 2 * h), lambda: delattr(cell, "act")


@case(native=True)
def the_step_replaced_in_the_class() -> Made:
    class Cell(Small):
        pass

    return Cell(), lambda: setattr(Cell, "forward", other_step), lambda: delattr(Cell, "forward")


@case()
def the_step_replaced_in_the_instance() -> Made:
    class Cell(Small):
        pass

    cell = Cell()
    return cell, lambda: setattr(cell, "forward", types.MethodType(other_step, cell)), lambda: delattr(cell, "forward")


@case(native=True)
def the_step_of_a_submodule_replaced() -> Made:
    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.sub = nn.Tanh()

        def act(self, h: Tensor) -> Tensor:
            return self.sub(h)

    cell = Cell()
    return cell, lambda: setattr(cell.sub, "forward", lambda h: 2 * h), lambda: delattr(cell.sub, "forward")


@case()
def the_call_replaced_in_the_class() -> Made:
    class Cell(Small):
        pass

    plain = Cell.__call__
    return Cell(), lambda: setattr(Cell, "__call__", lambda self, x, h: plain(self, 2 * x, h))


@case(native=True)
def another_class() -> Made:
    class Other(Gated):
        def act(self, h: Tensor) -> Tensor:
            return torch.relu(h)

    cell: Any = Gated()
    return cell, lambda: setattr(cell, "__class__", Other), lambda: setattr(cell, "__class__", Gated)


@case(native=True)
def another_class_of_a_submodule() -> Made:
    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.sub: Any = nn.Tanh()

        def act(self, h: Tensor) -> Tensor:
            return self.sub(h)

    cell = Cell()
    return cell, lambda: setattr(cell.sub, "__class__", nn.Sigmoid)


@case(native=True)
def another_class_of_a_callable() -> Made:
    class Soft:
        def __call__(self, h: Tensor) -> Tensor:
            return torch.tanh(h)

    class Hard:
        def __call__(self, h: Tensor) -> Tensor:
            return h.clamp(-0.3, 0.3)

    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.gate: Any = Soft()

        def act(self, h: Tensor) -> Tensor:
            return self.gate(h)

    cell = Cell()
    return cell, lambda: setattr(cell.gate, "__class__", Hard), lambda: setattr(Hard, "__call__", Soft.__call__)


@case()
def the_code_of_a_function_replaced() -> Made:  # as IPython's autoreload does
    def before(h: Tensor) -> Tensor:
        return torch.tanh(h)

    def after(h: Tensor) -> Tensor:
        return 3 * h

    class Cell(Gated):
        def act(self, h: Tensor) -> Tensor:
            return before(h)

    return Cell(), lambda: setattr(before, "__code__", after.__code__)


@case()
def the_code_of_the_step_replaced() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            return h, h

    def after(self: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = -self.mix(x, h)
        return h, h

    step: Any = Cell.forward
    return Cell(), lambda: setattr(step, "__code__", after.__code__)


@case()
def a_function_of_a_closure_replaced() -> Made:
    act: Callable[[Tensor], Tensor] = torch.sigmoid

    def change() -> None:
        nonlocal act
        act = torch.relu

    class Cell(Gated):
        def act(self, h: Tensor) -> Tensor:
            return act(h)

    return Cell(), change


def global_act(h: Tensor) -> Tensor:
    return torch.sigmoid(h)


@case()
def a_global_function_replaced() -> Made:
    before = global_act

    class Cell(Gated):
        def act(self, h: Tensor) -> Tensor:
            return global_act(h)

    def change(function: Any) -> None:
        global global_act
        global_act = function

    return World(Cell(), [lambda: change(lambda h: 2 * h)], restore=lambda: change(before))


@case()
def a_function_of_an_own_module_of_python_replaced() -> Made:
    library: Any = types.ModuleType("trust_library")
    library.act = lambda h: torch.sigmoid(h)

    class Cell(Gated):
        def act(self, h: Tensor) -> Tensor:
            return library.act(h)

    return Cell(), lambda: setattr(library, "act", torch.relu)


@case()
def a_name_in_a_registry_of_functions() -> Made:
    registry: dict[str, Any] = {"act": torch.sigmoid}

    class Cell(Gated):
        name = "act"

        def act(self, h: Tensor) -> Tensor:
            return registry[self.name](h)

    return Cell(), lambda: registry.update(act=torch.relu)


@case(native=True)
def a_submodule_replaced() -> Made:
    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.sub: nn.Module = nn.Tanh()

        def act(self, h: Tensor) -> Tensor:
            return self.sub(h)

    cell = Cell()
    return (
        cell,
        lambda: setattr(cell, "sub", nn.Sigmoid()),
        lambda: setattr(cell, "sub", nn.Linear(H, H)),
        lambda: setattr(cell, "sub", nn.Linear(H, H)),
        lambda: setattr(cell, "sub", nn.LeakyReLU(0.1)),
        lambda: setattr(cell.sub, "negative_slope", 0.4),
    )


@case(native=True)
def a_sequence_of_modules_grows() -> Made:
    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.Sequential(nn.Linear(H, H), nn.Tanh())

        def act(self, h: Tensor) -> Tensor:
            return self.stages(h)

    cell = Cell()
    return cell, lambda: cell.stages.append(nn.Linear(H, H)), lambda: cell.stages.__delitem__(1)


@case()
def modules_in_a_plain_list() -> Made:
    class Cell(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.hidden: Any = [nn.Linear(H, H), {"act": nn.LeakyReLU(0.1)}]

        def act(self, h: Tensor) -> Tensor:
            return self.hidden[1]["act"](self.hidden[0](h))

    cell = Cell()

    def change() -> None:
        cell.hidden[0] = nn.Linear(H, H)

    return (
        cell,
        lambda: setattr(cell.hidden[1]["act"], "negative_slope", 0.5),
        lambda: cell.hidden[0].weight.data.mul_(3),
        change,
        lambda: cell.hidden[1].update(act=nn.Tanh()),
    )


@case()
def a_module_of_a_closure() -> Made:
    readout = nn.Linear(H, H)

    class Cell(Gated):
        def act(self, h: Tensor) -> Tensor:
            return torch.tanh(readout(h))

    def step_of_an_optimizer() -> None:
        with torch.no_grad():
            readout.weight -= 0.5 * readout.weight

    return World(Cell(), [step_of_an_optimizer], watch=lambda: readout, start=lambda rows: readout.zero_grad())


@case()
def the_teacher_in_a_plain_object() -> Made:
    class Holder:
        def __init__(self) -> None:
            self.teacher = nn.Linear(FEATURES, H).requires_grad_(False)

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.holder = Holder()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) + self.holder.teacher(x)
            return h, h

    cell = Cell()
    return (
        cell,
        lambda: cell.holder.teacher.weight.mul_(2.0),
        lambda: setattr(cell.holder, "teacher", nn.Linear(FEATURES, H)),
    )


@case(native=True)
def an_option_of_a_built_in_cell() -> Made:
    cell = us.SimpleRNNCell(FEATURES, H)
    return cell, lambda: setattr(cell, "activation", "relu"), lambda: setattr(cell, "activation", torch.sigmoid)
