"""Plans: every index is valid, and the engine refuses every table that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.cases import CellRow
from tests.program.steps import TRACED, Posed, posed_cell
from unspool import _engine
from unspool.program import roles
from unspool.program.operations import of_kind
from unspool.program.step import StepPlan, StepProgram, Wanted, backward_plan, forward_plan
from unspool.program.tables import Kind, Mode, Phase, Place


@cache
def plans(row: CellRow) -> list[tuple[StepPlan, bool]]:
    step = StepProgram.of(posed_cell(row).recording)
    loop = step.loop
    found = [(forward_plan(step, training), False) for training in (False, True)]
    for ask in (True, False):
        wanted = Wanted(*((ask,) * len(part) for part in (loop.inputs, loop.tokens, loop.rows, loop.params)))
        found.append((backward_plan(step, wanted), True))
    return found


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_every_index_is_valid(row):
    for plan, backward in plans(row):
        tables, arrays = plan.tables, len(plan.arrays)
        widths = list(plan.arrays.values())
        for place, array, width, first in tables.storages.tolist():
            if place not in (Place.TEMP, Place.CHUNK, Place.SCALAR, Place.NONE):
                assert 0 <= array < arrays
                assert widths[array] == width
            if place in (Place.PREVIOUS, Place.PADDED_PREVIOUS):
                assert 0 <= first < arrays
                assert widths[first] == width
            if place == Place.SCALAR:
                assert 0 <= array < len(tables.constants)
        for kind, op, *rest in tables.instructions.tolist():
            assert kind in list(Kind)
            assert 0 <= op < max(1, len(of_kind(Kind(kind).name.lower())))
            for start in (0, 5, 8, 11):
                storage, column, mode = rest[start : start + 3]
                place, _, width, _ = tables.storages[storage].tolist()
                assert mode in list(Mode)
                assert place in (Place.NONE, Place.SCALAR) or 0 <= column < max(width, 1)
            weight, *numbers, phase = rest[14:]
            assert phase in list(Phase)
            assert (weight >= 0) == (kind in (Kind.PRODUCT, Kind.GATHER, Kind.SCATTER))
            assert weight < len(tables.weights if kind == Kind.PRODUCT else tables.indices) or weight == -1
            assert all(-1 <= k < len(tables.constants) for k in numbers)
        _engine.make_plan(
            tables.storages, tables.instructions, tables.constants, tables.indices, list(range(arrays)),
            [(arrays, True, 0, -1)] * len(tables.weights), backward,
        )  # fmt: skip


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_nothing_is_written_where_it_is_only_taken(row):
    for plan, backward in plans(row):
        arrays, read_only = list(plan.arrays), {"run", "loss", "forward" if backward else ""}
        for instruction in plan.tables.instructions.tolist():
            place, array = plan.tables.storages[instruction[2]][:2].tolist()
            assert place not in (Place.VECTOR, Place.PREVIOUS, Place.PADDED_PREVIOUS, Place.SCALAR, Place.NONE)
            if place in (Place.TOKEN, Place.ROW, Place.SLOT, Place.PADDED):
                assert arrays[array][0].giver not in read_only


def test_every_role_is_that_of_some_array_and_says_where_it_lies():
    met = set()
    before = {Place.PREVIOUS: Place.TOKEN, Place.PADDED_PREVIOUS: Place.PADDED}
    for plan, _ in (plan for row in TRACED for plan in plans(row)):
        of = [role for role, _ in plan.arrays]
        for place, array, _, first in plan.tables.storages.tolist():
            if array >= 0 and place != Place.SCALAR:
                assert of[array].place == before.get(place, place)
            if first >= 0:
                assert of[first] is roles.INITIAL
        met.update(of)
    assert met == set(roles.ROLES)


def test_without_gradients_nothing_is_saved():
    for row in TRACED:
        step = StepProgram.of(posed_cell(row).recording)
        of = {role for role, _ in forward_plan(step, False).arrays}
        assert not of & {roles.SAVED, roles.STATE_TOKENS}


def test_unwanted_gradients_are_not_computed():
    step = StepProgram.of(Posed(TRACED[0]).recording)
    loop = step.loop
    none = Wanted(*((False,) * len(part) for part in (loop.inputs, loop.tokens, loop.rows, loop.params)))
    plan = backward_plan(step, none)
    assert "backward" not in {role.giver for role, _ in plan.arrays}


FUZZ = Path(__file__).with_name("fuzz_engine.py")


def run_fuzz(*arguments: str) -> None:
    """Run in a process of its own, so that a crash is a failure and not the end of all tests."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FUZZ), *arguments],
        env={**os.environ, "PYTHONPATH": path, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-1500:]}{done.stderr[-3000:]}"
    assert "refused" in done.stdout


def test_the_engine_refuses_broken_tables():
    run_fuzz("once-crashed", "0")
