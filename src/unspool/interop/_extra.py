"""Import packages that only some converters need."""

from __future__ import annotations

import importlib
from types import ModuleType


def needed(package: str, purpose: str) -> ModuleType:
    """Import a package of the extra `interop`.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{purpose} needs {error.name}, which is not installed.\nInstall it with: pip install 'unspool[interop]'"
        ) from error
