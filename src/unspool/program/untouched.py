"""Remembering what an object and all that it reaches held, telling what has changed, and putting it back."""

from __future__ import annotations

import collections
import operator
import pickle
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unspool._modes import unobserved
from unspool._reason import Reason
from unspool.program.objects import (
    MISSING,
    all_atoms,
    attributes_of,
    by_identity,
    contents_of,
    held_in,
    is_atom,
    is_closed,
    is_generator,
    is_users,
    parts_of,
    slots_of,
)

_OF_MODULES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class _Place:
    """Something that can change, what it held, and how to put that back.

    Attributes
    ----------
    path : str
        How the user reaches it.
    changed : callable
        Gives what has changed in it (`".name"`, `"[0]"`, `""` for the whole), or None.
    restore : callable
    """

    path: str
    changed: Callable[[], str | None]
    restore: Callable[[], None]


class Snapshot:
    """What some objects, and all that can be reached from them, hold.

    Attributes
    ----------
    tensors : dict of int to (Tensor, str)
        All tensors that were met, by identity, and how they are reached.
    closed : dict of str to Reason
        Of what cannot be looked into: the last attribute on the way to it, and what it is.
    """

    def __init__(self) -> None:
        self.tensors: dict[int, tuple[Tensor, str]] = {}
        self.closed: dict[str, Reason] = {}
        self._met: dict[int, Any] = {}  # keeps alive what is known by its address
        self._places: list[_Place] = []
        self._globals: set[tuple[int, str]] = set()

    def add(self, thing: Any, path: str, name: str = "") -> None:
        """Remember an object and all that it reaches.

        Parameters
        ----------
        thing : object
        path : str
            How the user reaches it, for errors.
        name : str
            The attribute or global by which it is reached.
        """
        waiting = [(thing, path, name)]
        while waiting:
            thing, path, name = waiting.pop()
            if id(thing) in self._met or is_atom(thing) or by_identity(thing):
                continue
            self._met[id(thing)] = thing
            closed = is_closed(thing)
            if closed and name != "_abc_impl":
                self.closed.setdefault(name, closed.about(f"{path},"))
                if not is_generator(thing):
                    continue
            waiting.extend(self._look(thing, path, name))

    def add_global(self, names: dict[str, Any], name: str) -> None:
        """Remember what a global stands for."""
        value, key = names.get(name, MISSING), (id(names), name)
        if key in self._globals:
            return
        self._globals.add(key)

        def restore() -> None:
            if value is MISSING:
                names.pop(name, None)
            else:
                names[name] = value

        self._keep(f"the global {name}", lambda: None if names.get(name, MISSING) is value else "", restore)

    def changes(self) -> Iterator[str]:
        """Yield how the user reaches what is not as it was."""
        for place in self._places:
            what = place.changed()
            if what is not None:
                yield f"{place.path}{what}"

    def restore(self) -> None:
        """Put everything back."""
        for place in self._places:
            if place.changed() is not None:
                place.restore()

    # ---------------------------------------------------------------------------------------- kinds of objects

    def _look(self, thing: Any, path: str, name: str) -> Iterator[tuple[Any, str, str]]:
        """Remember what one object holds, and yield what there is to look into further."""
        if isinstance(thing, Tensor):
            self.tensors[id(thing)] = thing, path
            if type(thing) in (Tensor, nn.Parameter) and attributes_of(thing) is not None:  # others have PyTorch's own
                yield from self._look_into_dict(vars(thing), path, "", attributes=True)
        elif isinstance(thing, np.ndarray):
            yield from self._look_into_array(thing, path, name)
        elif is_generator(thing):
            state, restore = _random_state(thing)
            self._keep(path, lambda: None if _random_state(thing)[0] == state else "", restore)
        elif isinstance(thing, type):
            yield from self._look_into_class(thing, path)
        elif isinstance(thing, types.ModuleType):
            return  # whoever reads one of its globals adds it
        else:
            yield from self._look_into_container(thing, path, name)
            yield from self._look_into_function(thing, path, name)
            yield from self._look_into_attributes(thing, path)

    def _keep(self, path: str, changed: Callable[[], str | None], restore: Callable[[], None]) -> None:
        self._places.append(_Place(path, changed, restore))

    def _look_into_array(self, array: np.ndarray, path: str, name: str) -> Iterator[tuple[Any, str, str]]:
        if array.dtype.hasobject:
            yield from ((item, f"{path}[...]", name) for item in array.flat)
            return
        copy = array.copy()

        def changed() -> str | None:
            same = array.shape == copy.shape and array.dtype == copy.dtype and array.tobytes() == copy.tobytes()
            return None if same else ""

        def restore() -> None:
            array.resize(copy.shape, refcheck=False)
            array[...] = copy

        self._keep(path, changed, restore)

    def _look_into_class(self, kind: type, path: str) -> Iterator[tuple[Any, str, str]]:
        if not is_users(kind):
            return

        def held() -> dict[str, Any]:
            return {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}

        data = held()

        def restore() -> None:
            for key in {*held(), *data}:
                if key not in data:
                    type.__delattr__(kind, key)
                elif vars(kind).get(key, MISSING) is not data[key]:
                    type.__setattr__(kind, key, data[key])

        self._keep(path, lambda: _difference(held(), data, "."), restore)
        for key, value in data.items():
            value = getattr(value, "__func__", value)
            if not key.startswith("__") or isinstance(value, types.FunctionType):
                yield value, f"{path}.{key}", key

    def _look_into_container(self, thing: Any, path: str, name: str) -> Iterator[tuple[Any, str, str]]:
        """Look into dicts, lists, sets, deques and tuples; what holds nothing that can change has no more to see."""
        if isinstance(thing, dict):
            yield from self._look_into_dict(thing, path, name)
        elif isinstance(thing, list | collections.deque | set | bytearray):
            kind: Any = next(k for k in (list, collections.deque, set, bytearray) if isinstance(thing, k))
            held: Any = thing
            copy: Any = collections.deque(held, held.maxlen) if kind is collections.deque else kind(held)

            def changed() -> str | None:
                same = len(held) == len(copy) and (
                    held == copy if kind in (set, bytearray) else all(a is b for a, b in zip(held, copy, strict=True))
                )
                return None if same else ""

            def restore() -> None:
                kind.clear(held)
                (kind.update if kind is set else kind.extend)(held, copy)

            self._keep(path, changed, restore)
            if kind is not bytearray and not all_atoms(copy):
                places = ("[...]",) * len(copy) if kind is set else (f"[{i}]" for i in range(len(copy)))
                yield from ((item, f"{path}{place}", name) for item, place in zip(copy, places, strict=True))
        elif isinstance(thing, tuple | frozenset):
            fields = getattr(thing, "_fields", None) or range(len(thing))
            for place, item in zip(fields, thing, strict=True):
                yield item, f"{path}.{place}" if isinstance(place, str) else f"{path}[{place}]", name
        elif isinstance(thing, types.MappingProxyType):
            yield from ((value, f"{path}[{key!r}]", name) for key, value in thing.items())

    def _look_into_dict(
        self, thing: dict[Any, Any], path: str, name: str, attributes: bool = False
    ) -> Iterator[tuple[Any, str, str]]:
        kind: Any = collections.OrderedDict if isinstance(thing, collections.OrderedDict) else dict
        copy = dict(thing)

        def changed() -> str | None:
            if (
                len(thing) == len(copy)
                and all(map(operator.is_, kind.keys(thing), copy))
                and all(map(operator.is_, kind.values(thing), copy.values()))
            ):
                return None
            return _difference(thing, copy, "." if attributes else "[") or ""  # "" for another order

        def restore() -> None:
            kind.clear(thing)
            kind.update(thing, copy)

        self._keep(path, changed, restore)
        if not attributes and all_atoms(copy) and all_atoms(copy.values()):
            return
        for key, value in copy.items():
            if attributes:
                if key in _OF_MODULES and isinstance(value, dict):
                    yield from self._look_into_dict(value, path, name, attributes=True)
                else:
                    yield value, f"{path}.{key}", key
            else:
                yield key, f"{path}[...]", name
                yield value, f"{path}[{key!r}]", name

    def _look_into_function(self, thing: Any, path: str, name: str) -> Iterator[tuple[Any, str, str]]:
        if isinstance(thing, types.FunctionType):
            for variable, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
                yield cell, f"{variable} of {thing.__qualname__}", variable
            yield thing.__defaults__, f"the defaults of {thing.__qualname__}", name
            yield thing.__kwdefaults__, f"the defaults of {thing.__qualname__}", name
        elif isinstance(thing, types.CellType):
            value = contents_of(thing)

            def restore() -> None:
                if value is MISSING:
                    del thing.cell_contents
                else:
                    thing.cell_contents = value

            self._keep(path, lambda: None if contents_of(thing) is value else "", restore)
        yield from ((part, f"{path}{written}", name) for part, _, written in parts_of(thing))

    def _look_into_attributes(self, thing: Any, path: str) -> Iterator[tuple[Any, str, str]]:
        attributes = attributes_of(thing)
        if attributes is not None:
            yield from self._look_into_dict(attributes, path, "", attributes=True)
        if isinstance(thing, types.FunctionType):
            return
        yield from ((kind, kind.__name__, "") for kind in type(thing).__mro__ if is_users(kind))
        slots = slots_of(type(thing))
        if slots:
            before = {slot: held_in(slot, thing) for slot in slots}

            def changed() -> str | None:
                moved = (slot for slot, value in before.items() if held_in(slot, thing) is not value)
                slot = next(moved, None)
                return None if slot is None else f".{slot.__name__}"

            def restore() -> None:
                for slot, value in before.items():
                    if value is not MISSING:
                        slot.__set__(thing, value)
                    elif held_in(slot, thing) is not MISSING:
                        slot.__delete__(thing)

            self._keep(path, changed, restore)
            yield from ((value, f"{path}.{slot.__name__}", slot.__name__) for slot, value in before.items())


def _difference(now: dict[Any, Any], then: dict[Any, Any], style: str) -> str | None:
    """Return the first key with another value, as it is written behind the object, or None."""
    if len(now) == len(then) and all(now.get(key, MISSING) is value for key, value in then.items()):
        return None
    key = next(k for k in (*then, *now) if now.get(k, MISSING) is not then.get(k, MISSING))
    return f".{key}" if style == "." else f"[{key!r}]"


# ---------------------------------------------------------------------------------------- random states


def _random_state(source: Any) -> tuple[Any, Callable[[], Any]]:
    """Return the state of a source of random numbers, for comparing, and what puts it back."""
    if hasattr(source, "getstate"):  # Python's
        python = source.getstate()
        return python, lambda: source.setstate(python)
    if isinstance(source, torch.Generator):
        with unobserved():  # under which tensors have no values
            state = source.get_state()
            return state.numpy().tobytes(), lambda: source.set_state(state)
    bits = getattr(source, "bit_generator", None) or getattr(source, "_bit_generator", source)
    numpy = bits.state
    return pickle.dumps(numpy), lambda: setattr(bits, "state", numpy)


def _random_states() -> dict[str, tuple[Any, Callable[[], Any]]]:
    """Return the state of every global source of random numbers, and how to set it."""
    found = {"Python's": _random_state(random)}
    if "numpy.random" in sys.modules:
        found["NumPy's"] = _random_state(np.random.mtrand._rand)  # type: ignore[attr-defined]
    found["PyTorch's"] = _random_state(torch.default_generator)
    for name in ("cuda", "xpu", "mps"):
        module = sys.modules.get(f"torch.{name}")
        if module is None or not module.is_available() or not getattr(module, "is_initialized", lambda: True)():
            continue
        states = module.get_rng_state_all() if hasattr(module, "get_rng_state_all") else [module.get_rng_state()]
        put = getattr(module, "set_rng_state_all", None) or (lambda s, m=module: m.set_rng_state(s[0]))
        found[f"PyTorch's ({name})"] = (
            tuple(s.cpu().numpy().tobytes() for s in states),
            lambda put=put, states=states: put(states),
        )
    return found


class RandomStates:
    """The state of Python's, NumPy's and PyTorch's random numbers, on all devices in use."""

    def __init__(self) -> None:
        self._before = _random_states()

    def changes(self) -> list[str]:
        """Return whose state is not as it was."""
        now = _random_states()
        return [name for name, (state, _) in self._before.items() if now[name][0] != state]

    def restore(self) -> None:
        """Put back what has changed."""
        with unobserved():
            for name in self.changes():
                self._before[name][1]()


@contextmanager
def untouched(*things: Any) -> Iterator[Snapshot]:
    """Put back, at the end of the `with` block, what was changed in objects, and random states.

    Values of tensors that are written in place are not put back.

    Parameters
    ----------
    *things : object
        Whatever can be reached from them counts.
    """
    snapshot, states = Snapshot(), RandomStates()
    for thing in things:
        snapshot.add(thing, type(thing).__name__ if isinstance(thing, nn.Module) else repr(type(thing)))
    try:
        yield snapshot
    finally:
        snapshot.restore()
        states.restore()
