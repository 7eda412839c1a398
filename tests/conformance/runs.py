"""How the library runs a case, in each execution. Everything goes in and comes back batch-major."""

from __future__ import annotations

from typing import Any

import torch

import unspool
from tests.conformance.cases import Case
from tests.conformance.oracle import Problem, Run, live_steps, map_leaves, poison, with_gradient


def posed(case: Case, cell: Any = None) -> tuple[Problem, list[list[bool]]]:
    """Return the problem of a case with its padding poisoned, and where there is none."""
    problem = case.problem(cell)
    live = live_steps(*case.sizes[:2], case.lengths_list(), case.mask_list())
    return problem._replace(inputs=with_gradient(poison(problem.inputs, live))), live


def batch_first(values: Any) -> Any:
    return map_leaves(lambda leaf: leaf.transpose(0, 1), values)


TIME_MAJOR = ["dynamic_rnn time-major", "static_rnn", "RNN", "RNN unrolled"]
TIME_MAJOR += ["bidirectional_dynamic_rnn time-major", "static_bidirectional_rnn"]
"""Executions whose inputs have time before batch, and so have mask and resets."""


def about_steps(case: Case) -> dict[str, Any]:
    """Return mask and resets in the layout of the inputs."""
    tables = {"mask": case.mask_list(), "resets": case.resets_list()}
    return time_first(tables) if case.execution in TIME_MAJOR else tables


def time_first(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a batch-major run with mask and resets as a time-major run takes them."""

    def transposed(table: Any) -> Any:
        if isinstance(table, list):
            rectangular = len({len(row) for row in table}) == 1
            return list(map(list, zip(*table, strict=True))) if rectangular else table
        return table if table is None or table.ndim != 2 else table.T

    return {name: transposed(value) if name in ("mask", "resets") else value for name, value in options.items()}


def run_library(case: Case, problem: Problem) -> Run:
    """Run a case through the library; everything comes back batch-major."""
    cell, inputs, state, constants = problem
    options: dict[str, Any] = {"constants": constants, **about_steps(case)}
    fixed: dict[str, Any] = {"reverse": case.reverse, "pad_output": case.pad_output, "backend": case.backend}
    lengths = case.lengths_list()
    execution, _, variant = case.execution.partition(" ")
    torch.default_generator.manual_seed(case.seed)
    if execution == "dynamic_rnn" and variant == "all states":
        return Run(*unspool.dynamic_rnn(cell, inputs, lengths, state, return_all_states=True, **options, **fixed))
    if execution == "dynamic_rnn" and variant == "time-major":
        outputs, final = unspool.dynamic_rnn(cell, batch_first(inputs), lengths, state, True, **options, **fixed)
        return Run(batch_first(outputs), final)
    if execution == "dynamic_rnn":
        return Run(*unspool.dynamic_rnn(cell, inputs, lengths, state, **options, **fixed))
    if execution == "static_rnn":
        steps = [map_leaves(lambda leaf, t=t: leaf[:, t], inputs) for t in range(case.sizes[1])]
        outputs, final = unspool.static_rnn(cell, steps, lengths, state, **options, **fixed)
        return Run(map_leaves(lambda *leaves: torch.stack(leaves, 1), *outputs), final)
    assert execution == "RNN"
    if variant == "batch-first":
        layer = unspool.RNN(cell, batch_first=True, **fixed)
        return Run(*layer(inputs, state, lengths=lengths, **options))
    unroll: dict[str, Any] = {"unroll": True, "num_steps": case.sizes[1]} if variant == "unrolled" else {}
    layer = unspool.RNN(cell, **unroll, **fixed)
    outputs, final = layer(batch_first(inputs), state, lengths=lengths, **options)
    return Run(batch_first(outputs), final)


def run_library_both_ways(case: Case, cells: list[Any], problem: Problem) -> Run:
    _, inputs, states, constants = problem
    options: dict[str, Any] = {"constants": constants, **about_steps(case)}
    fixed: dict[str, Any] = {"pad_output": case.pad_output, "backend": case.backend}
    lengths, execution = case.lengths_list(), case.execution
    fw, bw = cells[:2]
    state_fw, state_bw = (None, None) if states is None else states
    torch.default_generator.manual_seed(case.seed)
    if execution == "bidirectional_dynamic_rnn":
        return Run(*unspool.bidirectional_dynamic_rnn(fw, bw, inputs, lengths, state_fw, state_bw, **options, **fixed))
    if execution == "bidirectional_dynamic_rnn time-major":
        outputs, final = unspool.bidirectional_dynamic_rnn(
            fw, bw, batch_first(inputs), lengths, state_fw, state_bw, True, **options, **fixed
        )
        return Run(batch_first(outputs), final)
    if execution == "static_bidirectional_rnn":
        steps = [map_leaves(lambda leaf, t=t: leaf[:, t], inputs) for t in range(case.sizes[1])]
        joined, *final = unspool.static_bidirectional_rnn(
            fw, bw, steps, lengths, state_fw, state_bw, **options, **fixed
        )
        return Run(map_leaves(lambda *leaves: torch.stack(leaves, 1), *joined), tuple(final))
    if execution == "Bidirectional":
        layer = unspool.Bidirectional(
            unspool.RNN(fw, batch_first=True, **fixed), unspool.RNN(bw, batch_first=True, reverse=True, **fixed)
        )
        return Run(*layer(inputs, states, lengths=lengths, **options))
    assert execution == "stack_bidirectional_dynamic_rnn"
    outputs, states_fw, states_bw = unspool.stack_bidirectional_dynamic_rnn(
        cells[::2], cells[1::2], inputs, lengths, state_fw, state_bw, **options, **fixed
    )
    return Run(outputs, (states_fw, states_bw))
