"""Pages: text, tables and plots in one HTML file that asks nothing of the network."""

import contextlib
import html
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from unspool.training.errors import RunError

from ._plotly import plotly_script


class Block(Protocol):
    """A part of a section: it knows how it is written in HTML."""

    def html(self) -> str:
        """Return the block as HTML, with everything escaped that is not its own."""
        ...


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Parameters
    ----------
    text : str
        Its words.
    """

    text: str

    def html(self) -> str:
        """Return the paragraph."""
        return f"<p>{html.escape(self.text)}</p>"


@dataclass(frozen=True)
class Note:
    """A paragraph that stands out: what a reader must know before trusting what is around it.

    Parameters
    ----------
    text : str
        Its words.
    """

    text: str

    def html(self) -> str:
        """Return the paragraph, marked as a note."""
        return f'<p class="note">{html.escape(self.text)}</p>'


@dataclass(frozen=True)
class Facts:
    """A few figures in large print.

    Parameters
    ----------
    facts : sequence of (str, str)
        What each is, and its value.
    """

    facts: Sequence[tuple[str, str]]

    def html(self) -> str:
        """Return a list of names and values."""
        pairs = "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in self.facts
        )
        return f'<dl class="facts">{pairs}</dl>'


@dataclass(frozen=True)
class Table:
    """A table; on a narrow screen it scrolls within its own place.

    Parameters
    ----------
    rows : sequence of sequence of str
        The cells; the first of each row names the row.
    header : sequence of str
        The names of the columns; none where the rows are names and values.
    numbers : collection of int
        The columns that are set to the right, counted from 0.
    """

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    numbers: Collection[int] = ()

    def html(self) -> str:
        """Return the table."""
        head = "".join(self._cell("th", column, name, "col") for column, name in enumerate(self.header))
        body = "".join(
            f"<tr>{self._cell('th', 0, row[0], 'row')}"
            + "".join(self._cell("td", column, cell) for column, cell in enumerate(row[1:], 1))
            + "</tr>"
            for row in self.rows
        )
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        return f'<div class="scroll" tabindex="0"><table>{head}<tbody>{body}</tbody></table></div>'

    def _cell(self, tag: str, column: int, text: str, scope: str = "") -> str:
        scope = f' scope="{scope}"' if scope else ""
        number = ' class="number"' if column in self.numbers else ""
        return f"<{tag}{scope}{number}>{html.escape(text)}</{tag}>"


@dataclass(frozen=True)
class Figure:
    """A plot.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        The plot. Its font, its grid and its ground get their colours from the page, light or dark; its names are
        escaped already (`escape`), since Plotly reads a little HTML in them.
    title : str
        What it shows, in a line above it.
    caption : str
        What is to be known beside it.
    min_width : int
        Pixels below which it is not drawn but scrolls within its own place.
    """

    figure: Any
    title: str
    caption: str = ""
    min_width: int = 0

    def html(self) -> str:
        """Return an empty place, and beside it the figure as JSON, from which the page's script draws."""
        # "<" would end the element; JSON is the same with the character's number.
        data = json.dumps(json.loads(self.figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")
        title = html.escape(self.title)
        caption = f'<p class="caption">{html.escape(self.caption)}</p>' if self.caption else ""
        return (
            f'<figure><figcaption>{title}</figcaption><div class="scroll" tabindex="0">'
            f'<div class="plot" role="img" aria-label="{title}" style="min-width:{int(self.min_width)}px"></div></div>'
            f'<script type="application/json" class="plot-data">{data}</script>{caption}</figure>'
        )


@dataclass(frozen=True)
class Folded:
    """Blocks that open with a click; plots do not belong here, since they need a width to be drawn.

    Parameters
    ----------
    summary : str
        What is written on the closed fold.
    blocks : sequence of Block
        What is in it.
    """

    summary: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """Return the fold, closed."""
        return f"<details><summary>{html.escape(self.summary)}</summary>{_join(self.blocks)}</details>"


@dataclass(frozen=True)
class Section:
    """A part of a page under a title of its own.

    Parameters
    ----------
    title : str
        Its title.
    blocks : sequence of Block
        What is in it.
    """

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page.

    Parameters
    ----------
    title : str
        Its title.
    lead : str
        What it is about, in a sentence or two.
    top : sequence of Block
        What is seen first.
    sections : sequence of Section
        The rest.
    """

    title: str
    lead: str
    top: Sequence[Block]
    sections: Sequence[Section]

    def html(self) -> str:
        """Return the page as one HTML document."""
        style, script = (
            resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
            for name in ("page.css", "page.js")
        )
        links = "".join(
            f'<a href="#part-{number}">{html.escape(section.title)}</a>'
            for number, section in enumerate(self.sections, 1)
        )
        parts = "\n".join(
            f'<section id="part-{number}"><h2>{html.escape(section.title)}</h2>{_join(section.blocks)}</section>'
            for number, section in enumerate(self.sections, 1)
        )
        title = html.escape(self.title)
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="lead">{html.escape(self.lead)}</p></header>
<nav aria-label="Parts of this page">{links}</nav>
<main>
<noscript><p class="note">The plots need JavaScript; the tables do not.</p></noscript>
{_join(self.top)}
{parts}
</main>
<script>{plotly_script()}</script>
<script>
{script}</script>
</body>
</html>
"""


# The browser itself refuses whatever would leave the page. Plotly styles its plots and saves them as images.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def escape(text: str) -> str:
    """Return `text` for a name in a Plotly figure, where a little HTML would be obeyed."""
    return html.escape(text, quote=False)


def write_page(path: str | Path, page: Page) -> Path:
    """Write a page so that it is there as a whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; a former one is replaced.
    page : Page
        What to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    path = Path(path)
    content = page.html()
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(content, encoding="utf-8", newline="")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise RunError(f"cannot write the report {path}: {error.strerror}; name another file with --output") from error
    return path


def _join(blocks: Sequence[Block]) -> str:
    return "\n".join(block.html() for block in blocks)
