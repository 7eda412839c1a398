"""Programs for processes of their own that need a module or two, and not PyTorch, whose import takes seconds."""

from pathlib import Path

import unspool

ROOT = Path(unspool.__file__).parents[1]


def bare(*packages: str) -> str:
    """Return the beginning of a program: modules of these packages are imported without what the packages import."""
    lines = ["import sys, types"]
    for package in packages:
        lines.append(f"sys.modules[{package!r}] = types.ModuleType({package!r})")
        lines.append(f"sys.modules[{package!r}].__path__ = [{str(ROOT.joinpath(*package.split('.')))!r}]")
    return "\n".join(lines) + "\n"
