"""Hands broken tables, layouts and arrays to the engine: it must refuse them with ValueError or run, never crash.

Nothing here needs much memory, so that MemoryError is a failure too: what asks for absurdly much must be refused.

Run by `test_plan.py` in a process of its own; `python fuzz_engine.py SEED [CASES]` runs it by hand, and
`python fuzz_engine.py once-crashed [SEED [CASES]]` runs cases that once crashed, before others if there are to be any.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.program.steps import TRACED, Posed, StepCell
from unspool import _engine
from unspool.program.read import read_step
from unspool.program.step import StepPlan, StepProgram, Wanted, backward_plan, forward_plan
from unspool.program.tables import Kind, Mode, Place

B, T, GUARD = 3, 4, 12345.0
COUNTS = {"refused": 0, "ran": 0}


def sources() -> list[tuple[StepPlan, bool]]:
    found: list[tuple[StepPlan, bool]] = []
    recordings = [Posed(TRACED[k % len(TRACED)]).recording for k in (0, 2, 4, 10, 26, 36)]
    moving = StepCell(lambda x, h, m: (h @ m.w).repeat(1, 2)[:, [0, 11, 1, 10, 0, 9, 1, 8, 0, 7]][:, :6] * x)
    recordings.append(read_step(moving, torch.zeros(1, 6).double(), torch.zeros(1, 6).double(), None))
    for recording in recordings:
        step = StepProgram.of(recording)
        loop = step.loop
        wanted = Wanted(*((True,) * len(part) for part in (loop.inputs, loop.tokens, loop.rows, loop.params)))
        found += [(forward_plan(step, True), False), (backward_plan(step, wanted), True)]
    return found


PLANS = sources()
NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([-(2**63), 2**63 - 1, 2**31, 2**32, 2**62, 1000, 10**6, -(10**6)])
)


def places(arrays: int, weights: int) -> tuple[list[int], list[tuple[int, bool, int, int]]]:
    """Return where a run's tensors hold arrays, and after them weights `[K, N]`, with all columns."""
    arrays = max(arrays, 0)
    return list(range(arrays)), [(arrays + i, False, 0, -1) for i in range(max(weights, 0))]


TIMES, SEQUENCES = np.repeat(np.arange(T), B), np.tile(np.arange(B), T)


def shapes_of(plan: StepPlan) -> list[tuple[int, ...]]:
    firsts = {Place.PADDED: (T, B), Place.TOKEN: (T * B,), Place.ROW: (B,), Place.SLOT: (B,), Place.VECTOR: (1,)}
    return [(*firsts[role.place], width) for (role, _), width in plan.arrays.items()]


def guarded(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a whole array and the part of it that the engine is given; the rest must stay as it is."""
    first, count = shape[-1] + 32, math.prod(shape)
    whole = torch.full((count + 2 * first,), GUARD, dtype=dtype)
    inner = whole[first : first + count]
    inner.uniform_(-1, 1)
    return whole, inner.view(shape)


def table(draw: Any, original: np.ndarray, changes: int) -> np.ndarray:
    changed = original.copy()
    for _ in range(changes):
        if changed.size:
            i, j = draw(st.integers(0, changed.shape[0] - 1)), draw(st.integers(0, changed.shape[1] - 1))
            changed[i, j] = draw(NUMBERS)
    if changes and draw(st.integers(0, 9)) == 0:
        changed = changed[: draw(st.integers(0, changed.shape[0]))].copy()
    return changed


def operands(draw: Any, original: np.ndarray, changes: int) -> np.ndarray:
    """Change whole operands of instructions, and now and then the width, to what might be right elsewhere."""
    changed = original.copy()
    for _ in range(changes):
        i, start = draw(st.integers(0, changed.shape[0] - 1)), draw(st.sampled_from([2, 7, 10, 13]))
        others = changed[:, [2, 7, 10, 13]].max() + 1
        changed[i, start] = draw(st.integers(0, others))
        changed[i, start + 1] = draw(st.sampled_from([0, 0, 1, 3]))
        changed[i, start + 2] = draw(st.integers(0, 3))
        if draw(st.booleans()):
            changed[i, 5] = draw(st.sampled_from([1, 2, 8, 64, 1000]))
    return changed


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    plan, backward = draw(st.sampled_from(PLANS))
    at = draw(st.sampled_from(["storages", "code", "both", "operands", "lists", "layout", "arrays", "weights", "flag"]))
    few = draw(st.integers(1, 3))
    constants = list(plan.tables.constants)
    indices = list(plan.tables.indices)
    if at == "lists":
        if draw(st.booleans()):
            constants = constants[: draw(st.integers(0, len(constants)))]
        elif indices:
            indices[draw(st.integers(0, len(indices) - 1))] = draw(NUMBERS)
            indices = indices[: draw(st.integers(0, len(indices)))] if draw(st.booleans()) else indices
    counts = np.array([[3, 2, 2, 1]], dtype=np.int64)
    offsets = np.array([[0, 3, 5, 7]], dtype=np.int64)
    starts, tokens, rows = np.array([0], dtype=np.int64), B * T, B
    times, sequences = TIMES, SEQUENCES
    if at == "layout":
        counts, offsets = table(draw, counts, few - 1), table(draw, offsets, few)
        if draw(st.booleans()):
            starts[0] = draw(NUMBERS)
        if draw(st.integers(0, 9)) == 0:  # no blocks
            counts, offsets, starts = counts[:0], offsets[:0], starts[:0]
        tokens, rows = (draw(st.sampled_from([n, n, n - 1, n + 1, -1, 10**9])) for n in (tokens, rows))
        times, sequences = (
            table(draw, places[:, None], draw(st.integers(0, 1)))[:, 0].copy() for places in (times, sequences)
        )
    shapes = shapes_of(plan)
    if at == "arrays":
        for _ in range(few):
            k = draw(st.integers(0, len(shapes) - 1))
            shapes[k] = tuple(max(0, n + draw(st.integers(-2, 1))) for n in shapes[k])
        if draw(st.integers(0, 4)) == 0:
            shapes = shapes[: draw(st.integers(0, len(shapes)))]
    weights = [tuple(v.shape) if transposed else tuple(v.shape[::-1]) for v, transposed in plan.tables.weights]
    if at == "weights" and weights:
        k = draw(st.integers(0, len(weights) - 1))
        weights[k] = tuple(max(0, n + draw(st.integers(-2, 2))) for n in weights[k])  # type: ignore[assignment]
        weights = weights[: draw(st.integers(0, len(weights)))] if draw(st.integers(0, 4)) == 0 else weights
    code = plan.tables.instructions
    code = operands(draw, code, few) if at == "operands" else table(draw, code, few if at in ("code", "both") else 0)
    return {
        "tables": (
            table(draw, plan.tables.storages, few if at in ("storages", "both") else 0),
            code,
            constants, indices,
            *places(
                len(plan.arrays) + (draw(st.integers(-2, 3)) if at == "flag" else 0),
                len(plan.tables.weights) + (draw(st.integers(-1, 2)) if at == "flag" else 0),
            ),
            backward != (at == "flag" and draw(st.booleans())),
        ),
        "layout": (tokens, rows, starts, counts, offsets, times, sequences),
        "shapes": shapes, "weights": weights, "threads": draw(st.sampled_from([1, 1, 2])),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
    }  # fmt: skip


def attempt(problem: dict[str, Any]) -> None:
    dtype = problem["dtype"]
    try:
        plan = _engine.make_plan(*problem["tables"])
        layout = _engine.Layout(*problem["layout"])
    except ValueError:
        COUNTS["refused"] += 1
        return
    arrays = [guarded(shape, dtype) for shape in problem["shapes"]]
    weights = [guarded(shape, dtype) for shape in problem["weights"]]
    before = [inner.clone() for _, inner in weights]
    run = _engine.run_f32 if dtype == torch.float32 else _engine.run_f64
    try:
        run(plan, layout, [inner for _, inner in (*arrays, *weights)], problem["threads"])
    except ValueError:
        COUNTS["refused"] += 1
    else:
        COUNTS["ran"] += 1
    for (whole, inner), shape in zip([*arrays, *weights], [*problem["shapes"], *problem["weights"]], strict=True):
        first, count = shape[-1] + 32, math.prod(shape)
        outside = torch.cat([whole[:first], whole[first + count :]])
        assert bool((outside == GUARD).all()), "the engine wrote beside an array"
        del inner
    for (_, inner), kept in zip(weights, before, strict=True):
        assert torch.equal(inner, kept), "the engine wrote into a weight"


def main(number: int, cases: int) -> None:
    torch.set_num_threads(1)
    COUNTS.update(refused=0, ran=0)

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(problems())
    def fuzz(problem: dict[str, Any]) -> None:
        attempt(problem)

    fuzz()
    assert COUNTS["refused"] > cases // 10, COUNTS
    assert COUNTS["ran"] > 0, COUNTS
    print(COUNTS)


EMPTY: Any = (
    *(table[:0] for table in (PLANS[0][0].tables.storages, PLANS[0][0].tables.instructions)),
    [],
    [],
    [],
    [],
    False,
)
BROKEN_PRODUCTS = [(7, 18), (7, 10**6), (7, -1), (8, 3), (8, -1), (9, 2), (9, 9), (16, 1), (16, -1)]
"""Column 7 is the storage of what a product takes, 8 its first feature, 9 the mode, 16 the weight."""


def physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def attempt_code(plan: StepPlan, backward: bool, code: np.ndarray, threads: int) -> None:
    offsets, counts = np.array([[0, 3, 5, 7]], dtype=np.int64), np.array([[3, 2, 2, 1]], dtype=np.int64)
    sizes = places(len(plan.arrays), len(plan.tables.weights))
    weights = [tuple(v.shape) if transposed else tuple(v.shape[::-1]) for v, transposed in plan.tables.weights]
    problem = {
        "tables": (
            plan.tables.storages,
            code,
            plan.tables.constants,
            plan.tables.indices,
            *sizes,
            backward,
        ),
        "layout": (
            B * T,
            B,
            np.zeros(1, dtype=np.int64),
            counts,
            offsets,
            TIMES,
            SEQUENCES,
        ),
        "shapes": shapes_of(plan),
        "weights": weights,
    }
    attempt({**problem, "threads": threads, "dtype": torch.float32})


def once_crashed() -> None:
    plan, backward = PLANS[0]
    for column, value in BROKEN_PRODUCTS:
        code = plan.tables.instructions.copy()
        code[(code[:, 0] == Kind.PRODUCT).nonzero()[0][0], column] = value
        attempt_code(plan, backward, code, 1)
    # Sums over tokens go to arrays with one row per block: nothing else may write there.
    for plan, backward in PLANS:
        for at in (plan.tables.instructions[:, 0] == Kind.COLUMN_SUMS).nonzero()[0]:
            code = plan.tables.instructions.copy()
            code[at, 0] = Kind.UNARY
            attempt_code(plan, backward, code, 2)
    # Only pointwise operands may be one value per row: others are read, and results written, in their whole width.
    for plan, backward in PLANS:
        for at, row in enumerate(plan.tables.instructions):
            whole = [2, *([7] if row[0] in (Kind.REDUCE, Kind.REPEAT, Kind.COLUMN_SUMS) else [])]
            for start in whole if row[0] != Kind.COLUMN_SUMS else whole[1:]:
                code = plan.tables.instructions.copy()
                code[at, start + 2], code[at, 5] = Mode.ROW_SCALAR, 1000 * max(row[6], 1)
                attempt_code(plan, backward, code, 1)
    # Widths that no machine has the memory for.
    for width in (2**31, 2**28, 10**8):
        plan, backward = PLANS[0]
        storages = plan.tables.storages.copy()
        storages[storages[:, 0] == Place.TEMP, 2] = width
        absurd = replace(plan.tables, storages=storages)
        if width * 4 * B * int((storages[:, 0] == Place.TEMP).sum()) > physical_memory():
            attempt_code(replace(plan, tables=absurd), backward, plan.tables.instructions, 1)
    assert COUNTS["ran"] == 0, COUNTS
    # Without blocks there is nothing to do, on any number of threads.
    for threads in (1, 2):
        tables = [np.zeros(shape, dtype=np.int64) for shape in (0, (0, T), (0, T))]
        nowhere: Any = (B * T, B, *tables, TIMES, SEQUENCES)
        _engine.run_f32(_engine.make_plan(*EMPTY), _engine.Layout(*nowhere), [], threads)
    print(COUNTS)


if __name__ == "__main__":
    if sys.argv[1] == "once-crashed":
        once_crashed()
        del sys.argv[1]
    if len(sys.argv) > 1:
        main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 400)
