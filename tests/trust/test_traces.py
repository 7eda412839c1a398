"""Asking about a cell, compiling and exporting it leave no trace: all that can be reached from it is as it was."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

import unspool as us
from tests.trust.corpus import CASES
from tests.trust.histories import STEPS, compare, history, plain_loop, seed_everything
from tests.trust.snapshots import differences, global_randomness, snapshot
from tests.trust.worlds import FEATURES, Case, World

ROWS = 4


def explain(world: World, x: torch.Tensor) -> object:
    return us.explain(world.cell, x, lengths=[STEPS, 2, 0, 4])


def doctor(world: World, x: torch.Tensor) -> object:
    return us.doctor(us.RNN(world.cell, batch_first=True), x)


def program(world: World, x: torch.Tensor) -> object:
    return us.program(world.cell, FEATURES)


def export(world: World, x: torch.Tensor) -> object:
    return torch.export.export(us.RNN(world.cell, batch_first=True), (x,))


LOOKS: dict[str, Callable[[World, torch.Tensor], object]] = {
    "explain": explain,
    "doctor": doctor,
    "program": program,
    "export": export,
}

EXPORTED = (
    "a_number_in_an_attribute", "counts_its_calls", "logs_into_a_list", "updates_a_running_mean_in_place",
    "draws_from_sources_of_its_own", "drops_weights_once_per_sequence", "detaches_the_state", "parameters_replaced",
)  # fmt: skip
"""Of which an export, which takes long, is made."""


STAYS_DONE = (
    "prints", "writes_a_file", "counts_by_an_iterator", "caches_by_lru_cache",
    "counts_in_a_context_variable_and_a_thread_local",
)  # fmt: skip
"""What running a model does and nobody can take back; `explain` and the doctor run it, reading its cells does not."""


def looks_at(case: Case) -> list[str]:
    """Return the ways in which a case is looked at; `explain` and the doctor, which both run it, take turns.

    What comes first is the one that reads the cell; they take turns in this too.
    """
    number = CASES.index(case)
    runs = ("explain", "doctor")[number % 2]
    looks = ["program"] if case.name in STAYS_DONE else [runs, "program"][:: (1, -1)[number // 2 % 2]]
    return [*looks, "export"] if case.name in EXPORTED else looks


def state_of(world: World) -> dict[str, Any]:
    """Return all that can be reached from a world."""
    found = {f"cell{path}": value for path, value in snapshot(world.cell).items()}
    found |= {f"watched{path}": value for path, value in snapshot(world.watch()).items()}
    return found | {f"randomness{path}": value for path, value in global_randomness().items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_looking_leaves_no_trace(case: Case) -> None:
    seed_everything()
    world = case.make()
    try:
        x = torch.randn(ROWS, STEPS, FEATURES)
        world.start(ROWS)
        before = state_of(world)
        for name in looks_at(case):
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception):
                warnings.simplefilter("ignore")  # of exporters
                LOOKS[name](world, x)  # what cannot be looked at raises, and leaves no trace either
            found = differences(state_of(world), before)
            assert not found, "\n".join([name, *found[:10]])
    finally:
        world.restore()


COMPILED = (
    "a_number_in_an_attribute", "a_class_attribute", "computes_with_its_count_of_calls", "keeps_its_last_state",
    "draws_by_torch", "takes_its_mask_as_a_row_input", "clips_derivatives_by_a_hook", "parameters_replaced",
    "parametrizations_that_come_and_go", "the_training_flag",
)  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_run_equals_the_plain_loop_or_is_refused(name: str) -> None:
    (case,) = [case for case in CASES if case.name == name]
    refusals: list[str] = []

    def run(cell: Any, x: torch.Tensor, lengths: list[int], state: Any) -> Any:
        def call(x: torch.Tensor, state: Any) -> Any:
            return us.dynamic_rnn(cell, x, lengths, state)

        torch._dynamo.reset()
        try:
            return torch.compile(call, backend="eager")(x, state)
        except Exception as error:
            text = f"{error}"
            if "side effects" not in text and "torch.compile" not in text:
                raise
            refusals.append(text)
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        got = history(case.make, run, (1.0,))
    if refusals:
        assert not case.native, refusals[0]
        return  # with a reason; what a refused run leaves behind is what looking leaves
    want = history(case.make, plain_loop, (1.0,))
    found = compare(
        [(_with_zeros(one), scale) for one, scale in got], [(_with_zeros(one), scale) for one, scale in want]
    )
    assert not found, "\n".join(found)


def _with_zeros(table: dict[str, Any]) -> dict[str, Any]:
    """Leave out gradients that are absent or zero throughout: operators of PyTorch have no absent ones."""
    empty = [
        path
        for path, value in table.items()
        if (path.startswith("gradient") or path.endswith(".grad"))
        and (value == ("NoneType", None) if not isinstance(value, torch.Tensor) else not value.any())
    ]
    return {path: value for path, value in table.items() if not path.startswith(tuple(empty))} if empty else table
