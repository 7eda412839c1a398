"""Steps that read values from somewhere, and values that change there between runs."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tests.trust.worlds import Made, Small, World, case


class Reading(Small):
    """Multiplies the state by what `gain` gives."""

    def gain(self) -> Any:
        raise NotImplementedError

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.mix(x, h) * self.gain()
        return h, h


@case(native=True)
def a_number_in_an_attribute() -> Made:
    class Cell(Reading):
        slope = 1.0

        def gain(self) -> Any:
            return self.slope

    cell = Cell()
    return (
        cell,
        lambda: setattr(cell, "slope", 3.0),
        lambda: setattr(cell, "slope", 1.0),
        lambda: delattr(cell, "slope"),
    )


@case(native=True)
def the_slope_of_a_callable() -> Made:
    class HardSigmoid:
        slope = 1.0

        def __call__(self, a: Tensor) -> Tensor:
            return torch.clamp((self.slope * a + 1) / 2, 0, 1)

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.act = HardSigmoid()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.act(self.mix(x, h))
            return h, h

    cell = Cell()
    return (
        cell,
        lambda: setattr(cell.act, "slope", 5.0),
        lambda: setattr(HardSigmoid, "slope", 2.0),
        lambda: delattr(cell.act, "slope"),
    )


@case(native=True)
def a_class_attribute() -> Made:
    class Base(Reading):
        slope = 1.0

        def gain(self) -> Any:
            return self.slope

    class Cell(Base):
        pass

    return (
        Cell(),
        lambda: setattr(Base, "slope", 2.0),
        lambda: setattr(Cell, "slope", 3.0),
        lambda: delattr(Cell, "slope"),
    )


@case()
def a_variable_of_a_closure() -> Made:
    slope = 1.0

    def steeper() -> None:
        nonlocal slope
        slope *= 3

    class Cell(Reading):
        def gain(self) -> Any:
            return slope

    return Cell(), steeper, steeper


@case()
def defaults_of_a_function() -> Made:
    class Cell(Reading):
        def gain(self, slope: float = 1.0, *, shift: float = 0.5) -> Any:
            return slope + shift

    gain: Any = Cell.gain
    return Cell(), lambda: setattr(gain, "__defaults__", (3.0,)), lambda: gain.__kwdefaults__.update(shift=2.0)


GLOBAL_SLOPE = 1.0
GLOBAL_SETTINGS = {"slope": 1.0}


@case()
def a_global() -> Made:
    class Cell(Reading):
        def gain(self) -> Any:
            return GLOBAL_SLOPE

    def change(value: float) -> None:
        global GLOBAL_SLOPE
        GLOBAL_SLOPE = value

    return World(Cell(), [lambda: change(3.0)], restore=lambda: change(1.0))


@case()
def a_global_by_its_name() -> Made:
    class Cell(Reading):
        def gain(self) -> Any:
            return globals()["GLOBAL_" + "SETTINGS"]["slope"]

    def change(value: float) -> None:
        GLOBAL_SETTINGS["slope"] = value

    return World(Cell(), [lambda: change(3.0)], restore=lambda: change(1.0))


@case()
def an_attribute_of_a_module_of_python() -> Made:
    settings: Any = types.ModuleType("trust_settings")
    settings.slope = 1.0

    class Cell(Reading):
        def gain(self) -> Any:
            return settings.slope

    return Cell(), lambda: setattr(settings, "slope", 3.0)


@case()
def arguments_of_a_partial() -> Made:
    def gain(slope: float, shift: float) -> float:
        return slope + shift

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.gain = functools.partial(gain, 1.0, shift=0.5)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * self.gain()
            return h, h

    cell = Cell()
    return (
        cell,
        lambda: cell.gain.keywords.update(shift=2.0),
        lambda: setattr(cell, "gain", functools.partial(gain, 4, 0)),
    )


@case()
def an_array_written_in_place() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.table = np.array([1.0, 2.0])

        def gain(self) -> Any:
            return float(self.table[0])

    cell = Cell()

    def change() -> None:
        cell.table[0] = 3.0

    return cell, change


@case()
def an_array_that_shares_memory_with_a_tensor() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.table = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
            self.gains = torch.from_numpy(self.table)

        def gain(self) -> Any:
            return self.gains

    cell = Cell()

    def change() -> None:
        cell.table += 1.0

    return cell, change, change


@case(native=True)
def values_in_a_dict() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.settings = {"slope": 1.0, "more": {"deep": [1.0, (2.0, {"deeper": 3.0})]}}

        def gain(self) -> Any:
            more: Any = self.settings["more"]
            return self.settings["slope"] * more["deep"][1][1]["deeper"]

    cell = Cell()
    deep: Any = cell.settings["more"]
    return cell, lambda: cell.settings.update(slope=2.0), lambda: deep["deep"][1][1].update(deeper=0.5)


@case()
def the_length_of_a_list() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.stages = [1.0]

        def gain(self) -> Any:
            return len(self.stages) * sum(self.stages)

    cell = Cell()
    return cell, lambda: cell.stages.append(0.5), lambda: cell.stages.__setitem__(0, 2.0), cell.stages.clear


@case()
def the_keys_of_a_dict() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.options: dict[str, float] = {}

        def gain(self) -> Any:
            return 2.0 if "double" in self.options else self.options.get("gain", 1.0)

    cell = Cell()
    return (
        cell,
        lambda: cell.options.update(double=1),
        lambda: cell.options.pop("double"),
        lambda: cell.options.update(gain=4),
    )


@case()
def a_deque_and_a_set() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.window, self.flags = deque([1.0, 2.0], maxlen=2), {"a"}

        def gain(self) -> Any:
            return self.window[0] * (2.0 if "steep" in self.flags else 1.0)

    cell = Cell()
    return cell, lambda: cell.window.append(5.0), lambda: cell.flags.add("steep")


@dataclasses.dataclass
class Settings:
    slope: float = 1.0
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])


class Frozen(NamedTuple):
    slope: float = 1.0
    inner: Settings = Settings()


@case()
def a_dataclass() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Settings()

        def gain(self) -> Any:
            return self.settings.slope * len(self.settings.names)

    cell = Cell()
    return cell, lambda: setattr(cell.settings, "slope", 2.0), lambda: cell.settings.names.append("b")


@case()
def a_named_tuple_with_something_that_changes() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Frozen(inner=Settings())

        def gain(self) -> Any:
            return self.settings.slope + self.settings.inner.slope

    cell = Cell()
    return (
        cell,
        lambda: setattr(cell.settings.inner, "slope", 2.0),
        lambda: setattr(cell, "settings", cell.settings._replace(slope=3.0)),
    )


@case()
def a_simple_namespace() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.settings = types.SimpleNamespace(slope=1.0, inner=types.SimpleNamespace(shift=0.0))

        def gain(self) -> Any:
            return self.settings.slope + self.settings.inner.shift

    cell = Cell()
    return cell, lambda: setattr(cell.settings, "slope", 2.0), lambda: setattr(cell.settings.inner, "shift", 1.0)


@case()
def slots() -> Made:
    class Slotted:
        __slots__ = ("slope",)

        def __init__(self) -> None:
            self.slope = 1.0

    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Slotted()

        def gain(self) -> Any:
            return self.settings.slope

    cell = Cell()
    return cell, lambda: setattr(cell.settings, "slope", 3.0)


@case()
def a_property_over_an_object_elsewhere() -> Made:
    elsewhere = {"slope": 1.0}

    class Cell(Reading):
        @property
        def slope(self) -> float:
            return elsewhere["slope"]

        def gain(self) -> Any:
            return self.slope

    return Cell(), lambda: elsewhere.update(slope=2.0), lambda: setattr(Cell, "slope", property(lambda self: 5.0))


@case()
def a_descriptor_with_state() -> Made:
    class Slope:
        value = 1.0

        def __get__(self, owner: Any, kind: type) -> float:
            return self.value

    descriptor = Slope()

    class Cell(Reading):
        slope = descriptor

        def gain(self) -> Any:
            return self.slope

    return Cell(), lambda: setattr(descriptor, "value", 3.0)


@case()
def an_attribute_made_by_getattr() -> Made:
    values = {"slope": 1.0}

    class Cell(Reading):
        def __getattr__(self, name: str) -> Any:
            return values[name] if name in values else super().__getattr__(name)

        def gain(self) -> Any:
            return self.slope

    return Cell(), lambda: values.update(slope=3.0)


@case()
def a_name_that_is_computed() -> Made:
    class Cell(Reading):
        stage = 1
        slope_1, slope_2 = 1.0, 3.0

        def gain(self) -> Any:
            return getattr(self, f"slope_{self.stage}")

    cell = Cell()
    return cell, lambda: setattr(cell, "stage", 2), lambda: setattr(Cell, "slope_2", 0.5)


@case()
def all_attributes_by_vars() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.gain_a = 1.0

        def gain(self) -> Any:
            return sum(value for name, value in vars(self).items() if name.startswith("gain_"))

    cell = Cell()
    return cell, lambda: setattr(cell, "gain_b", 2.0), lambda: delattr(cell, "gain_a")


@case()
def a_weak_reference() -> Made:
    class Owner:
        slope = 2.0

    class Cell(Reading):
        def __init__(self, owner: Owner) -> None:
            super().__init__()
            self.owner = weakref.ref(owner)

        def gain(self) -> Any:
            owner = self.owner()
            return 1.0 if owner is None else owner.slope

    owners = [Owner()]
    return Cell(owners[0]), lambda: setattr(owners[0], "slope", 3.0), owners.clear


@case()
def a_branch_on_an_enum() -> Made:
    class Mode(enum.Enum):
        SOFT, HARD = 1, 2

    class Cell(Reading):
        mode = Mode.SOFT

        def gain(self) -> Any:
            return 1.0 if self.mode is Mode.SOFT else 3.0

    cell = Cell()
    return cell, lambda: setattr(cell, "mode", Mode.HARD)


@case(native=True)
def the_training_flag() -> Made:
    class Cell(Reading):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def gain(self) -> Any:
            return (2.0 if self.training else 1.0) + (0.5 if self.inner.training else 0.0)

    cell = Cell()
    return cell, cell.eval, cell.inner.train, cell.train


@case()
def whether_gradients_are_recorded() -> Made:
    class Cell(Reading):
        def gain(self) -> Any:
            return 2.0 if torch.is_grad_enabled() else 1.0

    return Cell()


@case()
def whether_the_state_has_a_gradient() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * (2.0 if h.requires_grad else 1.0)
            return h, h

    cell = Cell()
    return cell, lambda: cell.requires_grad_(False)


@case()
def how_many_rows_there_are() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * (2.0 if len(x) > 2 else 1.0) + x.shape[0] / 10
            return h, h

    return Cell()


@case()
def threads_and_default_dtype() -> Made:
    class Cell(Reading):
        def gain(self) -> Any:
            return torch.get_num_threads() * (2.0 if torch.get_default_dtype() == torch.float64 else 1.0)

    return World(
        Cell(),
        [lambda: torch.set_num_threads(2), lambda: torch.set_default_dtype(torch.float64)],
        restore=lambda: (torch.set_num_threads(1), torch.set_default_dtype(torch.float32)),
    )


@case()
def a_list_of_functions() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.functions: list[Callable[[Tensor], Tensor]] = [torch.tanh]

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            for function in self.functions:
                h = function(h)
            return h, h

    cell = Cell()
    return cell, lambda: cell.functions.append(torch.sigmoid), lambda: cell.functions.__setitem__(0, torch.relu)
