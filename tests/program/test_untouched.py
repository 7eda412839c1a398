"""Whatever an object reaches is put back as it was, in the same objects, and what has changed is named."""

from __future__ import annotations

import collections
import functools
import random
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from tests.trust.snapshots import differences, snapshot
from unspool.program.untouched import RandomStates, Snapshot, untouched


class Box:
    """What is looked at."""

    shared: Any = None

    def __init__(self, content: Any = None) -> None:
        self.content = content


KEPT = Box([1])


class Slotted:
    __slots__ = ("a", "b", "c")

    def __init__(self) -> None:
        self.a, self.b = 1, [2]


class Row(NamedTuple):
    tags: list[int]
    name: str


class Table(dict[str, Any]):
    """A dict with an attribute, and an update of its own."""

    def __init__(self) -> None:
        super().__init__(a=1)
        self.calls = 0

    def clear(self) -> None:
        raise AssertionError("nobody asked for this")

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.calls += 1


def variable() -> tuple[Any, Callable[[], None]]:
    count, seen = 0, [1]

    def step() -> None:
        nonlocal count
        count += 1
        seen.append(count)

    return step, step


def resized(box: Box) -> None:
    box.content.resize((5,), refcheck=False)
    box.content[:] = 7


def deleted(box: Box) -> None:
    del box.content.a
    box.content.c = 3
    box.content.b.append(4)


def reordered(box: Box) -> None:
    box.content["a"] = box.content.pop("a")


def written_into_module(box: Box) -> None:
    box.content.weight = nn.Parameter(torch.ones(2, 2))
    del box.content.bias
    box.content.register_buffer("new", torch.ones(1))
    box.content.train(False)


def in_class(box: Box) -> None:
    Box.shared = 3
    Box.added = lambda self: 0  # type: ignore[attr-defined]


PLACES: dict[str, tuple[Callable[[], Any], Callable[[Box], object], str]] = {
    "attribute": (lambda: 1, lambda b: setattr(b, "content", 2), ".content"),
    "new attribute": (lambda: 1, lambda b: setattr(b, "more", 2), ".more"),
    "deleted attribute": (lambda: 1, lambda b: delattr(b, "content"), ".content"),
    "an equal object": (lambda: [1], lambda b: setattr(b, "content", [1]), ".content"),
    "dict": (lambda: {"a": 1}, lambda b: b.content.update(a=2, b=3), ".content['a']"),
    "OrderedDict": (lambda: collections.OrderedDict(a=1, b=2), lambda b: b.content.pop("b"), ".content['b']"),
    "defaultdict": (lambda: collections.defaultdict(list), lambda b: b.content["x"], ".content['x']"),
    "subclass of dict": (Table, lambda b: dict.clear(b.content), ".content['a']"),
    "list": (lambda: [1, [2]], lambda b: b.content[1].append(3), ".content[1]"),
    "list, reordered": (lambda: [1, 2], lambda b: b.content.reverse(), ".content"),
    "deque": (lambda: collections.deque([1, 2], 2), lambda b: b.content.append(3), ".content"),
    "set": (lambda: {1, 2}, lambda b: b.content.add(3), ".content"),
    "bytearray": (lambda: bytearray(b"ab"), lambda b: b.content.extend(b"c"), ".content"),
    "tuple": (lambda: ([1], 2), lambda b: b.content[0].append(2), ".content[0]"),
    "NamedTuple": (lambda: Row([1], "a"), lambda b: b.content.tags.append(2), ".content.tags"),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda b: setattr(b.content, "a", 2), ".content.a"),
    "slots": (Slotted, deleted, ".content.a"),
    "class attribute": (lambda: 1, in_class, "Box.shared"),
    "array": (lambda: np.arange(3.0), lambda b: b.content.fill(7), ".content"),
    "array, resized": (lambda: np.arange(3.0), resized, ".content"),
    "array of objects": (lambda: np.array([[1], None], object), lambda b: b.content[0].append(2), ".content[...]"),
    "partial": (lambda: functools.partial(print, [1]), lambda b: b.content.args[0].append(2), ".content.args[0]"),
    "attribute of a tensor": (lambda: torch.ones(1), lambda b: setattr(b.content, "note", 1), ".content.note"),
    "module": (lambda: nn.Linear(2, 2), written_into_module, ".content.weight"),
    "weak reference": (
        lambda: weakref.ref(KEPT), lambda b: b.content().content.append(2), ".content().content"
    ),
    "random.Random": (lambda: random.Random(1), lambda b: b.content.random(), ".content"),
    "numpy.random.Generator": (lambda: np.random.default_rng(1), lambda b: b.content.random(), ".content"),
    "numpy.random.RandomState": (lambda: np.random.RandomState(1), lambda b: b.content.rand(), ".content"),
    "torch.Generator": (lambda: torch.Generator(), lambda b: torch.rand(1, generator=b.content), ".content"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_named_and_put_back(name: str) -> None:
    make, change, path = PLACES[name]
    box = Box(make())
    before, same = snapshot(box), (box.content, getattr(box.content, "maxlen", None))
    seen = Snapshot()
    seen.add(box, "box")
    assert list(seen.changes()) == []
    change(box)
    assert any(path in found for found in seen.changes()), list(seen.changes())
    seen.restore()
    assert list(seen.changes()) == []
    assert not differences(snapshot(box), before)
    assert box.content is same[0]
    assert getattr(box.content, "maxlen", None) == same[1]
    assert not hasattr(Box, "added")


def test_variables_of_outer_functions_are_put_back():
    step, call = variable()
    with untouched(step):
        call()
        call()
    assert [cell.cell_contents for cell in step.__closure__] == [0, [1]]


@pytest.mark.parametrize("held", [(), (1,)])
def test_a_variable_of_an_outer_function_that_is_held_itself_is_put_back(held: tuple[int, ...]):
    box, before = Box(types.CellType(*held)), types.CellType(*held)
    with untouched(box):
        box.content.cell_contents = 2
    assert box.content == before  # as it is where neither is set, too


def test_the_order_of_a_dict_is_put_back():
    box = Box({"a": 1, "b": 2})
    with untouched(box):
        reordered(box)
    assert list(box.content) == ["a", "b"]


def test_no_method_of_a_subclass_is_called():
    box = Box(Table())
    with untouched(box):
        dict.clear(box.content)
        box.content["z"] = 1
    assert box.content == {"a": 1}
    assert box.content.calls == 0


def test_globals_are_put_back_and_new_ones_go():
    names: dict[str, Any] = {"old": 1}
    seen = Snapshot()
    seen.add_global(names, "old")
    seen.add_global(names, "new")
    names |= {"old": 2, "new": 3}
    assert list(seen.changes()) == ["the global old", "the global new"]
    seen.restore()
    assert names == {"old": 1}


def test_everything_is_put_back_after_an_error():
    def fails(content: list[Any]) -> None:
        content.append(1)
        raise RuntimeError("on the way")

    box = Box([])
    with pytest.raises(RuntimeError, match="on the way"), untouched(box):
        fails(box.content)
    assert box.content == []


def test_everybodys_random_numbers():
    states = RandomStates()
    want = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    assert states.changes() == ["Python's", "NumPy's", "PyTorch's"]
    states.restore()
    assert states.changes() == []
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == want  # noqa: NPY002
