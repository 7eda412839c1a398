"""A guard notices each kind of change of what a step has read, names it, and keeps nothing alive."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from unspool.program.guard import Guard
from unspool.program.read import Reading

X, H = torch.ones(1, 3), 4


class Told(us.Cell):
    """A cell whose step depends on what a function finds in it."""

    def __init__(self, read: Callable[[Any], Any], thing: Any) -> None:
        super().__init__(H)
        self.lin = nn.Linear(3 + H, H)
        self.read, self.thing, self.unread = read, thing, 0

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.lin(torch.cat([x, h], 1))) * self.read(self.thing)
        return h, h


def guard_of(cell: nn.Module) -> Guard:
    """Return the guard of a cell that can be read."""
    found = Reading(cell).read(X, torch.ones(1, H), None)
    assert found.recording is not None, found.reason
    assert found.guard is not None
    assert found.guard(cell) is not None
    assert found.guard.changed(cell) == ""
    return found.guard


@dataclasses.dataclass(slots=True)
class Options:
    """What has attributes and no `__dict__`."""

    scale: Any


class Mode(enum.Enum):
    """Its members have attributes."""

    A = "a"

    def __init__(self, name: str) -> None:
        self.scale = 1.0


class Free:
    """What finds its attributes in a table."""

    def __init__(self) -> None:
        self.table = {"scale": 1.0}

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["table"][name]


class Counting(abc.ABCMeta):
    """A class of classes."""

    number = 1.0


class Counted(metaclass=Counting):
    """A class with a metaclass."""


class Registry(abc.ABC):  # noqa: B024
    """Others may be registered with it."""


class Property:
    """What has an attribute that a property of its class may hide."""

    scale: Any

    def __init__(self) -> None:
        self.scale = 1.0


def attribute(thing: Any) -> Any:
    return thing.scale


def missing_attribute(thing: Any) -> Any:
    try:
        return thing.scale
    except AttributeError:
        return 1.0


def same_tensor(thing: Any) -> Any:
    return 2.0 if thing[0] is thing[1] else thing[0]


def setting(thing: Any) -> Any:
    return 2.0 if thing.requires_grad else thing.sum()


def layout(thing: Any) -> Any:
    return 2.0 if thing.is_contiguous() else thing.sum()


def order(thing: Any) -> Any:
    return functools.reduce(lambda a, b: 2.0 * a + b, thing)


def unset_global(thing: Any) -> Any:
    try:
        return NOT_SET  # type: ignore[name-defined]
    except NameError:
        return 1.0


def shadowed(thing: Any) -> Any:
    return abs(thing)


def put(name: str, value: Any) -> Callable[[pytest.MonkeyPatch, Told], object]:
    return lambda patch, cell: patch.setattr(cell.thing, name, value, raising=False)


def set_item(key: Any, value: Any) -> Callable[[pytest.MonkeyPatch, Told], object]:
    return lambda patch, cell: cell.thing.__setitem__(key, value)


def replace(make: Callable[[], Any]) -> Callable[[pytest.MonkeyPatch, Told], object]:
    return lambda patch, cell: patch.setattr(cell, "thing", make())


Change = Callable[[pytest.MonkeyPatch, Told], object]

CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], Change, str]] = {
    "a number": (float, lambda: 1.0, replace(lambda: 1), "cell.thing"),
    "the sign of zero": (float, lambda: 0.0, replace(lambda: -0.0), "cell.thing"),
    "an item": (lambda t: t[1], lambda: [1.0, 2.0], set_item(1, 3.0), "cell.thing"),
    "an item of a list with tensors": (lambda t: t[1], lambda: [torch.ones(1), 2.0], set_item(1, 3.0), "cell.thing[1]"),
    "an item of a dict": (lambda t: t["a"], lambda: {"a": 1.0}, set_item("a", 2.0), "cell.thing"),
    "an item beside a tensor": (
        lambda t: t["a"],
        lambda: {"a": 1.0, "b": torch.ones(1)},
        set_item("a", 2.0),
        "cell.thing['a']",
    ),
    "the order of a set": (order, lambda: {0.0, 8.0}, replace(lambda: {8.0} | {0.0}), "cell.thing"),
    "the order of a dict": (order, lambda: {1: 0, 2: 0}, replace(lambda: {2: 0, 1: 0}), "cell.thing"),
    "a deque": (order, lambda: collections.deque([1.0], 1), lambda p, c: c.thing.append(2.0), "cell.thing"),
    "an array": (lambda t: float(t[0]), lambda: np.ones(2), set_item(0, 3.0), "cell.thing"),
    "a namespace": (attribute, lambda: types.SimpleNamespace(scale=1.0), put("scale", 2.0), "cell.thing.scale"),
    "a namespace as text": (
        lambda t: float(len(repr(t))),
        lambda: types.SimpleNamespace(a=1),
        put("a", 22),
        "cell.thing.a",
    ),
    "slots": (attribute, lambda: Options(1.0), put("scale", 2.0), "cell.thing.scale"),
    "all fields": (
        lambda t: sum(dataclasses.asdict(t).values()),
        lambda: Options(1.0),
        put("scale", 2.0),
        "cell.thing.scale",
    ),
    "a member of an enum": (attribute, lambda: Mode.A, put("scale", 2.0), "cell.thing.scale"),
    "an attribute that was missing": (
        missing_attribute,
        types.SimpleNamespace,
        put("scale", 2.0),
        "the attributes of cell.thing",
    ),
    "what __getattr__ finds": (attribute, Free, lambda p, c: c.thing.table.update(scale=2.0), "cell.thing.table"),
    "what comes before __getattr__": (attribute, Free, put("scale", 2.0), "the attributes of cell.thing"),
    "a property that hides an attribute": (
        attribute,
        Property,
        lambda p, c: p.setattr(Property, "scale", property(lambda s: 2.0), raising=False),
        "the attributes of Property",
    ),
    "a name that is computed": (
        lambda t: getattr(t, "sca" + "le"),
        lambda: types.SimpleNamespace(scale=1.0),
        put("scale", 2.0),
        "cell.thing.scale",
    ),
    "a name that is computed, otherwise": (
        lambda t: t.__getattribute__("sca" + "le"),
        Property,
        put("scale", 2.0),
        "cell.thing.scale",
    ),
    "the class of a class": (
        lambda t: type(t).number,
        Counted,
        lambda p, c: p.setattr(Counting, "number", 2.0),
        "Counting.number",
    ),
    "registered with an abstract class": (
        lambda t: 2.0 if isinstance(t, Registry) else 1.0,
        Property,
        lambda p, c: Registry.register(type("New", (), {})),
        "what is registered with abstract classes",
    ),
    "arguments of a partial": (
        lambda t: t(),
        lambda: functools.partial(float, 1.0),
        replace(lambda: functools.partial(float, 2.0)),
        "cell.thing.args",
    ),
    "a closure": (
        lambda t: t(),
        lambda: lambda n=[1.0]: n[0],
        lambda p, c: c.thing.__defaults__[0].__setitem__(0, 2.0),
        "the defaults of cell.thing",
    ),
    "the code of a function": (
        lambda t: t(),
        lambda: lambda: 1.0,
        replace(lambda: lambda: 2.0),
        "the code of cell.thing",
    ),
    "two tensors become one": (
        same_tensor,
        lambda: [torch.ones(1), torch.ones(1)],
        lambda p, c: set_item(1, c.thing[0])(p, c),
        "which objects are one",
    ),
    "one tensor becomes two": (same_tensor, lambda: [torch.ones(1)] * 2, set_item(1, torch.ones(1)), "cell.thing[1]"),
    "the form of a tensor": (
        torch.sum,
        lambda: torch.ones(2),
        replace(lambda: torch.ones(3)),
        "the form of cell.thing",
    ),
    "the dtype of a tensor": (
        torch.sum,
        lambda: torch.ones(2),
        replace(lambda: torch.ones(2).double()),
        "the form of cell.thing",
    ),
    "whether it has a gradient": (
        setting,
        lambda: torch.ones(2),
        lambda p, c: c.thing.requires_grad_(),
        "requires_grad of cell.thing",
    ),
    "how a tensor lies": (
        layout,
        lambda: torch.ones(2),
        replace(lambda: torch.ones(4)[::2]),
        "is_contiguous of cell.thing",
    ),
    "values that were read": (
        lambda t: t.item(),
        lambda: torch.ones(()),
        lambda p, c: c.thing.fill_(2),
        "the values of cell.thing",
    ),
    "a global that was missing": (
        unset_global,
        lambda: 1,
        lambda p, c: p.setitem(globals(), "NOT_SET", 2.0),
        "the globals",
    ),
    "a builtin that is hidden": (
        shadowed,
        lambda: -1.0,
        lambda p, c: p.setitem(globals(), "abs", float),
        "the globals",
    ),
    "a hook": (
        attribute,
        lambda: Options(1.0),
        lambda p, c: c.lin.register_forward_hook(lambda *a: None),
        "the hooks of cell.lin",
    ),
    "a method of the instance": (
        attribute,
        lambda: Options(1.0),
        lambda p, c: p.setattr(c, "forward", print, raising=False),
        "the attributes of cell",
    ),
    "a parameter that is gone": (
        attribute,
        lambda: Options(1.0),
        lambda p, c: setattr(c.lin, "bias", None),
        "cell.lin.bias",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_was_read_is_noticed_and_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, make, change, place = CHANGES[name]
    cell = Told(read, make())
    guard = guard_of(cell)
    change(monkeypatch, cell)
    assert guard(cell) is None
    assert place in guard.changed(cell)


def test_what_is_not_read_may_change():
    cell = Told(attribute, Options(1.0))
    guard = guard_of(cell)
    cell.unread, cell.more = [1], 2  # type: ignore[assignment]
    cell.lin.more = nn.Linear(2, 2)
    cell.thing = Options(1.0)
    cell.lin.weight.grad = torch.ones_like(cell.lin.weight)
    assert guard(cell) is not None


def test_tensors_are_taken_from_where_they_are_now():
    cell = Told(attribute, Options(torch.ones(H)))
    guard = guard_of(cell)
    cell.thing.scale = torch.zeros(H)
    cell.lin = nn.Linear(3 + H, H)
    found = guard(cell)
    assert found is not None
    assert {id(t) for t in found} == {id(cell.thing.scale), id(cell.lin.weight), id(cell.lin.bias)}


def test_a_guard_belongs_to_any_cell_that_is_the_same():
    one, other = Told(attribute, Options(1.0)), Told(attribute, Options(1.0))
    found = guard_of(one)(other)
    assert found is not None
    assert any(t is other.lin.weight for t in found)
    assert guard_of(one)(Told(attribute, Options(2.0))) is None


def referring_back() -> nn.Module:
    cell = Told(lambda options: options.cell.factor, types.SimpleNamespace())
    cell.factor = 2.0  # type: ignore[assignment]
    cell.thing.cell = cell
    return cell


def in_a_closure() -> nn.Module:
    cell = Told(lambda thing: thing + cell.unread, 1.0)
    return cell


def in_a_class() -> nn.Module:
    class Cell(Told):
        last: Any = None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x, h * self.last.thing)

    Cell.last = Cell(float, 1.0)
    return Cell.last


def in_a_set() -> nn.Module:
    cell = Told(lambda thing: float(len(thing)), set())
    cell.thing.add(Property())
    next(iter(cell.thing)).cell = cell
    return cell


def in_an_attribute_of_a_tensor() -> nn.Module:
    cell = Told(torch.sum, torch.ones(1))
    cell.thing.owner = cell
    return cell


def by_identity() -> nn.Module:
    holder = Property()
    holder.scale = Told(lambda thing: 2.0 if thing is not None and thing.scale is holder else 1.0, holder)
    return holder.scale


def test_cells_that_have_run_are_not_kept_alive() -> None:
    """One search for garbage, which takes long, serves all of them."""
    cells: list[nn.Module] = [
        us.LSTMCell(3, H),
        Told(float, 1.0),
        referring_back(),
        in_a_closure(),
        in_a_class(),
        in_a_set(),
        in_an_attribute_of_a_tensor(),
        by_identity(),
    ]
    gone = []
    while cells:
        us.dynamic_rnn(cells[-1], torch.ones(2, 3, 3), backend="native")
        gone.append(weakref.ref(cells.pop()))
    gc.collect()
    assert [ref() for ref in gone] == [None] * 8


def test_tensors_that_were_replaced_are_not_kept_alive() -> None:
    cell = Told(torch.sum, torch.ones(1))
    before = [weakref.ref(t) for t in (cell.thing, cell.lin.weight)]
    us.dynamic_rnn(cell, torch.ones(2, 3, 3), backend="native")
    cell.thing, cell.lin = torch.ones(1), nn.Linear(3 + H, H)
    us.dynamic_rnn(cell, torch.ones(2, 3, 3), backend="native")
    gc.collect()
    assert [ref() for ref in before] == [None, None]
