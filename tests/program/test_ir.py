"""Programs as data: what they print, and what is read back from text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.program.steps import TRACED, Posed, posed_cell
from unspool import LSTMCell
from unspool.program.hoist import hoist
from unspool.program.ir import LEVELS, Program
from unspool.program.step import StepProgram


def same_program(a: Program, b: Program) -> bool:
    def data(p: Program) -> Any:
        values = [(v.op, [x.id for x in v.args], v.attrs, v.shape, v.level, v.source) for v in p.values]
        return values, [v.id for v in p.outputs], [v.id for v in p.new_states]

    return data(a) == data(b)


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_programs_survive_the_way_through_json(row):
    posed = posed_cell(row)
    step = StepProgram.of(posed.recording)
    for program in (posed.recording.program, hoist(posed.recording.program), step.backward.program):
        text = program.to_json()
        again = Program.from_json(text)
        assert same_program(again, program)
        assert again.to_json() == text
        assert again.pretty() == program.pretty()
        assert json.loads(text).keys() == {"values", "outputs", "new_states"}


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_a_dump_is_readable(row):
    text = posed_cell(row).recording.program.pretty()
    lines = text.splitlines()
    headings = [line[:-1] for line in lines if line in [f"{level}:" for level in LEVELS]]
    assert headings == [level for level in LEVELS if level in headings]
    assert "state" in headings
    assert lines[-2].startswith("output: %")
    assert lines[-1].startswith("new state: %")
    for line in lines[:-2]:
        assert line[:-1] in LEVELS or (line.startswith("  %") and " = " in line and " : " in line)
        assert len(line) < 300


def test_a_dump_shows_operations_shapes_and_lines():
    posed = Posed(TRACED[0])
    assert isinstance(posed.cell, LSTMCell)
    text = posed.recording.program.pretty()
    assert "product(" in text
    assert "sigmoid(" in text
    assert " : 16  # _lstm.py:" in text
    assert "= state() : 4" in text


SMALL = [Posed(TRACED[k]).recording.program.to_json() for k in (0, 4, 10)]

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 400), st.floats(), st.text(max_size=5),
    st.sampled_from(["add", "slice", "product", "state", "param", "nothing"]),
    st.lists(st.integers(-2, 40), max_size=3),
    st.dictionaries(st.sampled_from(["start", "imm", "op", "args", "shape", "level"]), st.integers(), max_size=2),
)  # fmt: skip


@st.composite
def mutated(draw) -> str:
    data = json.loads(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = data
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 9)) > 0:
                at = at[key]
                continue
            if draw(st.booleans()):
                at[key] = draw(SCALARS)
            elif isinstance(at, dict):
                del at[key]
            else:
                at.pop(key)
            break
    return json.dumps(data)


def check(text: str) -> None:
    try:
        program = Program.from_json(text)
    except ValueError:
        return
    assert same_program(Program.from_json(program.to_json()), program)
    program.pretty()
    program.live()


@settings(max_examples=200)
@given(mutated())
def test_changed_text_is_refused_or_a_program(text):
    check(text)


@settings(max_examples=200)
@given(st.sampled_from(SMALL), st.integers(0, 10_000), st.integers(0, 50), st.text(max_size=4))
def test_cut_text_is_refused_or_a_program(text, start, length, other):
    start %= len(text)
    check(text[:start] + other + text[start + length :])


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "1", "{}", '"x"', '{"values": 3}', '{"values": [], "outputs": [0], "new_states": []}', "NaN",
        '{"values": [], "outputs": [], "new_states": {}}'.replace("{}", "7"),
        '{"values": [7], "outputs": [], "new_states": []}',
        '{"values": [[]], "outputs": [], "new_states": []}',
    ],
)  # fmt: skip
def test_what_is_no_program_is_refused(text):
    with pytest.raises(ValueError, match=r"step program|unknown operation"):
        Program.from_json(text)


@pytest.mark.parametrize(
    "attrs", [{"op": "add"}, {"shape": [1]}, {"args": []}, {"source": "x"}, {"level": "row"}, {"self": 1}]
)
def test_attributes_named_like_fields_are_refused(attrs):
    value = {"op": "tanh", "args": [], "attrs": attrs, "shape": [2], "level": "state", "source": ""}
    text = json.dumps({"values": [value], "outputs": [], "new_states": []})
    with pytest.raises(ValueError, match="step program"):
        Program.from_json(text)


def test_a_value_before_its_definition_is_refused():
    value = {"op": "tanh", "args": [0], "attrs": {}, "shape": [2], "level": "state", "source": ""}
    for index in (0, 5, -1, True, 0.0, "0", None):
        value["args"] = [index]
        with pytest.raises(ValueError, match="used before it is defined"):
            Program.from_json(json.dumps({"values": [value], "outputs": [], "new_states": []}))


def test_dead_values_are_not_live():
    program = Program()
    h = program.add("state", (), (3,), "state")
    program.add("exp", [h], (3,))
    y = program.add("tanh", [h], (3,))
    program.outputs, program.new_states = [y], [h]
    assert program.live() == [h, y]
    assert "exp" not in program.pretty()


def test_the_level_is_the_highest_of_the_arguments():
    program = Program()
    levels = {level: program.add("param", (), (2,), level) for level in LEVELS}
    for low in LEVELS:
        for high in LEVELS[LEVELS.index(low) :]:
            assert program.add("add", [levels[high], levels[low]], (2,)).level == high
