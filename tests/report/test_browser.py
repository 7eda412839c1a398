"""The pages in a real browser, with the network off: what is drawn, and what can be done with it."""

import os
import re

import pytest
from scripts.draw_figures import chromium, find_chromium

from tests.report.samples import HOSTILE, comparison, write_run
from unspool.report import write_comparison_report, write_run_report

pytest.importorskip("playwright", reason="Playwright is not installed; it is in the extra dev")
PATH = find_chromium()
pytestmark = pytest.mark.skipif(PATH is None, reason="no Chromium on the PATH, and UNSPOOL_CHROMIUM names none")

# By figure: how many lines or groups of bars or heatmaps it has.
DRAWN = {
    "run": {"Loss": 4, "Accuracy": 3, "Learning rate": 1, "Confusion": 1, "Length and accuracy": 1},
    "comparison": {
        "Time of a training step": 3,
        "Time to build": 3,
        "Time of the first call": 4,
        "Peak memory": 3,
        "Size of the graph": 2,
        "Seconds of a training epoch": 2,
        "Share of the computed tokens that are real": 2,
    },
}
COUNT = """() => Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => [
  figure.querySelector("figcaption").textContent,
  figure.querySelectorAll(".scatterlayer .trace, .barlayer .trace, .heatmaplayer .hm").length,
]))"""

FIRST = {"run": (400, "dark"), "comparison": (1100, "light")}
"""How wide each page is when it is opened, and for which scheme of colours."""

GROUND = '() => document.querySelector(".plot .main-svg").style.background'


@pytest.fixture(scope="module")
def browser():
    assert PATH is not None
    with chromium(PATH) as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")
    return {
        "run": write_run_report(write_run(directory / "run")),
        "comparison": write_comparison_report(comparison(), directory / "comparison.html"),
    }


@pytest.fixture(scope="module")
def opened(browser, files):
    """Open each page once, with the network off, and write down what it asks for and complains of.

    One is narrow and dark at first; tests get it as they get the other.
    """
    pages, requests, messages = {}, [], []

    def open_page(name):
        width, scheme = FIRST[name]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: messages.append(f"dialog: {dialog.message}"))
        page.goto(files[name].as_uri())
        page.wait_for_selector("html[data-drawn]")
        look_at(page, name, width)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1100, "height": 900})
        page.wait_for_function(f'({GROUND})() === "rgb(255, 255, 255)"')
        page.wait_for_function('document.querySelector(".plot .main-svg").clientWidth > 480')
        return page

    def show(name):
        if name not in pages:
            pages[name] = open_page(name)
        return pages[name]

    return show, requests, messages


@pytest.fixture
def show(opened, files):
    """Show a page; at the test's end nothing may have been asked of the network, and nothing complained of."""
    show, requests, messages = opened
    yield show
    assert messages == []
    assert requests
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} <= {f.as_uri() for f in files.values()}


def look_at(page, name, width):
    """Assert that every plot is drawn, in a size to be seen, and that nothing hangs over."""
    assert page.evaluate(COUNT) == DRAWN[name]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.evaluate(
        '() => [...document.querySelectorAll(".plot .main-svg:first-child")].map((svg) => svg.getBoundingClientRect())'
    )
    assert all(box["width"] > 300 and box["height"] > 150 for box in boxes)


@pytest.mark.parametrize("name", FIRST)
def test_every_plot_is_drawn_and_nothing_hangs_over(show, name):
    look_at(show(name), name, 1100)


@pytest.mark.parametrize(("name", "words"), [("run", "training, 1: 1.5"), ("comparison", "T = 10: 1.00 ms (quartiles")])
def test_a_point_says_what_it_is(show, name, words):
    page = show(name)
    first = 1 if name == "run" else 0  # before it is the line of single steps, which has no points
    point = page.locator(".plot").first.locator(".scatterlayer .trace").nth(first).locator(".point").first
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = page.locator(".hoverlayer .hovertext").first
    label.wait_for()
    assert words in label.text_content()


@pytest.mark.parametrize("name", DRAWN)
def test_a_click_on_a_name_hides_its_line_and_another_shows_it(show, name):
    page = show(name)
    plot = page.locator(".plot").first
    traces = plot.locator(".scatterlayer .trace")
    before = traces.count()
    for expected in (before - 1, before):
        plot.locator(".legendtoggle").first.click()
        page.wait_for_function(
            'count => document.querySelector(".plot").querySelectorAll(".scatterlayer .trace").length === count',
            arg=expected,
        )
    assert traces.count() == before


def test_names_are_shown_as_they_stand(show):
    page = show("comparison")
    assert HOSTILE in page.locator(".plot").first.locator(".legendtext").all_text_contents()
    assert page.locator("b, script:not([class])").count() == 2  # plotly.js and the page's own


def test_colours_follow_the_reader_and_paper_is_light(show):
    page = show("run")
    light = page.evaluate(GROUND)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => ({GROUND})() !== light", arg=light)
    assert page.evaluate(GROUND) == "rgb(23, 27, 33)"
    page.evaluate('dispatchEvent(new Event("beforeprint"))')
    page.wait_for_function(f"light => ({GROUND})() === light", arg=light)
    widths = page.evaluate('[...document.querySelectorAll(".plot .main-svg")].map((svg) => svg.clientWidth)')
    assert set(widths) == {680}
    page.evaluate('dispatchEvent(new Event("afterprint"))')
    page.emulate_media(color_scheme="light")


def test_a_narrower_window_redraws(show):
    page = show("comparison")
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function('document.querySelector(".plot .main-svg").clientWidth < 380')
    look_at(page, "comparison", 400)
    page.set_viewport_size({"width": 1100, "height": 900})
    page.wait_for_function('document.querySelector(".plot .main-svg").clientWidth > 480')


def test_the_page_itself_refuses_the_network(opened):
    show, requests, messages = opened
    page, before = show("run"), (len(requests), len(messages))
    refused = page.evaluate("""() => new Promise((resolve) => {
        addEventListener("securitypolicyviolation", (event) => resolve([event.violatedDirective, event.blockedURI]));
        fetch("https://example.org/").then(() => resolve("answered"), () => setTimeout(resolve, 1000, "failed"));
    })""")
    assert refused == ["connect-src", "https://example.org/"]
    assert len(messages) > before[1]
    del requests[before[0] :], messages[before[1] :]  # other tests look for their own


def test_the_browser_is_the_one_named(monkeypatch):
    monkeypatch.setenv("UNSPOOL_CHROMIUM", os.fspath("/some/where"))
    assert find_chromium() == "/some/where"
    monkeypatch.setenv("UNSPOOL_CHROMIUM", "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_chromium() is None


def test_figures_of_the_documentation(browser, tmp_path):
    from scripts.draw_figures import draw, figures_of

    epochs = [
        {"epoch": n, "train_loss": 2 / n, "val_loss": 1 / n, "train_accuracy": 0.5, "val_accuracy": 0.4} for n in (1, 2)
    ]
    curves = {"recipe": "vowels", "runs": [{"seed": 0, "epochs": epochs, "test_accuracy": 0.9}]}
    figures = figures_of("vowels", curves) | figures_of("compare", comparison())
    drawn = draw(browser, figures, tmp_path / "first")
    assert [path.name for path in drawn[:2]] == ["vowels.svg", "compare-step_s.svg"]
    contents = [path.read_text(encoding="utf-8") for path in drawn]
    assert [len(re.findall('class="trace scatter', svg)) for svg in contents] == [5, 3, 3, 4, 3, 2]
    assert all(svg.startswith("<svg ") and svg.endswith("</svg>\n") for svg in contents)
    for path in draw(browser, dict(list(figures.items())[:1]), tmp_path / "again"):
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes()
