"""Links and anchors lead somewhere, and the files and names that pages speak of are there."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

import unspool
from tests.docs.pages import PAGES, ROOT, anchors, blocks, inline_code, links

PLACES = ("", "src/unspool", "native", "benchmarks")  # where a path in a page may begin, beside the page's own folder
FILE = re.compile(r"[\w.*/-]+/[\w.*-]*\.(?:py|cpp|hpp|md|json|svg|toml|txt)$")


def test_links_lead_somewhere():
    wrong = []
    for page, link in ((page, link) for page, text in PAGES.items() for link in links(text)):
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if re.match(r"https?://", link):
            continue
        if not target.exists():
            wrong.append(f"{page}: {link}: no such file")
        elif anchor and anchor not in (known := anchors(PAGES[str(target.relative_to(ROOT))])):
            wrong.append(f"{page}: {link}: the page has {sorted(known)}")
    assert not wrong, "\n".join(wrong)


def test_files_are_there():
    wrong = []
    for page, code in ((page, code) for page, text in PAGES.items() for code in inline_code(text)):
        named = FILE.match(code) and not code.startswith(("path/to", "runs/"))
        if named and not any(list((ROOT / place).glob(code)) for place in PLACES):
            wrong.append(f"{page} speaks of {code}, which is nowhere")
    assert not wrong, "\n".join(wrong)


def test_every_page_can_be_reached_from_the_readme():
    found, new = set(), {"README.md"}
    while new:
        page = new.pop()
        found.add(page)
        for link in links(PAGES[page]):
            target = str(((ROOT / page).parent / link.partition("#")[0]).resolve())
            new |= {name for name in PAGES if str(ROOT / name) == target} - found
    assert found >= {page for page in PAGES if page.startswith("docs/")} - {"docs/dev/engine-log.md"}


def find(name: str) -> Any:
    """Return what a dotted name stands for, a module or something in one."""
    value: Any = unspool
    parts = name.split(".")[1:]
    for place, part in enumerate(parts):
        try:  # modules first: `unspool.doctor` is a package and a function
            value = importlib.import_module(".".join(["unspool", *parts[: place + 1]]))
        except ModuleNotFoundError:
            value = getattr(value, part)
    return value


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_library_are_there(page):
    text = "\n".join([*inline_code(PAGES[page]), *(b.code for b in blocks(PAGES[page]) if b.language == "python")])
    for name in sorted(set(re.findall(r"(?<![\w./])(?:us|unspool)((?:\.[A-Za-z]\w*)+)", text))):
        if name not in (".ts", ".safetensors"):
            find("unspool" + name)
