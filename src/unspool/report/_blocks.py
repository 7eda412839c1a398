"""Parts of a page: text, tables and plots. Each knows how it is written in HTML, and escapes what is not its own."""

import html
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LONG = 60
"""Characters from which a cell of a table is kept wide enough to be read."""


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
        kind = "number" if column in self.numbers else "long" if len(text) >= LONG else ""
        kind = f' class="{kind}"' if kind else ""
        return f"<{tag}{scope}{kind}>{html.escape(text)}</{tag}>"


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
    min_width, max_width : int
        Pixels: a narrower place scrolls, a wider one is not filled. 0 stands for no bound.
    """

    figure: Any
    title: str
    caption: str = ""
    min_width: int = 0
    max_width: int = 0

    def html(self) -> str:
        """Return an empty place, and beside it the figure as JSON, from which the page's script draws."""
        # "<" would end the element; JSON is the same with the character's number.
        data = json.dumps(json.loads(self.figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")
        title = html.escape(self.title)
        caption = f'<p class="caption">{html.escape(self.caption)}</p>' if self.caption else ""
        bounds = (("least", self.min_width), ("most", self.max_width))
        style = ";".join(f"--{name}:{int(pixels)}px" for name, pixels in bounds if pixels)
        focus = ' tabindex="0"' if self.min_width else ""
        return (
            f'<figure><figcaption>{title}</figcaption><div class="scroll"{focus}>'
            f'<div class="plot" role="img" aria-label="{title}" style="{style}"></div></div>'
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
        return f"<details><summary>{html.escape(self.summary)}</summary>{join(self.blocks)}</details>"


def escape(text: str) -> str:
    """Return `text` for a name in a Plotly figure, where a little HTML would be obeyed."""
    return html.escape(text, quote=False)


def join(blocks: Sequence[Block]) -> str:
    """Return blocks as HTML, one below the other."""
    return "\n".join(block.html() for block in blocks)
