import copy
import json

import pytest

from tests.report.samples import HOSTILE, comparison
from unspool.report import _style, comparison_figures, read_comparison, write_comparison_report
from unspool.report._comparison import comparison_page
from unspool.training import RunError

SHOWN = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def words(sample):
    return "".join(block.html() for section in comparison_page(sample).sections for block in section.blocks)


def traces(figure):
    return [(trace.name, trace.x, trace.y) for trace in figure.figure.data]


def test_it_is_written(tmp_path):
    path = write_comparison_report(comparison(), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    for said in ("unspool compare --quick", "a processor", "2.13.0", "made-up reviews", "no Python with Keras"):
        assert said in text


def test_a_figure_for_each_measure_with_a_line_for_each_contender():
    figures = comparison_figures(comparison())
    assert list(figures) == ["step_s", "build_s", "first_call_s", "peak_mb", "graph_nodes"]
    assert traces(figures["step_s"]) == [
        ("unspool dynamic", (10, 400), (pytest.approx(1), pytest.approx(40))),
        ("unrolled", (10,), (pytest.approx(3),)),
        (SHOWN, (10,), (pytest.approx(10),)),
    ]
    assert traces(figures["graph_nodes"]) == [("unspool dynamic", (10, 400), (21, 21)), ("unrolled", (10,), (500,))]
    dashes = [trace.line.dash for trace in figures["peak_mb"].figure.data]
    assert dashes == ["solid", "dash", "solid"]
    colours = {field: [trace.line.color for trace in drawn.figure.data] for field, drawn in figures.items()}
    assert colours["step_s"] == colours["peak_mb"] == [_style.BLUE[0], _style.GREEN[0], _style.VERMILION[0]]
    assert figures["step_s"].figure.layout.xaxis.type == "log"
    assert figures["step_s"].figure.layout.yaxis.type == "log"


def test_values_that_are_near_each_other_are_on_a_linear_axis():
    sample = comparison()
    sample["scaling"] = sample["scaling"][:2]
    axis = comparison_figures(sample)["graph_nodes"].figure.layout.yaxis
    assert (axis.type, axis.rangemode) == (None, "tozero")


def test_quartiles_are_bars():
    bars = comparison_figures(comparison())["step_s"].figure.data[0].error_y
    assert bars.array == pytest.approx((0.5, 20))
    assert bars.arrayminus == pytest.approx((0.1, 4))


def test_a_case_over_the_limit_is_marked_there_and_named():
    figure = comparison_figures(comparison())["first_call_s"]
    mark = next(trace for trace in figure.figure.data if trace.marker.symbol == _style.OVER_LIMIT_SYMBOL)
    assert (mark.name, mark.x, mark.y, mark.showlegend) == ("unrolled", (400,), (180,), False)
    assert mark.customdata == ("unrolled<br>T = 400: the first call took more than 180 s",)
    assert figure.caption.startswith("Crosses: ended at the limit of 180 s, unrolled (T = 400).")


def test_a_contender_that_is_only_over_the_limit_is_in_the_legend():
    sample = comparison()
    sample["scaling"] = [case for case in sample["scaling"] if case["contender"] != "unrolled" or case["steps"] == 400]
    figure = comparison_figures(sample)["first_call_s"]
    assert [trace.showlegend for trace in figure.figure.data if trace.name == "unrolled"] == [True]


def test_over_the_limit_after_the_first_call_is_marked_among_the_steps():
    sample = comparison()
    sample["scaling"][3]["first_call_s"] = 12.0
    figures = comparison_figures(sample)
    assert "Crosses" not in figures["first_call_s"].caption
    assert "Crosses" in figures["step_s"].caption
    assert figures["step_s"].figure.data[2].y == (180_000,)


def test_what_a_figure_does_not_show_is_named():
    figures = comparison_figures(comparison())
    assert figures["peak_mb"].caption == (
        f"Not shown: more than 180 s, unrolled (T = 400); failed, {HOSTILE} (T = 400)."
    )
    assert figures["graph_nodes"].caption.endswith(
        f"failed, {HOSTILE} (T = 400); without this figure, {HOSTILE} (T = 10)."
    )


def test_zero_on_a_logarithmic_axis_is_named_and_not_drawn():
    sample = comparison()
    sample["scaling"][0]["peak_mb"], sample["scaling"][1]["peak_mb"] = 0.0, 60_000.0
    figure = comparison_figures(sample)["peak_mb"]
    assert figure.figure.data[0].x == (400,)
    assert "0 or less, unspool dynamic (T = 10)" in figure.caption


def test_what_nobody_measured_has_no_figure():
    sample = comparison()
    for case in sample["scaling"]:
        case["graph_nodes"] = None
    assert "graph_nodes" not in comparison_figures(sample)


def test_the_longer_sequence():
    html = words(comparison())
    assert "<td>runs on</td>" in html
    assert '<td class="number">0.0123</td>' in html
    assert "<td>refuses</td>" in html
    assert "<td>150 steps &lt;given&gt;</td>" in html


def test_batching():
    blocks = next(section for section in comparison_page(comparison()).sections if section.title == "Batches").blocks
    seconds = next(block for block in blocks if getattr(block, "title", "").startswith("Seconds"))
    share = next(block for block in blocks if getattr(block, "title", "").startswith("Share"))
    assert traces(seconds) == [("unspool dynamic", ("padded", "ragged"), (31.25, 18)), (SHOWN, ("padded",), (76,))]
    assert share.figure.data[0].text == ("53%", "100%")  # pyright: ignore[reportAttributeAccessIssue]
    sample = comparison()
    sample["batching"] = None
    assert "Batches" not in [section.title for section in comparison_page(sample).sections]


def test_a_contender_of_the_batches_alone_has_its_librarys_hue():
    sample = comparison()
    sample["batching"]["modes"][1]["contender"] = "unspool packed"
    blocks = next(section for section in comparison_page(sample).sections if section.title == "Batches").blocks
    bars = next(block for block in blocks if getattr(block, "title", "").startswith("Seconds")).figure.data  # pyright: ignore[reportAttributeAccessIssue]
    assert [bar.marker.color for bar in bars] == list(_style.BLUE[:2])


def change(sample, path, value):
    *places, last = path
    for place in places:
        sample = sample[place]
    if value is KeyError:
        del sample[last]
    else:
        sample[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "received a comparison of format 2; this version of unspool reads format 1"),
        (("format",), KeyError, "received no comparison: no field format"),
        (("machine",), KeyError, "machine is absent; expected dict"),
        (("settings", "limit_s"), "3", "settings.limit_s is '3'; expected int or float"),
        (("scaling", 1), 7, r"scaling\[1\] is 7; expected an object"),
        (("scaling", 1, "step_s"), "1", r"scaling\[1\].step_s is '1'; expected int or float or null"),
        (("longer", 0, "outcome"), KeyError, r"longer\[0\].outcome is absent"),
        (("batching", "modes", 2, "mode"), None, r"batching.modes\[2\].mode is None; expected str"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_other_contents_are_one_error(tmp_path, path, value, message):
    sample = copy.deepcopy(comparison())
    change(sample, path, value)
    with pytest.raises(RunError, match=message):
        write_comparison_report(sample, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_is_read_from_its_file(tmp_path):
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(comparison()))
    assert read_comparison(str(path)) == comparison()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"compare\.json: no comparison, or a damaged one \(Expecting.*write it anew with `unspool compare`"),
        ("\udcff", "no comparison, or a damaged one"),
        ("[]", "received no comparison"),
        (None, r"cannot read .*compare\.json: No such file"),
    ],
    ids=["cut off", "not UTF-8", "a list", "absent"],
)
def test_other_files_are_one_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "compare.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=message):
        read_comparison(tmp_path / "compare.json")


def test_no_object_at_all(tmp_path):
    with pytest.raises(RunError, match="received no comparison"):
        write_comparison_report([], tmp_path / "report.html")  # pyright: ignore[reportArgumentType]
