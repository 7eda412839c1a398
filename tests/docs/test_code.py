"""The Python blocks of every page are run, from the top to the bottom, as one program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks

PYTHON = {page: found for page, text in PAGES.items() if (found := [b for b in blocks(text) if b.language == "python"])}


def test_marks_are_known_and_belong_to_a_block():
    for page, text in PAGES.items():
        found = blocks(text)
        for start, number in (
            ("<!-- python\n", sum(b.hidden for b in found)),
            ("<!-- not run", sum(bool(b.not_run) for b in found)),
            ("<!-- data:", sum(bool(b.folder) for b in found)),
        ):
            assert text.count(start) == number, f"{page}: {start.strip()}"


def compiled(page: str, block: Block) -> Any:
    """Compile a block so that errors name the page and its line."""
    return compile("\n" * (block.line - 1) + block.code, str(ROOT / page), "exec")


def there(folder: str) -> bool:
    data = os.environ.get("UNSPOOL_DATA_DIR")
    return not folder or (data is not None and (Path(data) / folder).exists())


# PyTorch's own: exporting defines scripted classes and copies structures through a class that it has deprecated; its
# exporter to ONNX warns of an axis that has one name in two inputs, as it should.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("page", PYTHON)
def test_the_blocks_run(page, decoded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(decoded))
    names: dict[str, Any] = {"__name__": "__main__", "ROOT": ROOT}
    left = []
    for block in PYTHON[page]:
        code = compiled(page, block)
        if not there(block.folder):
            left.append(f"line {block.line} needs {block.folder} in the directory that UNSPOOL_DATA_DIR names")
        elif not block.not_run:
            exec(code, names)
    if left:
        pytest.skip(f"the other blocks ran; {'; '.join(left)}")
