"""Importing the library costs PyTorch and NumPy only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unspool

OPTIONAL = [
    "lightning",
    "pytorch_lightning",
    "torchmetrics",
    "typer",
    "rich",
    "pooch",
    "tokenizers",
    "safetensors",
    "h5py",
    "matplotlib",
    "pandas",
]


def modules_after(statement: str) -> list[str]:
    program = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    return result.stdout.split()


@pytest.fixture(scope="module")
def imported() -> set[str]:
    return {name.partition(".")[0] for name in modules_after("import unspool, unspool.interop")}


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_packages_are_not_imported(imported, name):
    assert "torch" in imported
    assert "unspool" in imported
    assert name not in imported


def test_no_package_is_imported_that_torch_and_numpy_do_not_import(imported):
    without = {name.partition(".")[0] for name in modules_after("import torch, numpy")}
    added = {name for name in imported - without - {"unspool"} if name not in sys.stdlib_module_names}
    assert added == set()


def test_what_is_not_always_wanted_is_not_imported():
    modules = modules_after("import unspool")
    assert "torch._dynamo" not in modules
    assert "unspool.interop" not in modules


def test_private_modules_are_imported_in_their_own_package_alone():
    """A module whose name starts with an underscore is no other package's business."""
    source, strangers = Path(unspool.__file__).parent, []
    for path in source.rglob("*.py"):
        package = path.relative_to(source).parts[0]
        froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        for imported in [(node.module or "").split(".") for node in froms]:
            private = any(part.startswith("_") for part in imported[2:])
            if imported[:1] == ["unspool"] and private and imported[1] != package:
                strangers.append((str(path.relative_to(source)), ".".join(imported)))
    assert strangers == []
