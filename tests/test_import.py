"""Importing the library costs PyTorch and NumPy only; the first run imports no compiler."""

from __future__ import annotations

import ast
import json
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
    "requests",
    "tokenizers",
    "safetensors",
    "h5py",
    "matplotlib",
    "pandas",
    "polars",
]

PROGRAM = """
import json, sys

STEPS = {
    "dependencies": "import torch, numpy",
    "unspool": "import unspool",
    "run": "unspool.dynamic_rnn(unspool.GRUCell(2, 3), torch.randn(3, 4, 2), backend='native')[0].sum().backward()",
    "more": "import unspool.interop, unspool.data",
}
found = {}
for name, statement in STEPS.items():
    exec(statement)
    found[name] = sorted(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """All modules that are imported after each of the steps of the program."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True)
    return {name: set(modules) for name, modules in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_packages_are_not_imported(imported, name):
    assert {"torch", "unspool", "unspool.interop", "unspool.data"} <= imported["more"]
    assert name not in imported["more"]


def test_no_package_is_imported_that_torch_and_numpy_do_not_import(imported):
    without, packages = ({name.partition(".")[0] for name in imported[step]} for step in ("dependencies", "more"))
    assert packages - without - {"unspool"} - sys.stdlib_module_names == set()


def test_what_is_not_always_wanted_is_not_imported(imported):
    assert "torch._dynamo" not in imported["unspool"]
    assert "unspool.interop" not in imported["unspool"]


def test_the_first_run_of_a_process_imports_no_compiler(imported):
    added = imported["run"] - imported["unspool"]
    assert len(added) < 20, added  # PyTorch's compiler takes more than a second


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
