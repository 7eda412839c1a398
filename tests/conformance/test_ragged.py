"""Every cell over a ragged batch, against the padded call with lengths.

The native backend computes the same in the same order: bit for bit. The reference backend gives PyTorch's products rows
that lie elsewhere in memory, which may round differently.

Letters: B batch, T steps, N tokens.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

import unspool
from tests.conformance.cases import CELLS, Case, vectors_and_images
from tests.conformance.oracle import Run, assert_close, assert_identical, live_steps, map_leaves, measure
from tests.conformance.runs import posed
from unspool import RaggedBatch

WAYS: dict[str, dict[str, Any]] = {
    "mixed": {"lengths": "mixed", "sizes": (5, 7, 5, 17), "given_state": True},
    "resets": {"lengths": "mixed", "resets": "resets", "sizes": (5, 7, 5, 17)},
    "reverse": {"lengths": "some zero", "dtype": torch.float32, "reverse": True, "resets": "resets"},
    "full": {"lengths": "full", "dtype": torch.float32, "reverse": True, "given_state": True},
    "all one": {"lengths": "all one", "sizes": (5, 7, 3, 1)},
    "all zero": {"lengths": "all zero", "sizes": (5, 7, 3, 1), "given_state": True},
    "one row": {"lengths": "full", "sizes": (1, 7, 3, 1), "given_state": True},
}
GROUPS = [("mixed", "resets"), ("reverse", "full"), ("all one", "all zero", "one row")]
"""Ways that one cell can be run in, so that it is read once."""

WITH_TENSORS = [row for row in CELLS if row.draw is not vectors_and_images]


def run_padded(case: Case, problem: Any, lengths: list[int], real: torch.Tensor) -> Run:
    """Run a case over padded inputs; return outputs and states of the tokens alone, row after row."""
    resets = None if case.resets == "no resets" else torch.tensor(case.resets_list())
    torch.default_generator.manual_seed(case.seed)
    outputs, final, states = unspool.dynamic_rnn(
        problem.cell, problem.inputs, lengths, problem.initial_state, constants=problem.constants,
        resets=resets, reverse=case.reverse, return_all_states=True, backend=case.backend,
    )  # fmt: skip
    return Run(map_leaves(lambda leaf: leaf[real], outputs), final, map_leaves(lambda leaf: leaf[real], states))


def run_ragged(case: Case, problem: Any, lengths: list[int], real: torch.Tensor) -> Run:
    batch = RaggedBatch(problem.inputs[real], torch.tensor(lengths), None, torch.arange(len(lengths)))
    resets = None if case.resets == "no resets" else torch.tensor(case.resets_list())[real]
    torch.default_generator.manual_seed(case.seed)
    outputs, final, states = unspool.dynamic_rnn(
        problem.cell, batch, None, problem.initial_state, constants=problem.constants,
        resets=resets, reverse=case.reverse, return_all_states=True, backend=case.backend,
    )  # fmt: skip

    def values(tree: Any) -> Any:
        found, spec = tree_flatten(tree, is_leaf=lambda node: isinstance(node, RaggedBatch))
        assert all(leaf.lengths is batch.lengths and leaf.order is batch.order for leaf in found)
        return tree_unflatten([leaf.values for leaf in found], spec)

    return Run(values(outputs), final, values(states))


# The groups take turns; one cell is run in all.
PAIRS = [
    (row, group)
    for k, row in enumerate(WITH_TENSORS)
    for group in GROUPS
    if row.name == "LSTM in training" or group == GROUPS[k % len(GROUPS)]
]


@pytest.mark.parametrize(("row", "group"), PAIRS, ids=str)
def test_a_ragged_batch_gives_what_the_padded_one_does(row, group):
    cell = Case(row, "auto", "dynamic_rnn", **WAYS[group[0]]).own_cell()
    for name, backend in product(group, row.backends):
        case = Case(row, backend, "dynamic_rnn all states", **WAYS[name])
        problem, _ = posed(case, cell)
        lengths = case.lengths_list()
        assert lengths is not None
        real = torch.tensor(live_steps(*case.sizes[:2], lengths))
        try:
            expected = measure(partial(run_padded, case, problem, lengths, real), problem)
            received = measure(partial(run_ragged, case, problem, lengths, real), problem)
            if backend == "native":
                assert_identical(received, expected)
            assert_close(received, expected, case.dtype)
        except Exception as error:
            error.add_note(f"{case}")
            raise
