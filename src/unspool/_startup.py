"""What the command ``unspool`` leaves for later: help should not wait for PyTorch, whose import takes seconds.

A package whose names wait has ``__getattr__ = later(__name__)`` in place of its imports, which are made when the first
of its names is asked for. In every process but the command's, nothing waits.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _is_command() -> bool:
    """Tell whether this process is the command: the script of that name, or ``python -m unspool`` as it starts."""
    called = sys.argv[0] if sys.argv else ""
    if called == "-m":
        return sys.orig_argv[sys.orig_argv.index("-m") :][1:2] == ["unspool"]
    return Path(called).stem == "unspool"


_is_waiting = _is_command()
_complete: set[str] = set()


def waits(package: str) -> bool:
    """Return whether a package leaves its imports for later.

    Parameters
    ----------
    package : str
        Its full name.
    """
    return _is_waiting and package not in _complete


def later(package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that waits.

    Parameters
    ----------
    package : str
        Its full name.
    """

    def attribute(name: str) -> Any:
        # `from unspool import _module` asks for the name before it looks for the module.
        if not name.startswith("_"):
            complete(package)
            if name in vars(sys.modules[package]):
                return vars(sys.modules[package])[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute


def complete(package: str) -> None:
    """Make the imports of a package, if it still waits.

    Parameters
    ----------
    package : str
        Its full name; it has been imported.
    """
    if waits(package):
        _complete.add(package)
        module = sys.modules[package]
        del vars(module)["__getattr__"]
        importlib.reload(module)
