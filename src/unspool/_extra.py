"""Import packages that only some functions need."""

from __future__ import annotations

import importlib
from types import ModuleType


def needed(package: str, purpose: str, extra: str) -> ModuleType:
    """Import a package of an extra.

    Parameters
    ----------
    package : str
        The package, or a module in it.
    purpose : str
        What needs it, as the subject of a sentence.
    extra : str
        The extra that has it.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{purpose} needs {error.name}, which is not installed.\nInstall it with: pip install 'unspool[{extra}]'"
        ) from error
