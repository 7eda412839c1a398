"""Resolve ``package.module:name`` and ``path/to/file.py:name`` on the command line."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

EXPECTED = "expected package.module:name or path/to/file.py:name"


class TargetError(ValueError):
    """A name on the command line cannot be resolved or used; the message says what to write."""


def find(target: str) -> tuple[ModuleType, Any]:
    """Import the object that a target names. Exceptions raised by the user's code propagate unchanged.

    Parameters
    ----------
    target : str
        `package.module:name` or `path/to/file.py:name`; the name may have dots.

    Returns
    -------
    module : module
    value : object
        The object of that name in the module.

    Raises
    ------
    TargetError
        If the target has another form, or there is no such file, module or name.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise TargetError(f"received {target!r}; {EXPECTED}.")
    module = value = _file(Path(place)) if place.endswith(".py") else _module(place)
    for part in name.split("."):
        if not hasattr(value, part):
            there = ", ".join(key for key in vars(module) if not key.startswith("_")) or "nothing"
            raise TargetError(f"{place} has no {name}; it has {there}.")
        value = getattr(value, part)
    return module, value


def made(value: Any, target: str) -> Any:
    """Return a value, or the result of calling it if it is a function or class without required arguments.

    Parameters
    ----------
    value : object
    target : str
        Its name on the command line, for the error.

    Raises
    ------
    TargetError
        If it needs arguments.
    """
    if not inspect.isroutine(value) and not inspect.isclass(value):
        return value
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise TargetError(
            f"{target} cannot be called without arguments ({error}); "
            "write a function without arguments that returns it."
        ) from None
    return value()


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}; {EXPECTED}.")
    path = path.resolve()
    name = f"unspool_target_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # as Python does for a script
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {error.name}; {EXPECTED}.") from None
