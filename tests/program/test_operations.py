"""The table of operations is complete: gradients, numbers in the engine, spellings, and a place in the docs."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from tests.docs.test_backends_page import NAMES, TABLE
from tests.program.rules.spellings import KINKS, posed, spellings
from tests.program.rules.test_rules import GROUPS, grouped, in_the_midst, together
from tests.program.steps import StepCell
from unspool.program.evaluate import evaluate
from unspool.program.ir import Program
from unspool.program.operations import NUMBERED, OPERATIONS, POINTWISE, of_kind
from unspool.program.read import read_step
from unspool.program.recording import Recording
from unspool.program.step import StepProgram

ARGUMENTS = {"unary": 1, "binary": 2, "ternary": 3}
SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@pytest.mark.parametrize("op", POINTWISE.values(), ids=lambda op: op.name)
def test_a_pointwise_operation_has_a_gradient_for_each_argument(op):
    assert len(op.gradients) == ARGUMENTS[op.kind] or op.only == "backward programs"
    used = set(re.findall(r"\b([abc]|imm\d)\b", " ".join(op.gradients)))
    assert used <= {*"abc"[: ARGUMENTS[op.kind]], *(f"imm{k}" for k in range(len(op.constants)))}


def test_the_engine_has_the_operations_in_the_same_order():
    text = (ROOT / "native/operations.def").read_text(encoding="utf-8")
    for kind in NUMBERED:
        assert re.findall(rf"^UNSPOOL_{kind.upper()}\((\w+),", text, re.MULTILINE) == list(of_kind(kind))


def made_of(recording: Recording) -> set[str]:
    """Return the operations of a program, its loop and its backward program."""
    step = StepProgram.of(recording)
    programs: list[Program] = [step.recording.program, step.loop.program, step.backward.program]
    return {value.op for program in programs for value in program.values}


def test_every_operation_has_a_spelling():
    met: set[str] = set()
    for texts in grouped(spellings(KINKS)):
        met |= made_of(read_step(StepCell(together(texts)), *posed(), None))
    for number in range(len(GROUPS)):
        met |= made_of(in_the_midst(number).recording)
    assert {op.name for op in OPERATIONS.values() if op.only not in ("plans", "hoisting")} <= met


@pytest.mark.parametrize("op", [op for op in of_kind(*NUMBERED).values() if not op.only], ids=lambda op: op.name)
def test_what_is_read_is_on_the_page(op):
    words = op.reads or (op.name, op.name.split("_")[0])
    assert NAMES & {*words} or f" {SYMBOLS.get(op.name, '')} " in TABLE.replace("`", " ")


def test_an_operation_on_constants_gives_a_constant():
    """So does every pointwise one: in PyTorch it needs no more than the row says."""
    program = Program()
    numbers = [program.add("constant", value=0.5) for _ in range(3)]
    for op in POINTWISE.values():
        program.add(op.name, numbers[: ARGUMENTS[op.kind]]).attrs["imm"] = [*op.constants.values()]
    assert all(value.dim() == 0 for value in evaluate(program.values, {}, 1).values())
