"""What a piece of code reads, by its instructions, and whose code it is."""

from __future__ import annotations

import dis
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch

_PLACES = {
    "torch": str(Path(torch.__file__).parent),
    "numpy": str(Path(np.__file__).parent),
    "unspool": str(Path(__file__).parent.parent),
    "python": str(Path(dis.__file__).parent),
}
_INSTALLED = ("site-packages", "dist-packages")


@lru_cache(maxsize=4096)
def owner(filename: str) -> str:
    """Return whose code a file holds: `"torch"`, `"numpy"`, `"python"`, `"unspool"` or `"user"`."""
    for name, place in _PLACES.items():
        if filename.startswith(place) and (name != "python" or not any(part in filename for part in _INSTALLED)):
            return name
    return "python" if filename.startswith("<frozen ") else "user"


def owner_of(code: CodeType, names: dict[str, Any]) -> str:
    """Return whose a function is; where its code stands in no file, its globals tell.

    Parameters
    ----------
    code : code
    names : dict
        Its globals.
    """
    if not code.co_filename.startswith("<") or code.co_filename.startswith("<frozen "):
        return owner(code.co_filename)
    module = str(names.get("__name__", ""))
    return owner_of_module("collections" if module.startswith("namedtuple_") else module)


def owner_of_module(name: str) -> str:
    """Return whose a module is."""
    root = name.partition(".")[0]
    if root in ("torch", "numpy", "unspool"):
        return root
    return "python" if root in sys.stdlib_module_names and root != "__main__" else "user"


@dataclass(frozen=True)
class Reads:
    """What the instructions of one function look up.

    Attributes
    ----------
    attributes : frozenset of str
        Names of attributes, of any object.
    globals : frozenset of str
        Names of globals or builtins.
    imports : frozenset of str
        Modules that are imported by it.
    written : tuple of str
        Globals that it assigns or deletes.
    by_pattern : bool
        Whether attributes are read whose names do not stand in the instructions.
    by_value : bool
        Whether it compares objects, or makes text of them.
    by_identity : bool
        Whether it asks if two objects are one, neither of them a constant.
    catches : bool
        Whether it handles exceptions, that of a missing attribute perhaps.
    nested : tuple of code
        The functions, classes and comprehensions written inside of it.
    """

    attributes: frozenset[str]
    globals: frozenset[str]
    imports: frozenset[str]
    written: tuple[str, ...]
    by_pattern: bool
    by_value: bool
    by_identity: bool
    catches: bool
    nested: tuple[CodeType, ...]


@lru_cache(maxsize=4096)
def reads_of(code: CodeType) -> Reads:
    """Return what a function's instructions look up."""
    attributes, names, imports, written = set(), set(), set(), []
    by_pattern = by_value = by_identity = catches = False
    before = ""
    for instruction in dis.get_instructions(code):
        op, name = instruction.opname, instruction.argval
        if op in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            names.add(name)
        elif op in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.append(name)
        elif op == "IMPORT_NAME":
            imports.add(name)
        elif op in ("PUSH_EXC_INFO", "SETUP_FINALLY"):
            catches = True
        elif op == "MATCH_CLASS":
            by_pattern = True
        elif op in ("COMPARE_OP", "CONTAINS_OP") or op.startswith("FORMAT_"):
            by_value = True
        elif op == "IS_OP":
            by_identity |= before != "LOAD_CONST"
        elif instruction.opcode in dis.hasname:
            attributes.add(name)
        before = op
    nested = tuple(constant for constant in code.co_consts if isinstance(constant, CodeType))
    by_value |= not names.isdisjoint({"repr", "str", "ascii", "format", "hash"})
    return Reads(
        frozenset(attributes), frozenset(names), frozenset(imports), tuple(written), by_pattern, by_value, by_identity,
        catches, nested,
    )  # fmt: skip


def with_nested(code: CodeType) -> set[CodeType]:
    """Return a function's code and all that is written inside of it."""
    found = {code}
    for inner in reads_of(code).nested:
        found |= with_nested(inner)
    return found
