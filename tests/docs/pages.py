"""The pages of the documentation, taken apart: code, commands, links, headings.

A page's Python blocks are one program, from the top to the bottom. What a reader need not see stands in comments of
HTML, which no page shows:

- ``<!-- python`` ... ``-->`` is run where it stands: imports, the model that a line is about, what a line should give.
  `ROOT` is there: the repository.
- ``<!-- not run: reason -->`` before a block: it is compiled and not run.
- ``<!-- data: folder -->`` before a block: it is run where the folder is in the directory that UNSPOOL_DATA_DIR names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob("examples/*.md"),
            *ROOT.glob("native/*.md"),
            *ROOT.glob("src/**/README.md"),
        ]
    )
}
PIECE = re.compile(
    r"^<!-- python\n(?P<hidden>.*?)^-->$"
    r"|^<!-- not run: (?P<reason>.+?) -->$"
    r"|^<!-- data: (?P<folder>\S+) -->$"
    r"|^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block, or hidden code, with the line that it begins at, and the marks that stand before it."""

    language: str
    code: str
    line: int
    hidden: bool = False
    not_run: str = ""
    folder: str = ""


def blocks(text: str) -> list[Block]:
    """Return the fenced and the hidden blocks of a page, in their order."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    for piece in PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 2
        if piece["reason"] or piece["folder"]:
            marks = {"not_run": piece["reason"]} if piece["reason"] else {"folder": piece["folder"]}
            continue
        hidden = piece["hidden"] is not None
        language, code = ("python", piece["hidden"]) if hidden else (piece["language"], piece["code"])
        found.append(Block(language, code, line, hidden, **marks))
        marks = {}
    return found


def prose(text: str) -> str:
    """Return a page without its blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text: str) -> list[str]:
    """Return what stands in single backquotes, line breaks as blanks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def links(text: str) -> list[str]:
    """Return the targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(text: str) -> Iterator[str]:
    """Yield the shell commands of a page: of blocks for a shell, and in single backquotes."""
    for block in blocks(text):
        if block.language in ("", "console") and not block.hidden:
            for line in block.code.replace("\\\n", " ").splitlines():
                yield re.sub(r"\s+#.*|\s*<<.*", "", line).removeprefix("$ ").strip()
    yield from inline_code(text)
