"""Laws that hold for every cell and every batch of sequences.

Letters: B batch, T steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conformance.cases import CELLS, CellRow, random_state
from tests.conformance.oracle import (
    Problem,
    Run,
    assert_close,
    assert_identical,
    leaves_of,
    live_steps,
    map_leaves,
    measure,
    named,
    with_gradient,
)
from unspool import dynamic_rnn

F64 = torch.float64
ROWS = [row for row in CELLS if not row.training and row.name != "user row inputs"]
"""Cells without random numbers: rows of one batch and another are to be compared."""

few = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class Sequences(NamedTuple):
    """A cell and a batch of ragged sequences: `inputs` [B, T, ...], `state` [B, ...]."""

    cell: Any
    inputs: Any
    state: Any
    lengths: list[int]
    steps: int


@st.composite
def sequences(draw: st.DrawFn, rows: list[CellRow] = ROWS, min_steps: int = 0) -> Sequences:
    row = draw(st.sampled_from(rows))
    batch, steps = draw(st.integers(1, 4)), draw(st.integers(min_steps, 6))
    lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    seed = draw(st.integers(0, 1000))
    cell = row.cell(2, 2, F64, seed)
    generator = torch.Generator().manual_seed(seed)
    inputs = row.draw(batch, steps, 2, generator)
    return Sequences(cell, inputs, random_state(cell, batch, F64, generator), lengths, steps)


def bools(draw: st.DrawFn, batch: int, steps: int) -> list[list[bool]]:
    row = st.lists(st.booleans(), min_size=steps, max_size=steps)
    return draw(st.lists(row, min_size=batch, max_size=batch))


def as_bools(table: list[list[bool]], steps: int) -> Tensor:
    return torch.tensor(table, dtype=torch.bool).reshape(len(table), steps)


directions = st.booleans()
pads = st.sampled_from(["zero", "repeat"])


def measured(cell: Any, inputs: Any, state: Any, *args: Any, **options: Any) -> dict[str, Tensor]:
    """Run `dynamic_rnn` with all states; return results and gradients by name."""
    problem = Problem(cell, with_gradient(inputs), with_gradient(state))
    return measure(
        lambda: Run(
            *dynamic_rnn(
                cell, problem.inputs, *args, initial_state=problem.initial_state, return_all_states=True, **options
            )
        ),
        problem,
    )


def run(cell: Any, inputs: Any, state: Any, *args: Any, **options: Any) -> Run:
    with torch.no_grad():
        return Run(*dynamic_rnn(cell, inputs, *args, initial_state=state, return_all_states=True, **options))


def by_name(result: Run) -> dict[str, Tensor]:
    return {name: leaf for part in Run._fields for name, leaf in named(part, getattr(result, part)).items()}


def assert_same_run(actual: Run, expected: Run) -> None:
    assert_close(by_name(actual), by_name(expected), F64)


@few
@given(st.data(), sequences(), directions)
def test_a_row_in_a_batch_is_what_it_is_alone(data, s, reverse):
    mask = bools(data.draw, len(s.lengths), s.steps)
    live = as_bools(live_steps(len(s.lengths), s.steps, s.lengths, mask), s.steps)
    together = run(s.cell, s.inputs, s.state, s.lengths, mask=as_bools(mask, s.steps), reverse=reverse)
    for b, real in enumerate(live):
        cut = map_leaves(lambda leaf, b=b, real=real: leaf[b : b + 1, real], s.inputs)
        alone = run(s.cell, cut, map_leaves(lambda leaf, b=b: leaf[b : b + 1], s.state), reverse=reverse)
        its_part = Run(
            map_leaves(lambda leaf, b=b, real=real: leaf[b : b + 1, real], together.outputs),
            map_leaves(lambda leaf, b=b: leaf[b : b + 1], together.final_state),
            map_leaves(lambda leaf, b=b, real=real: leaf[b : b + 1, real], together.all_states),
        )
        assert_same_run(its_part, alone)


@few
@given(st.data(), sequences(min_steps=2), directions)
def test_a_run_in_chunks_with_carried_state_equals_one_run(data, s, reverse):
    batch = len(s.lengths)
    cuts = sorted(data.draw(st.sets(st.integers(1, s.steps - 1), min_size=1, max_size=3)))
    # A reset at a step that is not real waits for the row's next real step, which may be in another chunk.
    live = as_bools(live_steps(batch, s.steps, s.lengths), s.steps)
    resets = as_bools(bools(data.draw, batch, s.steps), s.steps) & live
    whole = run(s.cell, s.inputs, s.state, s.lengths, resets=resets, reverse=reverse)
    chunks = list(zip([0, *cuts], [*cuts, s.steps], strict=True))
    state, parts = s.state, []
    for start, end in reversed(chunks) if reverse else chunks:
        part = run(
            s.cell,
            map_leaves(lambda leaf, a=start, z=end: leaf[:, a:z], s.inputs),
            state,
            [min(max(length - start, 0), end - start) for length in s.lengths],
            resets=resets[:, start:end],
            reverse=reverse,
        )
        state = part.final_state
        parts.append(part)
    parts = parts[::-1] if reverse else parts
    joined = Run(
        map_leaves(lambda *leaves: torch.cat(leaves, 1), *[part.outputs for part in parts]),
        state,
        map_leaves(lambda *leaves: torch.cat(leaves, 1), *[part.all_states for part in parts]),
    )
    assert_same_run(joined, whole)


@few
@given(st.data(), sequences(), directions, pads, st.sampled_from([float("nan"), float("inf"), -1e300, 0.0]))
def test_what_stands_in_padding_never_matters(data, s, reverse, pad, filling):
    batch = len(s.lengths)
    mask = bools(data.draw, batch, s.steps)
    padding = ~as_bools(live_steps(batch, s.steps, s.lengths, mask), s.steps)

    def filled(leaf: Tensor) -> Tensor:
        leaf = leaf.clone()
        leaf[padding] = filling if leaf.is_floating_point() else -(10**6)
        return leaf

    options = {"mask": as_bools(mask, s.steps), "reverse": reverse, "pad_output": pad}
    clean = measured(s.cell, s.inputs, s.state, s.lengths, **options)
    assert_identical(measured(s.cell, map_leaves(filled, s.inputs), s.state, s.lengths, **options), clean)
    for leaf in leaves_of(s.inputs):
        assert leaf.isfinite().all()
    for name, value in clean.items():
        assert value.isfinite().all(), name
        if name.startswith("gradient of inputs"):
            assert not value[padding].any()


def reversed_rows(values: Any, lengths: list[int]) -> Any:
    """Reverse each row [T, ...] within its own length."""

    def reverse(leaf: Tensor) -> Tensor:
        rows = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(leaf, lengths, strict=True)]
        return torch.stack(rows)

    return map_leaves(reverse, values)


@few
@given(sequences())
def test_a_reverse_run_over_reversed_rows_is_the_forward_run_mirrored(s):
    forward = run(s.cell, s.inputs, s.state, s.lengths)
    mirrored = run(s.cell, reversed_rows(s.inputs, s.lengths), s.state, s.lengths, reverse=True)
    padding = ~as_bools(live_steps(len(s.lengths), s.steps, s.lengths), s.steps)

    def without_padding(states: Any) -> Any:
        """Blank the states carried through padding: they are the last ones forward, and the first ones in reverse."""
        return map_leaves(
            lambda leaf: leaf.masked_fill(padding.view(*padding.shape, *[1] * (leaf.dim() - 2)), 0), states
        )

    expected = forward._replace(all_states=without_padding(forward.all_states))
    states = without_padding(reversed_rows(mirrored.all_states, s.lengths))
    assert_same_run(Run(reversed_rows(mirrored.outputs, s.lengths), mirrored.final_state, states), expected)


@few
@given(sequences(), directions, pads)
def test_a_right_padded_mask_equals_the_same_lengths(s, reverse, pad):
    options = {"reverse": reverse, "pad_output": pad}
    mask = as_bools(live_steps(len(s.lengths), s.steps, s.lengths), s.steps)
    by_lengths = measured(s.cell, s.inputs, s.state, s.lengths, **options)
    assert_identical(measured(s.cell, s.inputs, s.state, mask=mask, **options), by_lengths)
    assert_identical(measured(s.cell, s.inputs, s.state, s.lengths, mask=mask, **options), by_lengths)


@few
@given(st.data(), sequences(min_steps=1), directions)
def test_resets_cut_a_sequence_into_runs_of_their_own(data, s, reverse):
    starts = sorted(data.draw(st.sets(st.integers(0, s.steps - 1), max_size=3)) | {0})
    ends = [*starts[1:], s.steps]
    firsts = [end - 1 for end in ends] if reverse else starts
    resets = torch.zeros(len(s.lengths), s.steps, dtype=torch.bool)
    resets[:, firsts] = True
    whole = run(s.cell, s.inputs, s.state, resets=resets, reverse=reverse)
    parts = [
        run(s.cell, map_leaves(lambda leaf, a=start, z=end: leaf[:, a:z], s.inputs), None, reverse=reverse)
        for start, end in zip(starts, ends, strict=True)
    ]
    joined = Run(
        map_leaves(lambda *leaves: torch.cat(leaves, 1), *[part.outputs for part in parts]),
        parts[0 if reverse else -1].final_state,
        map_leaves(lambda *leaves: torch.cat(leaves, 1), *[part.all_states for part in parts]),
    )
    assert_same_run(whole, joined)


@few
@given(st.data(), sequences(), directions)
def test_permuting_rows_permutes_results(data, s, reverse):
    order = data.draw(st.permutations(range(len(s.lengths))))
    straight = run(s.cell, s.inputs, s.state, s.lengths, reverse=reverse)

    def permuted(tree: Any) -> Any:
        return map_leaves(lambda leaf: leaf[list(order)], tree)

    lengths = [s.lengths[b] for b in order]
    shuffled = run(s.cell, permuted(s.inputs), permuted(s.state), lengths, reverse=reverse)
    assert_same_run(shuffled, Run(*map(permuted, straight)))
