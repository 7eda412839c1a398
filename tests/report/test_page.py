import html
import json
import re
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from unspool.report import Facts, Figure, Folded, Note, Page, Section, Table, Text, write_page
from unspool.training import RunError

ODD = "<i>\"a\" & 'b'</i>"
ESCAPED = "&lt;i&gt;&quot;a&quot; &amp; &#x27;b&#x27;&lt;/i&gt;"


def page(*blocks):
    return Page("Title", "Lead.", (), [Section("Part", blocks)])


@pytest.mark.parametrize(
    "block",
    [
        Text(ODD),
        Note(ODD),
        Facts([(ODD, ODD)]),
        Table([(ODD, ODD)], (ODD, ODD), numbers=[1]),
        Folded(ODD, [Text(ODD)]),
        Figure(go.Figure(), ODD, ODD),
        Page(ODD, ODD, [Text(ODD)], [Section(ODD, [])]),
    ],
    ids=lambda block: type(block).__name__,
)
def test_everything_is_escaped(block):
    written = block.html()
    assert "<i>" not in written
    assert written.count(ESCAPED) >= 1


def test_a_table_names_its_columns_and_rows():
    html = Table([("a", "1"), ("b", "x" * 60)], ("name", "count"), numbers=[1]).html()
    assert '<th scope="col">name</th><th scope="col" class="number">count</th>' in html
    assert '<tr><th scope="row">a</th><td class="number">1</td></tr>' in html
    assert '<td class="long">' in Table([("a", "x" * 60)]).html()
    assert "<thead>" not in Table([("a", "1")]).html()


def test_a_figure_is_json_that_cannot_end_its_element():
    figure = go.Figure(go.Scatter(x=[1], y=[float("nan")], name="</script><script>alert(1)</script>"))
    html = Figure(figure, "t", min_width=500, max_width=900).html()
    data = re.search(r'class="plot-data">(.*?)</script>', html)
    assert data
    assert "<" not in data[1]
    assert json.loads(data[1])["data"][0]["name"] == "</script><script>alert(1)</script>"
    assert json.loads(data[1])["data"][0]["y"] == [None]
    assert 'style="--least:500px;--most:900px"' in html


def test_a_page_is_one_file_that_names_no_other():
    written = page(Text("words"), Figure(go.Figure(), "t")).html()
    own = re.sub(r"<script>/\*\*.*?</script>", "", written, flags=re.DOTALL)  # without plotly.js
    assert len(own) < 20_000
    assert not re.search(r"https?:|//[a-z]|@import|url\(|src=", own.replace("// Draws the plots", ""))
    assert "default-src 'none'" in own
    assert written.count("* plotly.js v") == 1


def test_a_page_is_written_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("former")
    assert write_page(str(path), page(Text("new words"))) == path
    assert "new words" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("name", ["absent/page.html", "file/page.html", "folder"])
def test_a_page_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"cannot write the report .*; name another file with --output"):
        write_page(tmp_path / name, page())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_without_plotly_the_extra_is_named(tmp_path, monkeypatch):
    from tests.report.samples import comparison, write_run
    from unspool.report import write_comparison_report, write_run_report

    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    run = write_run(tmp_path / "run")
    for call in (lambda: write_run_report(run), lambda: write_comparison_report(comparison(), tmp_path / "c.html")):
        with pytest.raises(RunError, match=r"needs plotly.* not installed.\n.*'unspool\[train\]'"):
            call()
    assert not (run / "report.html").exists()


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert "<h1>My measurements</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_notebook_shows_a_page_in_a_frame_of_its_own():
    shown = page(Text(ODD))._repr_html_()
    found = re.fullmatch(r'<iframe style="[^"]*" srcdoc="([^"]*)"></iframe>', shown, re.DOTALL)
    assert found is not None
    assert html.unescape(found[1]) == page(Text(ODD)).html()
