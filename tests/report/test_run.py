import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.report.samples import HOSTILE, log_rows, write_log, write_predictions, write_run
from tests.training.conftest import tiny
from unspool.report import recipe_figure, write_run_report
from unspool.report._curves import _positions, run_figures
from unspool.report._predictions import confusion_counts, length_bins, wilson_interval
from unspool.report._run import _page
from unspool.report._run_files import read_run
from unspool.training import RunError, fit


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def words(directory):
    """The report without plotly.js."""
    return _page(read_run(directory)).html().replace(script(), "")


def script():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def figure(directory, title):
    """A figure of the report as Plotly has it."""
    blocks: list[Any] = [block for section in _page(read_run(directory)).sections for block in section.blocks]
    return next(block for block in blocks if getattr(block, "title", None) == title).figure


def test_the_report_of_a_run_that_fit_has_made(tmp_path):
    result = fit(tiny(), tmp_path / "run", accelerator="cpu", show=False)
    path = write_run_report(result.directory)
    assert path == result.directory / "report.html"
    assert f"<dt>test accuracy</dt><dd>{result.test_accuracy:.4f}</dd>" in path.read_text(encoding="utf-8")
    assert "not finished" not in words(result.directory)
    traces = {trace.name: trace for trace in figure(result.directory, "Loss").data}
    assert list(traces) == ["training, single steps", "training", "held out", "test"]
    assert traces["held out"].x == (1, 2)
    assert traces["test"].y == (result.test_loss,)
    assert result.directory.joinpath("report.html") == write_run_report(str(result.directory))
    other = tmp_path / "other.html"
    assert write_run_report(result.directory, other) == other
    assert other.read_bytes() == path.read_bytes()


def test_what_is_in_the_report(run):
    html = words(run)
    assert "<h1>vowels, gru, dynamic</h1>" in html
    assert "<dt>test accuracy</dt><dd>0.8750</dd>" in html
    assert "<dt>parameters</dt><dd>12,345</dd>" in html
    assert "<dt>seconds per epoch</dt><dd>0.125</dd>" in html
    assert '<th scope="row">layers.1</th><td>kind gru, hidden_size 8, activation null</td>' in html
    assert '<th scope="row">learning_rate</th><td>0.005</td>' in html
    assert '<th scope="row">options</th><td>{}</td>' in html
    for said in ("unspool train vowels --model gru", "cpu a processor, cores 2", "torch 2.13.0"):
        assert said in html
    assert "<script>alert" not in html
    assert "<b>torch" not in html


def test_curves(run):
    files = read_run(run)
    assert [block.title for block in run_figures(files)] == ["Loss", "Accuracy", "Learning rate"]
    loss = {trace.name: trace for trace in run_figures(files)[0].figure.data}
    assert loss["training, single steps"].x == (0.5, 1.5, 2.5)
    assert loss["training, single steps"].y == (2, 1, pytest.approx(2 / 3))
    assert loss["training"].x == (1, 2, 3)
    assert loss["held out"].y == (1.25, 0.625, pytest.approx(1.25 / 3))
    assert (loss["test"].x, loss["test"].y) == ((3,), (0.25,))
    rate = run_figures(files)[2].figure.data[0]
    assert rate.x == (0.5, 1, 1.5, 2, 2.5, 3)
    assert rate.y == tuple(row["learning_rate"] for row in files.log)


def test_a_constant_learning_rate_needs_no_figure_and_far_losses_a_logarithm(run):
    rows = [{**row, "learning_rate": 0.1} for row in log_rows()]
    rows[-1]["val_loss"] = 0.001
    write_log(run, rows)
    figures = run_figures(read_run(run))
    assert [block.title for block in figures] == ["Loss", "Accuracy"]
    assert figures[0].figure.layout.yaxis.type == "log"
    assert figures[0].figure.layout.yaxis.title.text == "loss, logarithmic"


def test_without_accuracy_there_is_no_such_figure(run):
    write_log(run, [{n: v for n, v in row.items() if "accuracy" not in n} for row in log_rows()])
    assert [block.title for block in run_figures(read_run(run))] == ["Loss", "Learning rate"]


def test_losses_that_are_not_finite_are_said(run):
    rows = log_rows()
    rows[3]["val_loss"] = float("nan")
    rows[4]["loss"] = float("inf")
    write_log(run, rows)
    assert "From step 20 on, losses are not finite; those are left out." in words(run)
    write_run_report(run)


@pytest.mark.parametrize(
    ("rows", "position"),
    [
        ([{"epoch": 1, "step": 4, "loss": 1.0}], [4]),  # in steps: no epoch has ended
        ([*log_rows(1), {"epoch": 2, "step": 14, "loss": 1.0}], [0.5, 1, 1.4]),
    ],
    ids=["no epoch", "after one"],
)
def test_where_rows_of_an_epoch_that_has_not_ended_stand(run, rows, position):
    write_log(run, rows)
    assert _positions(read_run(run)) == pytest.approx(position)


def test_a_run_that_is_not_finished(run):
    for name in ("result.json", "test.npz"):
        (run / name).unlink()
    write_log(run, log_rows()[:3])
    html = words(run)
    assert "This run is not finished (1 of 3 epochs, step 15)." in html
    assert "<dt>held-out accuracy</dt><dd>0.2000</dd>" in html
    assert "tested" not in html
    assert "Test rows" not in html
    assert "Machine" not in html
    (run / "metrics.csv").unlink()
    html = words(run)
    assert "This run is not finished (0 of 3 epochs)." in html
    assert "Nothing is in metrics.csv yet." in html
    write_run_report(run)


def test_a_finished_run_without_predictions(run):
    (run / "test.npz").unlink()
    assert "There is no test.npz in the directory" in words(run)


def test_confusion(run):
    counts = confusion_counts(read_run(run).predictions, 3)  # pyright: ignore[reportArgumentType]
    assert counts.tolist() == [[2, 1, 0], [0, 3, 0], [1, 0, 1]]
    heatmap = figure(run, "Confusion").data[0]
    assert [list(row) for row in heatmap.text] == [["2", "1", ""], ["", "3", ""], ["1", "", "1"]]
    assert list(heatmap.z[2]) == [0.5, 0, 0.5]
    assert heatmap.customdata[0][1] == "true: one<br>predicted: two<br>1 of 3 (33.3%)"
    assert "&lt;b&gt;torch" in heatmap.customdata[2][2]
    html = words(run)
    cells = [html.split(f'<th scope="row">{name}</th>')[1].split("</tr>")[0] for name in ("one", "two")]
    assert cells[0].replace('<td class="number">', " ").replace("</td>", "").startswith(" 3 0.667 0.667<td>two (1)")
    assert cells[1].replace('<td class="number">', " ").replace("</td>", "").startswith(" 3 1.000 0.750<td>-")


@pytest.mark.parametrize("classes", [2, 18])
def test_every_cell_of_a_confusion_matrix_has_room_for_its_count(run, classes):
    result = json.loads((run / "result.json").read_text())
    result["class_names"] = [f"a rather long class {number}" for number in range(classes)]
    (run / "result.json").write_text(json.dumps(result))
    labels = np.arange(8) % 2
    write_predictions(run, labels=labels, predicted=labels)
    blocks = _page(read_run(run)).sections[1].blocks
    block = next(block for block in blocks if getattr(block, "title", None) == "Confusion")
    assert (block.min_width - 178) / classes >= 36  # pyright: ignore[reportAttributeAccessIssue]
    assert block.figure.layout.height / classes >= 36  # pyright: ignore[reportAttributeAccessIssue]
    assert all(len(text) <= 14 for text in figure(run, "Confusion").layout.xaxis.ticktext)


def test_length_and_accuracy(run):
    trace = figure(run, "Length and accuracy").data[0]
    assert trace.x == ("3", "4", "5", "7", "9")
    assert trace.y == (1, 0, 1, 1, 0)
    assert trace.customdata[0].startswith("3 steps: 1.0000 right<br>2 rows")
    write_predictions(run, lengths=np.full(8, 28))
    assert "All 8 test rows have 28 steps." in words(run)


@pytest.mark.parametrize("absent", [None, np.zeros(0, np.int64)], ids=["absent", "empty"])
def test_rows_with_several_answers_have_no_confusion(run, absent):
    write_predictions(run, labels=absent, predicted=absent, correct=np.linspace(0, 1, 8, dtype=np.float32))
    html = words(run)
    assert "Confusion" not in html
    assert "Length and accuracy" in html


def test_classes_without_names_are_numbered(run):
    result = json.loads((run / "result.json").read_text())
    del result["class_names"]
    (run / "result.json").write_text(json.dumps(result))
    assert figure(run, "Confusion").layout.xaxis.ticktext == ("0", "1", "2")


def test_bins_hold_every_length_once():
    lengths = np.array([1] * 50 + [2] * 3 + list(range(10, 60)))
    bins = length_bins(lengths)
    assert bins[0] == (1, 1)
    assert all(high < low for (_, high), (low, _) in pairwise(bins))
    assert sum(((lengths >= low) & (lengths <= high)).sum() for low, high in bins) == len(lengths)
    assert length_bins(np.array([4])) == [(4, 4)]
    assert len(length_bins(np.arange(800))) == 8
    assert {high - low for low, high in length_bins(np.arange(800))} == {99}


def test_wilsons_interval():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, count, least, most in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
                                      (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson_interval(right / count, count) == (pytest.approx(least, abs=1e-4), pytest.approx(most, abs=1e-4))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("recipe.json", "{", r"recipe.json cannot be read \(Expecting.*\); a run writes it whole"),
        ("recipe.json", "[]", r"recipe.json cannot be read \(it holds a list; expected an object"),
        ("result.json", "\udcff", r"result.json cannot be read \('utf-8' codec"),
        ("metrics.csv", "", r"metrics.csv cannot be read \(it has no column epoch, loss, step"),
        ("metrics.csv", "epoch,step,loss\n1,2\n", "line 2 has another number of cells"),
        ("metrics.csv", "epoch,step,loss\n1,2,3,4\n", "line 2 has another number of cells"),
        ("metrics.csv", "epoch,step,loss\n1,2,3\n1,x,3\n", "line 3: could not convert"),
        ("metrics.csv", "epoch,step,loss\n1,,3\n", "line 2 has no epoch and step"),
        (
            "result.json",
            '{"parameters": 1' + "0" * 400 + "}",
            r"result.json cannot be read \(the number 10+\.\.\. has 401 digits",
        ),
        ("test.npz", "PK", "test.npz cannot be read"),
        ("test.npz", "", "test.npz cannot be read"),
        ("test.npz", "words", "test.npz cannot be read"),
    ],
)
def test_damaged_files_are_one_error(run, file, content, message):
    (run / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=message):
        write_run_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lengths": None}, "no array lengths"),
        ({"labels": np.zeros(0, np.int64)}, "only one of the arrays labels and predicted"),
        ({"labels": None}, "only one of the arrays labels and predicted"),
        ({"correct": np.ones(7, np.float32)}, r"correct is of type float32 and shape \(7,\)"),
        ({"correct": np.full(8, 2.0)}, "correct has values from 2 to 2"),
        ({"correct": np.full(8, np.nan)}, "correct has values from nan"),
        ({"labels": np.full(8, -1)}, "labels has values from -1"),
        ({"labels": np.full(8, 0.5)}, "labels is of type float64"),
        ({"labels": np.array([None] * 8)}, "an array of object; expected numbers"),
        ({"labels": np.full(8, 3)}, "test.npz has class 3, but result.json has the class names"),
    ],
)
def test_odd_predictions_are_refused(run, arrays, message):
    write_predictions(run, **arrays)
    with pytest.raises(RunError, match=message):
        write_run_report(run)


def test_a_truncated_archive_is_refused(run):
    content = (run / "test.npz").read_bytes()
    (run / "test.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"test\.npz cannot be read"):
        write_run_report(run)


def test_a_single_array_is_refused(run):
    with (run / "test.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(RunError, match=r"test\.npz cannot be read \(File is not a zip file"):
        write_run_report(run)


def test_no_run_directory(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"absent: nothing there; expected the directory of a run"):
        write_run_report(tmp_path / "absent")
    with pytest.raises(RunError, match=r"file: a file; expected the directory of a run"):
        write_run_report(tmp_path / "file")
    with pytest.raises(RunError, match=r"empty: no recipe\.json in it"):
        write_run_report(tmp_path / "empty")


def test_the_curves_of_a_recipe():
    epochs = [
        {"epoch": n, "train_loss": 2 / n, "val_loss": None, "train_accuracy": 0.5, "val_accuracy": 0.4} for n in (1, 2)
    ]
    runs = [{"seed": 0, "epochs": epochs, "test_accuracy": 0.9}, {"seed": 1, "epochs": epochs, "test_accuracy": None}]
    runs.append({"seed": 2, "epochs": epochs, "test_accuracy": 0.8, "epoch": 1})
    drawn = recipe_figure({"recipe": "vowels", "runs": runs})
    assert drawn.title == "vowels"
    shown = [trace.name for trace in drawn.figure.data if trace.showlegend is not False]
    assert shown == ["training", "test"]
    assert [trace.name for trace in drawn.figure.data] == ["training"] * 6 + ["held out"] * 3 + ["test"]
    assert [(trace.x, trace.y) for trace in drawn.figure.data if trace.name == "test"] == [((2, 1), (0.9, 0.8))]
    with pytest.raises(RunError, match="no learning curves"):
        recipe_figure({"runs": [{"seed": 0}]})


def test_hostile_names_are_shown_as_they_stand(run):
    assert HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in words(run)
