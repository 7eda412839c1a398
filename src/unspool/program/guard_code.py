"""The code of a guard: what must hold of each place that a step can have read.

One method for each kind of object. What a kind means is told in `docs/dev/engine.md`; what `Snapshot` looks into, this
looks into too.
"""

from __future__ import annotations

import abc
import builtins
import collections
import enum
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import container

from unspool.program.code import owner, owner_of, reads_of
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
    same_atoms,
    same_dict,
    same_items,
    slots_of,
)
from unspool.program.source import TraceError

_MACHINERY = frozenset(
    getattr(nn.Module, name).__code__
    for name in ("_call_impl", "_wrapped_call_impl", "__getattr__", "__setattr__", "__delattr__", "__init__")
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_MODULES = frozenset(nn.Module().__dict__) | {"bound_from"}
_CONTAINERS = (
    container.Sequential, container.ModuleList, container.ModuleDict, container.ParameterList, container.ParameterDict
)  # fmt: skip
_NO_METHOD = frozenset(
    "__module__ __doc__ __dict__ __weakref__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ "
    "__qualname__ __slots__ __abstractmethods__ __parameters__ __static_attributes__ __firstlineno__ __orig_bases__ "
    "__classcell__ _abc_impl __dataclass_fields__ __dataclass_params__ __match_args__ __hash__".split()
)

_STANDING = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)


def _may_change(thing: Any) -> bool:
    """Tell whether a global of Python's library is a setting, and neither code nor a table of functions."""
    if isinstance(thing, dict):
        return all_atoms(thing) and all_atoms(thing.values())
    if isinstance(thing, list | set):
        return all_atoms(thing)
    return is_atom(thing) or (attributes_of(thing) is not None and not isinstance(thing, _STANDING))


_NEVER_RUN = ("{}.fset", "{}.fdel")
"""Parts of a property: a step that sets or deletes through one is refused, since no guard has seen their code."""

_ASKED_FIRST = frozenset({"forward", "__call__", "__getattr__", "__getattribute__"})


@dataclass(frozen=True)
class Look:
    """What a step has asked of a tensor, beyond its form.

    Attributes
    ----------
    tensor : Tensor
    function : callable
    name : str
    arguments : tuple
        What the function takes after the tensor.
    answer : object
        It cannot change.
    """

    tensor: Tensor
    function: Callable[..., Any]
    name: str
    arguments: tuple[Any, ...]
    answer: Any


class Writer:
    """Writes the code of a guard: registers `v0`, `v1`, ... and constants `k0`, `k1`, ..."""

    def __init__(
        self,
        codes: Iterable[tuple[CodeType, tuple[dict[str, Any], str]]],
        everything: bool,
        written: Iterable[str],
        taken: dict[int, Tensor],
        contents: Iterable[Tensor],
        looks: Iterable[Look],
    ) -> None:
        self.lines: list[str] = []
        self.places: list[str] = []
        self.constants: dict[str, Any] = {
            "__name__": __name__, "MISSING": MISSING, "same_atoms": same_atoms, "same_items": same_items,
            "same_dict": same_dict, "contents_of": contents_of, "held_in": held_in, "bytes_of": bytes_of,
        }  # fmt: skip
        self.reached: dict[int, str] = {}  # registers of tensors
        self.codes: set[CodeType] = set()
        self.everything = everything
        self._written = frozenset(part for path in written for part in (path, path.rpartition("[")[0]))
        self._taken = taken
        self._contents = {id(t) for t in contents}
        self._looks = list(looks)
        self._registers: dict[int, tuple[Any, str]] = {}
        self._classes: set[type] = set()
        self._abstract = False
        self._bases: set[type] = set()
        self._run = {code: of for code, of in codes if code not in _MACHINERY}
        self.names = frozenset().union(*(reads_of(code).attributes for code in self._run))
        own = [reads_of(code) for code, (_, whose) in self._run.items() if whose == "user"]
        # An attribute that may be missing counts where that would be noticed.
        self.guarded = frozenset().union(*(reads.attributes for reads in own if reads.catches))
        self.by_identity = any(reads.by_identity for reads in own)
        self._in_full = (*_CONTAINERS, types.SimpleNamespace) if any(reads.by_value for reads in own) else _CONTAINERS

    # ------------------------------------------------------------------------------------------------ words

    def constant(self, value: Any) -> str:
        """Return the word for a value that the code brings along."""
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def check(self, condition: str, path: str) -> None:
        """Let the guard say no where a condition does not hold."""
        self.places.append(path)
        self.lines.append(f"if not ({condition}): return {len(self.places) - 1}")

    def register(self, expression: str) -> str:
        """Return the word for what an expression gives, which is looked up once."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        return name

    def write(self, cell: Any) -> None:
        """Look at a cell, and at the globals of the code that was run."""
        self._visit(cell, "cell", "cell")
        for code, (globals_, whose) in self._run.items():
            if whose not in ("user", "library"):
                continue
            reads = reads_of(code)
            if whose == "library":  # its functions stay what they are; what it keeps (os.environ, say) may change
                held = {name for name in reads.globals & globals_.keys() if _may_change(globals_[name])}
                self._globals(globals_, held)
                continue
            self._globals(globals_, reads.globals & globals_.keys())
            absent = reads.globals - globals_.keys()
            if absent:
                self.check(f"{self.constant(absent)}.isdisjoint({self._dict_of(globals_)})", "the globals")
                self._globals(vars(builtins), absent & vars(builtins).keys())
            for name in sorted(reads.imports):
                if name in sys.modules:
                    modules = self._dict_of(sys.modules)
                    self._visit(sys.modules[name], f"{modules}.get({name!r}, MISSING)", f"the module {name}")

    def _globals(self, variables: Mapping[str, Any], names: Iterable[str]) -> None:
        register = self._dict_of(variables)
        for name in sorted(names):
            self._visit(variables[name], f"{register}.get({name!r}, MISSING)", f"the global {name}")

    def _dict_of(self, thing: Any) -> str:
        """Return the register of a dict that lives as long as the program."""
        if id(thing) not in self._registers:
            self._registers[id(thing)] = thing, self.constant(thing)
        return self._registers[id(thing)][1]

    def source(self, tensors: Iterable[Tensor]) -> str:
        """Return the code, whose function gives these tensors."""
        registers = [self.reached[id(t)] for t in tensors]
        # What is one object now was one then: where it is met again, it is compared with its register.
        distinct = [register for _, register in self._registers.values() if register.startswith("v")]
        self.check(f"len({{{', '.join(f'id({r})' for r in distinct)}}}) == {len(distinct)}", "which objects are one")
        body = "\n    ".join([*self.lines, f"return ({''.join(f'{r}, ' for r in registers)})"])
        return f"def guard(cell):\n    {body}\n"

    # ------------------------------------------------------------------------------------------------ kinds of objects

    def _visit(self, thing: Any, expression: str, path: str) -> None:
        """Write what must hold of an object that stands somewhere."""
        if path in self._written:
            return
        if thing is None or thing is True or thing is False:
            self.check(f"{expression} is {thing}", path)
            return
        if is_atom(thing):
            self._atom(thing, expression, path)
            return
        if by_identity(thing) or self._is_trusted(thing):
            self.check(f"{expression} is {self.constant(thing)}", path)
            self._registrations(thing)
            return
        if id(thing) in self._registers:
            self.check(f"{expression} is {self._registers[id(thing)][1]}", path)
            return
        closed = is_closed(thing)
        if closed and not is_generator(thing):
            raise TraceError(closed.about(f"the step reads {path},"))
        register = self.register(expression)
        self._registers[id(thing)] = thing, register
        if isinstance(thing, type):
            self.check(f"{register} is {self._kind(thing)}", path)
            self._registrations(thing)
            self._class(thing, register)
            return
        if isinstance(thing, types.ModuleType):
            self.check(f"{register} is {self.constant(thing)}", path)
            self._module(thing, path)
            return
        self.check(f"type({register}) is {self._kind(type(thing))}", path)
        counts = self.by_identity and not isinstance(thing, Tensor | tuple | types.FunctionType | types.MethodType)
        if counts or isinstance(thing, enum.Enum):
            self._same(thing, register, path)
        if isinstance(thing, Tensor):
            self._tensor(thing, register, path)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, register, path)
        else:
            self._parts(thing, register, path)
            self._attributes(thing, register, path)

    def _is_trusted(self, thing: Any) -> bool:
        """Tell whether a function or class is not the user's, and holds nothing of the user's."""
        if isinstance(thing, types.FunctionType):
            return owner_of(thing.__code__, thing.__globals__) != "user" and not thing.__closure__
        return isinstance(thing, type) and not self._is_users(thing)

    def _registrations(self, thing: Any) -> None:
        """Let a class that others may be registered with (`ABC.register`) stand while nobody has been."""
        if isinstance(thing, abc.ABCMeta) and not issubclass(thing, nn.Module) and not self._abstract:
            self._abstract = True
            token = f"{self.constant(abc.get_cache_token)}() == {self.constant(abc.get_cache_token())}"
            self.check(token, "what is registered with abstract classes")

    def _same(self, thing: Any, register: str, path: str) -> None:
        """Let an object count by identity too, where the step asks for it."""
        try:
            self.check(f"{self.constant(weakref.ref(thing))}() is {register}", path)
        except TypeError:
            return  # a list, a dict: by what it holds

    def _atom(self, thing: Any, expression: str, path: str) -> None:
        constant = self.constant(thing)
        kind = type(thing)
        if kind is str or kind is int:
            register = self.register(expression)
            same = f"{register} is {constant} or (type({register}) is {kind.__name__} and {register} == {constant})"
            self.check(same, path)
        else:
            self.check(f"{expression} is {constant} or same_atoms({expression}, {constant})", path)

    def _tensor(self, tensor: Tensor, register: str, path: str) -> None:
        self.reached[id(tensor)] = register
        if id(tensor) in self._taken or id(tensor) in self._contents:
            shape, dtype = self.constant(tensor.shape), self.constant(tensor.dtype)
            self.check(f"{register}.shape == {shape} and {register}.dtype is {dtype}", f"the form of {path}")
            device = self.constant(tensor.device)
            self.check(
                f"{register}.is_cpu" if tensor.is_cpu else f"{register}.device == {device}", f"the device of {path}"
            )
        if id(tensor) in self._contents:
            self.check(f"bytes_of({register}) == {self.constant(bytes_of(tensor))}", f"the values of {path}")
        for look in self._looks:
            if look.tensor is tensor:
                asked = f"{self.constant(look.function)}({register}, *{self.constant(look.arguments)})"
                self.check(f"same_atoms({asked}, {self.constant(look.answer)})", f"{look.name} of {path}")
        self._named(tensor, register, path)
        absent = frozenset() if self.everything else self.guarded - vars(tensor).keys()
        if absent:
            self.check(f"{self.constant(absent)}.isdisjoint({register}.__dict__)", f"the attributes of {path}")

    def _function(self, thing: types.FunctionType, register: str, path: str) -> None:
        self.codes.add(thing.__code__)
        self.check(f"{register}.__code__ is {self.constant(thing.__code__)}", f"the code of {path}")
        for attribute in ("__defaults__", "__kwdefaults__"):
            self._visit(getattr(thing, attribute), f"{register}.{attribute}", f"the defaults of {path}")
        for i, (variable, cell) in enumerate(zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)):
            where = f"{variable} of {thing.__qualname__}"
            self._visit(contents_of(cell), f"contents_of({register}.__closure__[{i}])", where)
        if thing.__dict__:
            self._named(thing, register, path)

    def _module(self, module: types.ModuleType, path: str) -> None:
        names = self._names(vars(module)) if owner(getattr(module, "__file__", None) or "<frozen >") == "user" else [
            name for name in sorted(self.names & vars(module).keys())
            if not name.startswith("__") and not isinstance(vars(module)[name], types.ModuleType)
        ]  # fmt: skip
        register = self._dict_of(vars(module))
        for name in names:
            self._visit(
                vars(module)[name], f"{register}.get({name!r}, MISSING)", f"{path}.{name}".replace("the global ", "")
            )

    def _parts(self, thing: Any, register: str, path: str) -> None:
        """Write what must hold of what an object holds, attributes aside."""
        if isinstance(thing, dict):
            self._dict(thing, register, path)
        elif isinstance(thing, tuple | list | collections.deque):
            self._items(thing, register, path)
        elif isinstance(thing, set | frozenset):  # by the order of its items, since a step may follow it
            self._items(tuple(thing), self.register(f"tuple({register})"), path)
        elif isinstance(thing, bytearray):
            self.check(f"bytes({register}) == {self.constant(bytes(thing))}", path)
        elif isinstance(thing, np.ndarray):
            self._array(thing, register, path)
        elif isinstance(thing, types.MappingProxyType):
            self._dict(dict(thing), self.register(f"dict({register})"), path)
        elif isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):
            self.check(f"{register}.__name__ == {thing.__name__!r}", path)
        for part, read, written in parts_of(thing):
            if read not in _NEVER_RUN:
                self._visit(part, read.format(register), f"{path}{written}")

    def _items(self, things: Any, register: str, path: str) -> None:
        if all_atoms(things):
            self.check(f"same_items({register}, {self.constant(tuple(things))})", path)
            return
        self.check(f"len({register}) == {len(things)}", path)
        fields = getattr(things, "_fields", None) if isinstance(things, tuple) else None
        for i, item in enumerate(things):
            self._visit(item, f"{register}[{i}]", f"{path}.{fields[i]}" if fields else f"{path}[{i}]")

    def _dict(self, thing: dict[Any, Any], register: str, path: str) -> None:
        if all_atoms(thing) and all_atoms(thing.values()):
            self.check(f"same_dict({register}, {self.constant(dict(thing))})", path)
            return
        if all_atoms(thing):
            self.check(f"same_items({register}, {self.constant(tuple(thing))})", f"the keys of {path}")
            for key, value in thing.items():
                self._visit(value, f"{register}[{self.constant(key)}]", f"{path}[{key!r}]")
            return
        self._items(tuple(thing), self.register(f"tuple({register})"), f"the keys of {path}")
        self._items(tuple(thing.values()), self.register(f"tuple({register}.values())"), f"the values of {path}")

    def _array(self, array: np.ndarray, register: str, path: str) -> None:
        if array.dtype.hasobject:
            what = f"the step reads {path}, a NumPy array of objects, whose contents cannot be seen"
            raise TraceError(what, "keep a list, or an array of numbers, in its place")
        shape, dtype = self.constant(array.shape), self.constant(array.dtype)
        self.check(f"{register}.shape == {shape} and {register}.dtype == {dtype}", path)
        self.check(f"{register}.tobytes() == {self.constant(array.tobytes())}", path)

    # ------------------------------------------------------------------------------------------------ attributes

    def _names(self, attributes: dict[str, Any], everything: bool = False) -> list[str]:
        if self.everything or everything:
            return sorted(key for key in attributes if isinstance(key, str))
        return sorted(self.names & attributes.keys())

    def _named(self, thing: Any, register: str, path: str, everything: bool = False) -> None:
        """Write what must hold of the attributes of an object; what every module has is seen to elsewhere."""
        apart = _OF_MODULES if isinstance(thing, nn.Module) else frozenset()
        attributes = {key: value for key, value in vars(thing).items() if key not in apart}
        if self.everything or everything:
            keys = f"{register}.__dict__.keys()" + (f" - {self.constant(apart)}" if apart else "")
            self.check(f"{keys} == {self.constant(frozenset(attributes))}", f"the attributes of {path}")
        names = self._names(attributes, everything)
        if not names:
            return
        d = self.register(f"{register}.__dict__")
        for name in names:
            if f"{path}.{name}" not in self._written:
                self._visit(attributes[name], f"{d}.get({name!r}, MISSING)", f"{path}.{name}")

    def _attributes(self, thing: Any, register: str, path: str) -> None:
        attributes = attributes_of(thing)
        if isinstance(thing, types.MethodType | functools.partial | property | staticmethod | classmethod) or (
            attributes is None and not slots_of(type(thing))
        ):
            return
        self._class(type(thing), f"type({register})")
        attributes = {} if attributes is None else attributes
        everything = isinstance(thing, self._in_full)
        if isinstance(thing, nn.Module):
            self._nn_module(thing, register, path, everything)
        if attributes:
            self._named(thing, register, path, everything)
        missing = [
            name for name in sorted(self._absent(thing) - attributes.keys()) if f"{path}.{name}" not in self._written
        ]
        if missing and hasattr(thing, "__dict__"):
            self.check(
                f"{self.constant(frozenset(missing))}.isdisjoint({register}.__dict__)", f"the attributes of {path}"
            )
        for slot in slots_of(type(thing)):
            if self.everything or slot.__name__ in self.names:
                held = f"held_in({self.constant(slot)}, {register})"
                self._visit(held_in(slot, thing), held, f"{path}.{slot.__name__}")

    def _absent(self, thing: Any) -> set[str]:
        """Return the names under which an attribute of the object's own would be read instead of something else."""
        kind = type(thing)
        found = {name for name in self.names if hasattr(kind, name) and name not in _OF_MODULES}
        if isinstance(thing, nn.Module):
            found.add("forward")
            for held in (thing._parameters, thing._buffers, thing._modules):
                found |= self.names & held.keys()
        custom = next((k for k in kind.__mro__ if "__getattr__" in vars(k)), nn.Module)
        return found | (set(self.names) if is_users(custom) else self.guarded)

    def _nn_module(self, module: nn.Module, register: str, path: str, everything: bool) -> None:
        """Write what must hold of a module: its hooks, its forward, its parameters, buffers and children."""
        d = self.register(f"{register}.__dict__")
        hooks = " or ".join(f"{d}[{name!r}]" for name in _HOOKS)
        if not any(vars(module)[name] for name in _HOOKS):
            self.check(f"not ({hooks})", f"the hooks of {path}")
        kind = type(module)
        if not is_users(kind):
            self.check(f"{self.constant(kind)}.forward is {self.constant(kind.forward)}", f"{kind.__name__}.forward")
        if self.everything or everything or "training" in self.names:
            self._visit(module.training, f"{d}['training']", f"{path}.training")
        for group in ("_parameters", "_buffers", "_modules"):
            held: dict[str, Any] = vars(module)[group]
            children = group == "_modules" and "_modules" in self.names
            names = sorted(held) if self.everything or everything or children else sorted(self.names & held.keys())
            if self.everything or everything or children:
                self.check(f"tuple({d}[{group!r}]) == {self.constant(tuple(held))}", f"the members of {path}")
            if not names:
                continue
            g = self.register(f"{d}[{group!r}]")
            for name in names:
                self._visit(held[name], f"{g}.get({name!r}, MISSING)", f"{path}.{name}")

    def _was_run(self, function: Any) -> bool:
        return getattr(function, "__code__", None) in self._run

    def _kind(self, kind: type) -> str:
        """Return the word for a class; one of the user's may reach the cell, which nothing here keeps alive."""
        return f"{self.constant(weakref.ref(kind))}()" if self._is_users(kind) else self.constant(kind)

    @staticmethod
    def _is_users(kind: type) -> bool:
        return any(map(is_users, kind.__mro__))

    def _class(self, kind: type, expression: str) -> None:
        """Write what must hold of the classes of an object: the user's, and what they bring."""
        if kind in self._classes:
            return
        self._classes.add(kind)
        if not self._is_users(kind):
            return
        bases = self.register(f"{expression}.__mro__")
        same = (f"{bases}[{i}] is {self._kind(base)}" for i, base in enumerate(kind.__mro__))
        path = f"the bases of {kind.__name__}"
        self.check(f"len({bases}) == {len(kind.__mro__)} and {' and '.join(same)}", path)
        self._class(type(kind), f"type({bases}[0])")
        for i, base in enumerate(kind.__mro__):
            held = vars(base)
            if is_users(base) and base not in self._bases:
                self._bases.add(base)
                d = self.register(f"{bases}[{i}].__dict__")
                names = sorted(
                    name for name in held
                    if name in self.names or self.everything or (name.startswith("__") and name.endswith("__"))
                    or name == "forward"
                    if name not in _NO_METHOD and (name != "__init__" or self._was_run(held[name]))
                )  # fmt: skip
                for name in names:
                    self._visit(held[name], f"{d}.get({name!r}, MISSING)", f"{base.__name__}.{name}")
                # One that is new would hide those of the bases, and of the object.
                missing = (self.names | _ASKED_FIRST) - held.keys()
                new = f"{d}.keys() == {self.constant(frozenset(held))}" if self.everything else (
                    f"{self.constant(missing)}.isdisjoint({d})"
                )  # fmt: skip
                self.check(new, f"the attributes of {base.__name__}")


def bytes_of(tensor: Tensor) -> bytes:
    """Return the values of a tensor, for comparing."""
    with torch.no_grad():
        return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
