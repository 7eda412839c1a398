"""Following the page on adding an operation adds one: its edits are made in a copy; no engine is compiled."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import unspool._engine
from tests.docs.pages import PAGES, ROOT
from tests.mutants.processes import OWN_PATHS

PAGE = PAGES["docs/dev/adding-an-operation.md"]
EDIT = re.compile(r"^## \d\. [^\n]*: `(?P<file>[^\n]+)`$|^```diff\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = ("src", "tests", "docs", "native")
CHECKS = """
import math, torch
from tests.program import test_operations
from tests.program.rules import test_rules
from tests.program.steps import StepCell
from unspool.backends.native import load_engine
from unspool.program.operations import OPERATIONS
from unspool.program.read import read_step

torch.set_default_dtype(torch.float64)
for text in ("(h.abs() + 1).log2()", "torch.log2(h * h + 0.5)"):
    (number,) = (k for k, texts in enumerate(test_rules.GROUPS) if text in texts)
    alone = read_step(StepCell(test_rules.step_of(text)), *test_rules.posed(), None)
    assert "log2" in test_operations.made_of(alone)
    test_rules.test_spellings_give_the_numbers_and_gradients_of_pytorch(number)
test_operations.test_a_pointwise_operation_has_a_gradient_for_each_argument(OPERATIONS["log2"])
test_operations.test_what_is_read_is_on_the_page(OPERATIONS["log2"])
test_operations.test_the_engine_has_the_operations_in_the_same_order()
print(load_engine())
"""


def edits() -> list[tuple[str, str, str]]:
    """Return the files that the page changes: what stands in them, and what takes its place."""
    found, file = [], ""
    for piece in EDIT.finditer(PAGE):
        if piece["file"]:
            file = piece["file"]
            continue
        lines = piece["lines"].splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
        found.append((file, before, after))
    return found


def test_an_operation_that_is_added_as_the_page_says_is_one(tmp_path: Path):
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    engine = Path(unspool._engine.__file__)
    (tmp_path / "sitecustomize.py").write_text(OWN_PATHS, encoding="utf-8")
    (tmp_path / "src/unspool" / engine.name).symlink_to(engine)
    assert len(edits()) == 5
    for file, before, after in edits():
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file} has not once: {before}"
        (tmp_path / file).write_text(text.replace(before, after), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "src"), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", CHECKS], env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "its unary operation 40 is None, and unspool's is log2; reinstall" in done.stdout
