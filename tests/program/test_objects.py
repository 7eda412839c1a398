"""Telling objects apart: what counts by its value, what can be looked into, and what cannot."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import gc
import io
import itertools
import operator
import random
import re
import threading
import types
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from unspool.program.objects import (
    MISSING,
    all_atoms,
    by_identity,
    held_in,
    is_atom,
    is_closed,
    is_users,
    same_atoms,
    same_dict,
    same_items,
    slots_of,
)


class Mode(enum.Enum):
    A = 1
    B = 2


ONES = (1, 1.0, True, 1 + 0j, np.float32(1), np.float64(1), np.int64(1), np.bool_(True), Fraction(1))
ZEROS = (0.0, -0.0, complex(0.0, -0.0), complex(0.0, 0.0), np.float64(-0.0), np.float64(0.0), 0, False)


@pytest.mark.parametrize("values", [ONES, ZEROS, ("", b"", None, ()), (re.IGNORECASE, re.ASCII, 2, 256)])
def test_values_are_the_same_only_with_the_same_type_and_sign(values: tuple[Any, ...]) -> None:
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            assert is_atom(a)
            assert same_atoms(a, b) == (i == j), (a, b)
            assert same_atoms((a, "x"), (b, "x")) == (i == j), (a, b)
            assert same_items([a], (b,)) == (i == j)
            assert same_dict({"k": a}, {"k": b}) == (i == j)
            assert same_atoms(frozenset({a}), frozenset({b})) == (i == j)


def test_not_a_number_is_the_same_as_itself():
    assert same_atoms(float("nan"), float("nan"))
    assert same_atoms(np.float32("nan"), np.float32("nan"))
    assert not same_atoms(float("nan"), np.float64("nan"))
    assert not same_atoms(float("nan"), 1.0)


def test_dicts_are_the_same_in_the_same_order():
    assert same_dict({"a": 1, "b": 2}, {"a": 1, "b": 2})
    assert not same_dict({"b": 2, "a": 1}, {"a": 1, "b": 2})
    assert not same_dict({1: 1}, {True: 1})
    assert not same_dict({"a": 1}, {"a": 1, "b": 2})


def test_sets_are_the_same_in_the_order_in_which_a_step_meets_their_items():
    one, other = frozenset([0, 8]), frozenset([8, 0])  # the second finds its place taken
    assert list(one) != list(other)
    assert one == other
    assert same_atoms(one, frozenset([0, 8]))
    assert not same_atoms(one, other)


class Numbered(int):
    pass


class Plain:
    pass


def test_what_holds_something_that_can_change_is_no_atom():
    atoms = [Path("x"), torch.float32, torch.Size([2]), slice(1, None), range(3), (1, (2, "x")), Ellipsis, b"x"]
    assert all(map(is_atom, atoms))
    assert all_atoms([*atoms, 1, 2])
    for thing in (
        [],
        {},
        set(),
        ([],),
        Plain(),
        torch.zeros(1),
        Numbered(1),
        slice([], None),
        bytearray(),
        Plain,
        Mode.A,
    ):
        assert not is_atom(thing), thing
        assert not all_atoms([1, thing])


class OfParts(nn.Module):
    __slots__ = ("extra",)


class Pair(NamedTuple):
    a: int


class Based(abc.ABC):  # noqa: B024
    pass


OPEN = [
    1, Mode.A, [1], {}, collections.OrderedDict(), collections.defaultdict(list), collections.deque([1]), set(),
    bytearray(), np.zeros(2), torch.zeros(2), nn.Parameter(torch.zeros(2)), nn.Linear(2, 2), OfParts(), Plain(),
    Pair(1), lambda: 0, Plain().__init__, functools.partial(print), property(), types.SimpleNamespace(),
    operator, Plain, Based, nn.Parameter, torch.Tensor, weakref.ref(Plain), [].append, collections.Counter(),
    collections.ChainMap(), Mode, Pair.a, print, object(), operator.itemgetter(1), np.tanh, np.insert,
    torch.ops.aten.tanh.default, vars(Plain),
]  # fmt: skip

CLOSED = [
    iter([1]), itertools.count(), (x for x in "ab"), io.StringIO(), threading.Lock(), threading.local(), Numbered(1),
    random.Random(), np.random.default_rng(), torch.Generator(), operator.attrgetter("x"), operator.methodcaller("x"),
    functools.cache(lambda: 0), memoryview(b"x"), zip([1]), map(str, [1]), re.match("a", "a"),
]  # fmt: skip


@pytest.mark.parametrize("thing", OPEN, ids=lambda thing: type(thing).__name__)
def test_what_can_be_looked_into(thing: Any) -> None:
    assert not is_closed(thing)


@pytest.mark.parametrize("thing", CLOSED, ids=lambda thing: type(thing).__name__)
def test_what_cannot_be_looked_into(thing: Any) -> None:
    assert is_closed(thing)
    assert not is_atom(thing)
    assert not by_identity(thing)


class Slotted:
    __slots__ = ("a",)


@dataclasses.dataclass(slots=True)
class Longer(Slotted):
    b: int


class Covered(Slotted):
    __slots__ = ()

    @property
    def a(self) -> int:
        return 0


def test_slots_of_all_bases():
    assert {slot.__name__ for slot in slots_of(Longer)} == {"a", "b"}
    assert slots_of(list) == []


def test_slots_are_looked_into_past_the_properties_that_cover_them():
    (slot,) = slots_of(Covered)
    thing = Covered()
    assert held_in(slot, thing) is MISSING
    Slotted.a.__set__(thing, 5)
    assert held_in(slot, thing) == 5


def test_whose_a_class_is():
    assert is_users(Plain)
    assert is_users(Pair)
    assert not is_users(nn.Linear)
    assert not is_users(collections.Counter)


def test_classes_are_not_kept_alive():
    class Passing:
        pass

    is_users(Passing)
    is_closed(Passing())
    gone = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert gone() is None
