"""Tables of results say what the committed JSON says."""

import json

import pytest
from scripts.experiments import EXPERIMENTS
from scripts.result_tables import RESULTS, comparison_table, pages, table, with_tables

FIRST = {
    "name": "first",
    "parameters": 1234,
    "published": {"test_accuracy": 0.5, "seconds_per_epoch": 98},
    "runs": [{"test_accuracy": 0.75, "test_loss": 0.25, "seconds_per_epoch": 1.5}],
}
SECOND = {
    "name": "second",
    "parameters": 5,
    "published": None,
    "runs": [
        {"test_accuracy": 0.75, "test_loss": 0.5, "seconds_per_epoch": 10},
        {"test_accuracy": 0.25, "test_loss": 1.5, "seconds_per_epoch": 20},
    ],
}


def test_a_row_for_each_experiment():
    assert table([FIRST, SECOND]).splitlines() == [
        "| experiment | parameters | test accuracy | published | test loss | seconds per epoch | published |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| first | 1,234 | 0.7500 | 0.5000 | 0.250 | 1.5 | 98 |",
        "| second | 5 | 0.5000 (0.2500 to 0.7500) |  | 1.000 (0.500 to 1.500) | 15 |  |",
    ]
    assert "published" not in table([SECOND])


def test_a_page_gets_its_tables(tmp_path):
    for experiment in (FIRST, SECOND):
        (tmp_path / f"{experiment['name']}.json").write_text(json.dumps(experiment))
    page = "above\n<!-- results first second -->\nold\n<!-- end -->\nbelow\n"
    made = with_tables(page, tmp_path)
    assert made == f"above\n<!-- results first second -->\n{table([FIRST, SECOND])}\n<!-- end -->\nbelow\n"
    assert with_tables(made, tmp_path) == made


def test_a_table_of_the_comparison():
    lines = comparison_table("graph_nodes").splitlines()
    assert lines[0].split("|")[1:3] == [" contender ", " T=10 "]
    assert set(lines[1]) == {"|", "-"}
    assert lines[2].startswith("| unspool dynamic | ")


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_pages_say_what_the_results_say(path):
    text = path.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python scripts/result_tables.py"
    assert "FIGURE" not in text


def test_every_result_is_of_an_experiment_that_can_be_run_again():
    for path in RESULTS.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "runs" in content:
            experiment = EXPERIMENTS[path.stem]
            assert content["command"] == f"unspool {experiment.command} --seed SEED"
            assert [run["seed"] for run in content["runs"]] == list(range(experiment.seeds))


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.published])
def test_what_was_published_is_beaten(name):
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    published = content["published"]
    assert published == EXPERIMENTS[name].published
    assert min(run["test_accuracy"] for run in content["runs"]) > published["test_accuracy"]
    if "seconds_per_epoch" in published:
        assert max(run["seconds_per_epoch"] for run in content["runs"]) < published["seconds_per_epoch"]
