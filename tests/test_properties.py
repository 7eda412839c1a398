"""Laws that hold for every cell and every batch of sequences, in values and gradients.

Letters: B batch, T steps, N tokens, which are the real steps of all rows.
"""

from __future__ import annotations

from functools import cache
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
    with_gradient,
)
from tests.conformance.runs import time_first
from unspool import dynamic_rnn, static_rnn

F64 = torch.float64
ROWS = [row for row in CELLS if not row.training and row.name != "user row inputs" and row.constants is None]
"""Cells without random numbers, and without constants, which these laws say nothing of: rows of one batch and another
are to be compared."""

few = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


class Sequences(NamedTuple):
    """A cell, a batch of ragged sequences, `inputs` [B, T, ...] and `state` [B, ...], and how to run over them."""

    cell: Any
    inputs: Any
    state: Any
    lengths: list[int]
    steps: int
    unrolled: bool
    backend: str

    @property
    def problem(self) -> Problem:
        """The same with fresh leaves that gradients are taken of."""
        return Problem(self.cell, with_gradient(self.inputs), with_gradient(self.state))

    def run(self, inputs: Any, state: Any, lengths: Any = None, **options: Any) -> Run:
        """Run over all or some of the inputs, looped with all states, or unrolled."""
        options |= {"initial_state": state, "backend": self.backend}
        if not self.unrolled:
            return Run(*dynamic_rnn(self.cell, inputs, lengths, return_all_states=True, **options))
        if leaves_of(inputs)[0].shape[1] == 0:  # of which there is no list
            return Run(*dynamic_rnn(self.cell, inputs, lengths, **options))
        steps = [map_leaves(lambda leaf, t=t: leaf[:, t], inputs) for t in range(leaves_of(inputs)[0].shape[1])]
        outputs, final = static_rnn(self.cell, steps, lengths, **time_first(options))
        return Run(map_leaves(lambda *leaves: torch.stack(leaves, 1), *outputs), final)


@cache
def cell_of(row: CellRow) -> Any:
    """Return one cell for all examples, which is read once; each example has parameters of its own."""
    return row.cell(2, 2, F64)


@st.composite
def sequences(draw: st.DrawFn, rows: list[CellRow] = ROWS, min_steps: int = 0) -> Sequences:
    row = draw(st.sampled_from(rows))
    batch, steps = draw(st.integers(1, 4)), draw(st.integers(min_steps, 6))
    lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    seed = draw(st.integers(0, 1000))
    cell = cell_of(row)
    cell.load_state_dict(row.cell(2, 2, F64, seed).state_dict())
    generator = torch.Generator().manual_seed(seed)
    inputs = row.draw(batch, steps, 2, generator)
    state = random_state(cell, batch, F64, generator)
    backend = draw(st.sampled_from(["auto", "reference"]))
    return Sequences(cell, inputs, state, lengths, steps, draw(st.booleans()), backend)


def bools(draw: st.DrawFn, s: Sequences) -> Tensor:
    row = st.lists(st.booleans(), min_size=s.steps, max_size=s.steps)
    return as_bools(draw(st.lists(row, min_size=len(s.lengths), max_size=len(s.lengths))), s.steps)


def as_bools(table: list[list[bool]], steps: int) -> Tensor:
    return torch.tensor(table, dtype=torch.bool).reshape(len(table), steps)


def live_of(s: Sequences, mask: Tensor | None = None) -> Tensor:
    """Where the real steps are: `[B, T]`."""
    lists = None if mask is None else mask.tolist()
    return as_bools(live_steps(len(s.lengths), s.steps, s.lengths, lists), s.steps)


directions = st.booleans()
pads = st.sampled_from(["zero", "repeat"])


def measured(s: Sequences, *args: Any, **options: Any) -> dict[str, Tensor]:
    """Run over everything; return results and gradients by name."""
    problem = s.problem
    return measure(lambda: s.run(problem.inputs, problem.initial_state, *args, **options), problem)


def joined(parts: list[Any], axis: int) -> Any:
    """Concatenate nestings of Tensor; None, where unrolled runs have no states, stays None."""
    return None if parts[0] is None else map_leaves(lambda *leaves: torch.cat(leaves, axis), *parts)


@few
@given(st.data(), sequences(), directions)
def test_a_row_in_a_batch_is_what_it_is_alone(data, s, reverse):
    mask = bools(data.draw, s)
    live = live_of(s, mask)
    # A reset at a step that is not real waits for the row's next real step, which alone is at another place.
    resets = bools(data.draw, s) & live
    problem = s.problem

    def together() -> Run:
        options = {"mask": mask, "resets": resets, "reverse": reverse}
        run = s.run(problem.inputs, problem.initial_state, s.lengths, **options)
        tokens = [None if tree is None else map_leaves(lambda leaf: leaf[live], tree) for tree in (run[0], run[2])]
        return Run(tokens[0], run.final_state, tokens[1])

    def alone() -> Run:
        runs = []
        for b, real in enumerate(live):
            cut = map_leaves(lambda leaf, b=b, real=real: leaf[b : b + 1, real], problem.inputs)
            state = map_leaves(lambda leaf, b=b: leaf[b : b + 1], problem.initial_state)
            runs.append(s.run(cut, state, resets=resets[b : b + 1, real], reverse=reverse))
        states = [None if run.all_states is None else map_leaves(lambda leaf: leaf[0], run.all_states) for run in runs]
        outputs = [map_leaves(lambda leaf: leaf[0], run.outputs) for run in runs]
        return Run(joined(outputs, 0), joined([run.final_state for run in runs], 0), joined(states, 0))

    assert_close(measure(together, problem), measure(alone, problem), F64)


@few
@given(st.data(), sequences(min_steps=2), directions)
def test_a_run_in_chunks_with_carried_state_equals_one_run(data, s, reverse):
    cuts = sorted(data.draw(st.sets(st.integers(1, s.steps - 1), min_size=1, max_size=3)))
    mask = bools(data.draw, s)
    # A reset at a step that is not real waits for the row's next real step, which may be in another chunk.
    resets = bools(data.draw, s) & live_of(s, mask)
    problem = s.problem

    def whole() -> Run:
        options = {"mask": mask, "resets": resets, "reverse": reverse}
        return s.run(problem.inputs, problem.initial_state, s.lengths, **options)

    def in_chunks() -> Run:
        chunks = list(zip([0, *cuts], [*cuts, s.steps], strict=True))
        state, parts = problem.initial_state, []
        for start, end in reversed(chunks) if reverse else chunks:
            part = s.run(
                map_leaves(lambda leaf, a=start, z=end: leaf[:, a:z], problem.inputs),
                state,
                [min(max(length - start, 0), end - start) for length in s.lengths],
                mask=mask[:, start:end],
                resets=resets[:, start:end],
                reverse=reverse,
            )
            state = part.final_state
            parts.append(part)
        parts = parts[::-1] if reverse else parts
        return Run(joined([part.outputs for part in parts], 1), state, joined([part.all_states for part in parts], 1))

    assert_close(measure(in_chunks, problem), measure(whole, problem), F64)


@few
@given(st.data(), sequences(), directions, pads, st.sampled_from([float("nan"), float("inf"), -1e300, 0.0]))
def test_what_stands_in_padding_never_matters(data, s, reverse, pad, filling):
    mask, resets = bools(data.draw, s), bools(data.draw, s)
    padding = ~live_of(s, mask)

    def filled(leaf: Tensor) -> Tensor:
        leaf = leaf.clone()
        leaf[padding] = filling if leaf.is_floating_point() else -(10**6)
        return leaf

    options = {"mask": mask, "resets": resets, "reverse": reverse, "pad_output": pad}
    clean = measured(s, s.lengths, **options)
    assert_identical(measured(s._replace(inputs=map_leaves(filled, s.inputs)), s.lengths, **options), clean)
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
    problem = s.problem
    live = live_of(s)

    def with_states_of_tokens(outputs: Any, final: Any, states: Any) -> Run:
        """Drop the states carried through padding: they are the last ones forward, and the first ones in reverse."""
        return Run(outputs, final, None if states is None else map_leaves(lambda leaf: leaf[live], states))

    def forward() -> Run:
        return with_states_of_tokens(*s.run(problem.inputs, problem.initial_state, s.lengths))

    def mirrored() -> Run:
        inputs = reversed_rows(problem.inputs, s.lengths)
        run = s.run(inputs, problem.initial_state, s.lengths, reverse=True)
        states = None if run.all_states is None else reversed_rows(run.all_states, s.lengths)
        return with_states_of_tokens(reversed_rows(run.outputs, s.lengths), run.final_state, states)

    assert_close(measure(mirrored, problem), measure(forward, problem), F64)


@few
@given(sequences(), directions, pads)
def test_a_right_padded_mask_equals_the_same_lengths(s, reverse, pad):
    options = {"reverse": reverse, "pad_output": pad}
    mask = live_of(s)
    by_lengths = measured(s, s.lengths, **options)
    assert_identical(measured(s, mask=mask, **options), by_lengths)
    assert_identical(measured(s, s.lengths, mask=mask, **options), by_lengths)


@few
@given(st.data(), sequences(min_steps=1), directions)
def test_resets_cut_a_sequence_into_runs_of_their_own(data, s, reverse):
    starts = sorted(data.draw(st.sets(st.integers(0, s.steps - 1), max_size=3)) | {0})
    ends = [*starts[1:], s.steps]
    resets = torch.zeros(len(s.lengths), s.steps, dtype=torch.bool)
    resets[:, [end - 1 for end in ends] if reverse else starts] = True
    problem = s.problem

    def whole() -> Run:
        return s.run(problem.inputs, problem.initial_state, resets=resets, reverse=reverse)

    def in_parts() -> Run:
        parts = [
            s.run(map_leaves(lambda leaf, a=start, z=end: leaf[:, a:z], problem.inputs), None, reverse=reverse)
            for start, end in zip(starts, ends, strict=True)
        ]
        final = parts[0 if reverse else -1].final_state
        return Run(joined([part.outputs for part in parts], 1), final, joined([part.all_states for part in parts], 1))

    assert_close(measure(whole, problem), measure(in_parts, problem), F64)


@few
@given(st.data(), sequences(), directions)
def test_permuting_rows_permutes_results(data, s, reverse):
    order = list(data.draw(st.permutations(range(len(s.lengths)))))
    problem = s.problem

    def permuted(tree: Any) -> Any:
        return None if tree is None else map_leaves(lambda leaf: leaf[order], tree)

    def before() -> Run:
        lengths = [s.lengths[b] for b in order]
        return s.run(permuted(problem.inputs), permuted(problem.initial_state), lengths, reverse=reverse)

    def after() -> Run:
        return Run(*map(permuted, s.run(problem.inputs, problem.initial_state, s.lengths, reverse=reverse)))

    assert_close(measure(before, problem), measure(after, problem), F64)
