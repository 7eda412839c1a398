"""Pages: one HTML file that asks nothing of the network."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from unspool._writing import write_whole
from unspool.report._blocks import Block, join
from unspool.report._plotly import plotly_script
from unspool.training.errors import RunError

# The browser itself refuses whatever would leave the page. Plotly styles its plots and saves them as images.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


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

    def _repr_html_(self) -> str:
        """The page in a frame, as a notebook shows it: its styles and scripts are its own."""
        frame = "width: 100%; height: 40em; border: 1px solid #8888"
        return f'<iframe style="{frame}" srcdoc="{html.escape(self.html())}"></iframe>'

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
            f'<section id="part-{number}"><h2>{html.escape(section.title)}</h2>{join(section.blocks)}</section>'
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
{join(self.top)}
{parts}
</main>
<script>{plotly_script()}</script>
<script>
{script}</script>
</body>
</html>
"""


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
    content = page.html().encode(errors="backslashreplace")
    try:
        write_whole(path, content, flush=False)
    except OSError as error:
        raise RunError(f"cannot write the report {path}: {error.strerror}; name another file with --output") from error
    return path
