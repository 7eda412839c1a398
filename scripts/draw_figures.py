"""Draw the figures of the documentation as SVG: docs/results/*.json to docs/figures/*.svg.

``python scripts/draw_figures.py`` draws learning curves (JSON with "runs") as NAME.svg and comparisons (JSON with
"scaling") as NAME-step_s.svg, NAME-peak_mb.svg and so on. It needs the extras ``report`` and ``dev``, and Chromium,
which is looked for on the PATH, or is what UNSPOOL_CHROMIUM names.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from unspool.report import Figure, Page, Section, comparison_figures, recipe_figure, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 860
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_IMAGES = """() => Promise.all([...document.querySelectorAll(".plot")].map(
  (box) => Plotly.toImage(box, {format: "svg", width: box._fullLayout.width, height: box._fullLayout.height})
))"""
_PREFIX = "data:image/svg+xml,"


def find_chromium() -> str | None:
    """Return the path of Chromium, or None: what UNSPOOL_CHROMIUM names, else the first one on the PATH."""
    named = os.environ.get("UNSPOOL_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium(path: str) -> Iterator["Browser"]:
    """Run Chromium without a window.

    Parameters
    ----------
    path : str
        The program.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()


def figures_of(name: str, content: dict) -> dict[str, Figure]:
    """Return the figures to be drawn from one JSON file, by the names of their files.

    Parameters
    ----------
    name : str
        The name of the file, without its ending.
    content : dict
        Learning curves, or a comparison.
    """
    if "runs" in content:
        return {name: recipe_figure(content)}
    return {f"{name}-{field}": figure for field, figure in comparison_figures(content).items()}


def draw(browser: "Browser", figures: dict[str, Figure], directory: Path) -> list[Path]:
    """Write figures as SVG files, byte by byte the same whenever they are drawn with the same Chromium and fonts.

    Parameters
    ----------
    browser : Browser
        Chromium.
    figures : dict of Figure
        By the names of their files.
    directory : Path
        Where the files go.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = write_page(Path(folder) / "figures.html", Page("", "", (), [Section("", list(figures.values()))]))
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]")
        images = page.evaluate(_IMAGES)
        page.close()
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, image in zip(figures, images, strict=True):
        svg = unquote(image.removeprefix(_PREFIX))
        written.append(directory / f"{name}.svg")
        written[-1].write_text(_with_fixed_names(svg) + "\n", encoding="utf-8", newline="")
    return written


def _with_fixed_names(svg: str) -> str:
    """Number what Plotly names with six random digits."""
    numbers: dict[str, int] = {}

    def fixed(match: re.Match[str]) -> str:
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers)):06d}"

    return re.sub(r"\b(clip|defs-|topdefs-|legend|trace)([0-9a-f]{6})", fixed, svg)


def main() -> None:
    """Draw what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=DOCS / "results", help="where the JSON files are")
    parser.add_argument("--figures", type=Path, default=DOCS / "figures", help="where the SVG files go")
    options = parser.parse_args()
    sources = sorted(options.results.glob("*.json"))
    if not sources:
        raise SystemExit(f"{options.results} has no .json files; name another directory with --results")
    found = find_chromium()
    if found is None:
        raise SystemExit(f"none of {', '.join(_NAMES)} is on the PATH; install one, or name it in UNSPOOL_CHROMIUM")
    figures: dict[str, Figure] = {}
    for source in sources:
        figures |= figures_of(source.stem, json.loads(source.read_text(encoding="utf-8")))
    with chromium(found) as browser:
        for path in draw(browser, figures, options.figures):
            print(path)


if __name__ == "__main__":
    main()
