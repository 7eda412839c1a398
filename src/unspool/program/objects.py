"""Telling Python's objects apart: which cannot change, which can be looked into, and which are closed."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import operator
import pathlib
import random
import re
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._reason import Reason
from unspool.program.code import owner_of, owner_of_module
from unspool.program.source import DRAWS

DRAWN_FROM = Reason("which draws random numbers", DRAWS.remedy)

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "nothing"})()
"""Stands where there is no such attribute or item."""

_ATOMS = frozenset(
    {
        bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, type(MISSING),
        torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, torch.finfo, torch.iinfo,
        torch.SymInt, torch.SymFloat, torch.SymBool,
        re.Pattern, decimal.Decimal, fractions.Fraction, uuid.UUID, types.CodeType, types.GenericAlias, types.UnionType,
        datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone,
    }
)  # fmt: skip
_ATOM_BASES = (np.generic, np.dtype, pathlib.PurePath)
_Pair = collections.namedtuple("_Pair", "first")
_FUNCTIONS_IN_C = (
    types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType, type(inspect.getattr_static(_Pair, "first")), np.ufunc,
    type(np.insert), operator.itemgetter, torch._ops.OpOverload, torch._ops.OpOverloadPacket,
)  # fmt: skip
"""Equal where they are one."""

_PARTS: dict[type, dict[str, str]] = {
    types.MethodType: {"__func__": "", "__self__": ".__self__"},
    types.BuiltinFunctionType: {"__self__": ".__self__"},
    types.MethodWrapperType: {"__self__": ".__self__"},
    functools.partial: {"func": ".func", "args": ".args", "keywords": ".keywords"},
    property: {"fget": "", "fset": "", "fdel": ""},
    functools.cached_property: {"func": ""},
    staticmethod: {"__func__": ""},
    classmethod: {"__func__": ""},
}
"""Kinds of objects that consist of a few attributes, and how the user writes each of these behind the object."""

_OPEN: tuple[type, ...] = (
    tuple, list, dict, collections.OrderedDict, collections.defaultdict, set, frozenset, collections.deque, bytearray,
    np.ndarray, Tensor, types.FunctionType, types.ModuleType, types.MappingProxyType, types.SimpleNamespace,
    types.CellType, weakref.ref, type, random.Random, torch.Generator, *_PARTS,
)  # fmt: skip
"""What can be looked into: of all of them `Snapshot` and `Writer` know how."""

_GENERATORS = (random.Random, torch.Generator)
_NO_GENERATORS = frozenset(_OPEN).difference(_GENERATORS)
_OPENED = Reason()

_KNOWN_BASES = {base for kind in _OPEN for base in inspect.getmro(kind)}


def is_atom(thing: Any) -> bool:
    """Tell whether a value cannot change, so that it counts by what it is equal to."""
    kind = type(thing)
    if kind in _ATOMS or isinstance(thing, _ATOM_BASES):
        return not isinstance(thing, np.void)  # which has fields that are written to
    if isinstance(thing, enum.Enum):
        return not is_users(kind)
    if kind is tuple or kind is frozenset:
        return all(map(is_atom, thing))
    return kind is slice and is_atom((thing.start, thing.stop, thing.step))


def all_atoms(things: Iterable[Any]) -> bool:
    """Tell whether all of many values cannot change; by their types first, since there may be a million."""
    things = list(things)
    kinds = set(map(type, things))
    return kinds <= _ATOMS or all(map(is_atom, things))


def by_identity(thing: Any) -> bool:
    """Tell whether something holds nothing that could change: a function in C, or a bare `object()`."""
    if isinstance(thing, types.BuiltinFunctionType):
        return thing.__self__ is None or isinstance(thing.__self__, types.ModuleType | type)
    return isinstance(thing, _FUNCTIONS_IN_C) or type(thing) is object


def is_generator(thing: Any) -> bool:
    """Tell whether random numbers are drawn from something; NumPy's module for them need not have been imported."""
    kind = type(thing)
    return kind not in _NO_GENERATORS and (isinstance(thing, _GENERATORS) or kind.__module__.startswith("numpy.random"))


def is_closed(thing: Any) -> Reason:
    """Return why something cannot be looked into (an iterator, a file, a lock), or an empty reason.

    What such an object gives may change from one look to the next, and nobody would notice.
    """
    if isinstance(thing, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        what = "compiled by torch.jit, which shows none of its operations"
        return Reason.ending(what, "keep the module that it was made from")
    if is_generator(thing):
        return DRAWN_FROM
    if isinstance(thing, operator.attrgetter | operator.methodcaller):
        return Reason.ending("which looks up attributes by names that cannot be seen", "write x.name")
    if isinstance(thing, functools._lru_cache_wrapper):
        what = "a function that remembers its results (functools.lru_cache or cache)"
        return Reason.ending(what, "call the function itself")
    if is_atom(thing) or by_identity(thing) or type(thing) in _OPEN:
        return _OPENED
    if isinstance(thing, type | types.BuiltinFunctionType | enum.Enum):
        return _OPENED
    for kind in type(thing).__mro__:
        if _is_in_c(kind) and kind not in _KNOWN_BASES:
            what = f"of type {kind.__module__}.{kind.__qualname__}, whose contents cannot be seen"
            return Reason(what, "keep numbers, tensors, lists and dicts of them, or objects of classes in Python")
    return _OPENED


def _told_once(tell: Callable[[type], bool]) -> Callable[[type], bool]:
    """Let a function of classes remember its answers, and keep no class alive, nor the cells that it reaches."""
    known: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()

    @functools.wraps(tell)
    def told(kind: type) -> bool:
        answer = known.get(kind)
        if answer is None:
            answer = known[kind] = tell(kind)
        return answer

    return told


@_told_once
def _is_in_c(kind: type) -> bool:
    """Tell whether a class is written in C, so that its objects may hold what Python cannot see."""
    immutable = bool(kind.__flags__ & 1 << 8)  # as no class that is written in Python
    origin = getattr(getattr(sys.modules.get(kind.__module__), "__spec__", None), "origin", None) or ""
    return immutable or origin == "built-in" or origin.endswith((".so", ".pyd"))


def same_atoms(now: Any, then: Any) -> bool:
    """Tell whether two values that cannot change are the same: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(then, tuple):
        return len(now) == len(then) and all(map(same_atoms, now, then))
    if isinstance(then, float | complex | np.generic):
        return repr(now) == repr(then)
    if isinstance(then, frozenset):
        return same_items(now, tuple(then))  # a step may follow their order
    return bool(now == then)


def same_items(now: Iterable[Any], then: tuple[Any, ...]) -> bool:
    """Tell whether a sequence still holds the same values, none of which can change."""
    now = tuple(now)
    return len(now) == len(then) and (all(map(operator.is_, now, then)) or all(map(same_atoms, now, then)))


def same_dict(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    """Tell whether a dict still holds the same keys, in the same order, and values, none of which can change."""
    return len(now) == len(then) and same_items(now, tuple(then)) and same_items(now.values(), tuple(then.values()))


def slots_of(kind: type) -> list[types.MemberDescriptorType]:
    """Return a class's slots, those of its bases among them, whatever a subclass has put over their names."""
    held = (vars(base).values() for base in kind.__mro__ if not _is_in_c(base))
    return [value for values in held for value in values if isinstance(value, types.MemberDescriptorType)]


def held_in(slot: types.MemberDescriptorType, thing: Any) -> Any:
    """Return what an object holds in a slot, or `MISSING`."""
    try:
        return slot.__get__(thing)
    except AttributeError:
        return MISSING


def contents_of(cell: types.CellType) -> Any:
    """Return what a variable of an outer function holds, or `MISSING` where it is not set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def parts_of(thing: Any) -> list[tuple[Any, str, str]]:
    """Return the parts of an object that consists of a few: each, with its place in code and as the user writes it."""
    if isinstance(thing, types.CellType):
        return [(contents_of(thing), "contents_of({})", "")]
    if isinstance(thing, weakref.ref):
        return [(thing(), "{}()", "()")]
    found = next((parts for kind, parts in _PARTS.items() if isinstance(thing, kind)), {})
    return [(getattr(thing, name), f"{{}}.{name}", written) for name, written in found.items()]


def attributes_of(thing: Any) -> dict[str, Any] | None:
    """Return the dict of an object's attributes, itself, or None where it has none."""
    found = getattr(thing, "__dict__", None)
    return found if type(found) is dict else None


@_told_once
def is_users(kind: type) -> bool:
    """Tell whether a class is the user's own, and not Python's, PyTorch's, NumPy's or this library's."""
    functions = [f for f in vars(kind).values() if isinstance(f, types.FunctionType)]
    return owner_of_module(kind.__module__) == "user" or any(
        owner_of(f.__code__, f.__globals__) == "user" for f in functions
    )
