"""What a notebook shows: a line for what is long, and tables in which nothing is obeyed."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import unspool as us
from unspool._html import html_table
from unspool.training import RunResult, vowels_recipe
from unspool.training.results import Evaluation

NAMES = ("<b>a</b>", "c&d")


class Cells(HTMLParser):
    """Collect the texts of cells, and the names of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def shown(thing):
    cells = Cells()
    cells.feed(thing if isinstance(thing, str) else thing._repr_html_())
    cells.close()
    assert set(cells.elements) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    return cells.texts


def result():
    recipe = vowels_recipe("gru")
    figures = {"val_loss": 0.5, "val_accuracy": 0.75, "test_loss": 0.25, "test_accuracy": 0.9}
    rest = {"class_names": NAMES, "command": None, "versions": {}, "machine": {}}
    return RunResult(
        directory=Path("runs/a"), recipe=recipe, parameters=1234, epoch=3, seconds_per_epoch=1.5, **figures, **rest
    )


def test_what_is_long_is_a_line():
    program = us.program(us.LSTMCell(3, 4))
    evaluation = Evaluation(vowels_recipe(), 10, 0.5, 0.25, 4, 9, None, NAMES)
    for thing in (program, result(), evaluation):
        assert len(repr(thing)) < 120
        assert "\n" not in repr(thing)
    assert repr(program).startswith(f"<Program: {len(program.values)} values, 1 output, 2 new states")
    lines = str(program).splitlines()
    assert len(lines) == len(program.values) + 2
    assert max(map(len, lines)) < 200
    assert repr(program.values[0]) == lines[0]


def test_programs_explanations_and_diagnoses_are_tables():
    cell, layer = us.GRUCell(3, 4), torch.nn.LSTM(3, 4)
    program = us.program(cell)
    assert str(program.values[-1]) in shown(program)
    inputs = torch.randn(5, 2, 3)
    explanation = us.explain(cell, inputs)
    assert explanation.decisions[0].chosen in shown(explanation)
    diagnosis = us.doctor(layer, inputs)
    assert diagnosis.findings[0].title in shown(diagnosis)
    assert diagnosis.summary in shown(diagnosis)
    assert us.info().versions["torch"] in shown(us.info())


def test_results_and_evaluations_are_tables():
    assert {"0.9000", "0.2500", "test"} <= set(shown(result()))
    counts = [[3, 1], [0, 2]]
    texts = shown(Evaluation(vowels_recipe(), 10, 0.5, 0.25, 4, 9, counts, NAMES))
    assert texts.count(NAMES[0]) == texts.count(NAMES[1]) == 2
    assert "3" in texts
    many = [[0] * 50] * 50
    texts = shown(Evaluation(vowels_recipe(), 10, 0.5, 0.25, 4, 9, many, tuple(map(str, range(50)))))
    assert len(texts) == 1


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "&lt;"])
def test_nothing_in_a_table_is_obeyed(text):
    assert shown(html_table(text, [(text, text)], (text, text))) == [text] * 5
