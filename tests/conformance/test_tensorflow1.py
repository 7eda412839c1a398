"""The functions of `unspool.execution` against TensorFlow 1's: outputs, final states and every gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool
from tests.conformance.convert import (
    tensorflow_cell,
    tensorflow_leaves,
    tensorflow_parameters,
    tensorflow_states,
)
from tests.conformance.golden_cases import GoldenCase, load_cases

GROUPS = {"cells": 16, "lengths": 18, "sizes": 13, "float32": 21, "static": 27, "bidirectional": 52, "raw": 37}
CASES = load_cases("tensorflow1", GROUPS)
Results = dict[str, Tensor]


class Model:
    """The cells of a case, and everything that gradients are taken of."""

    def __init__(self, case: GoldenCase) -> None:
        self.case = case
        self.lengths = case.meta["lengths"]
        self.time_major: bool = case.meta["time_major"]
        self.leaves = {path: case.leaf(path) for path in case.arrays if path.startswith(("inputs", "initial_state/"))}
        self.leaves |= {path: case.leaf(path) for path in case.arrays if path.startswith("weight/loop/")}
        self.expected = {path: case.arrays[f"gradient/{path}"] for path in self.leaves}
        self.inputs = self.leaves["inputs"]
        self.cells = [self._cell(index, cell) for index, cell in enumerate(case.meta["cells"])]
        states = [leaf for path, leaf in self.leaves.items() if path.startswith("initial_state/")]
        self.states = tensorflow_states(case.meta["cells"], states) if states else [None] * len(self.cells)

    def _cell(self, index: int, cell: dict[str, Any]) -> nn.Module:
        parameters = tensorflow_parameters(cell, self.case.under(f"weight/{cell['scope']}/"))
        gradients = tensorflow_parameters(cell, self.case.under(f"gradient/weight/{cell['scope']}/"))
        made = tensorflow_cell(cell, parameters, self.case.dtype, index)
        self.leaves |= {f"cell {index}, {name}": parameter for name, parameter in made.named_parameters()}
        self.expected |= {f"cell {index}, {name}": gradient for name, gradient in gradients.items()}
        return unspool.ResidualCell(made) if cell["residual"] else made

    def indices(self, direction: str) -> list[int]:
        """The places of the cells of one direction."""
        return [k for k, cell in enumerate(self.case.meta["cells"]) if cell["direction"] == direction]

    def joint(self, direction: str = "forward") -> tuple[Any, Any]:
        """The cells of one direction as one, and their initial state."""
        indices = self.indices(direction)
        if len(indices) == 1:
            return self.cells[indices[0]], self.states[indices[0]]
        states = tuple(self.states[k] for k in indices)
        return unspool.StackedRNNCells([self.cells[k] for k in indices]), None if None in states else states

    def steps(self) -> list[Tensor]:
        """The inputs as a list of steps."""
        return list((self.inputs if self.time_major else self.inputs.transpose(0, 1)).unbind(0))

    def results(self, outputs: list[Any], states: list[Any]) -> Results:
        """Name outputs and final states (one for each cell) as the golden file does.

        A list of outputs of steps is stacked in the layout of the case.
        """
        axis = 0 if self.time_major else 1
        arrays = [torch.stack(output, axis) if isinstance(output, list) else output for output in outputs]
        named = {f"outputs/{k}": array for k, array in enumerate(arrays)}
        return named | {f"final_state/{k}": leaf for k, leaf in enumerate(tensorflow_leaves(states))}


def states_of(model: Model, state: Any) -> list[Any]:
    """The states of the forward cells, from that of one or of several as one."""
    return [state] if len(model.indices("forward")) == 1 else list(state)


def transposed(model: Model, swap: bool) -> tuple[Tensor, bool]:
    """The inputs and their layout, or both turned round."""
    return (model.inputs.transpose(0, 1), not model.time_major) if swap else (model.inputs, model.time_major)


def back(outputs: Tensor, swap: bool) -> Tensor:
    """Outputs in the layout of the case."""
    return outputs.transpose(0, 1) if swap else outputs


def dynamic(model: Model, swap: bool = False, backend: str = "auto") -> Results:
    cell, start = model.joint()
    inputs, time_major = transposed(model, swap)
    outputs, state = unspool.dynamic_rnn(cell, inputs, model.lengths, start, time_major, backend=backend)
    return model.results([back(outputs, swap)], states_of(model, state))


def static(model: Model, backend: str = "auto") -> Results:
    cell, start = model.joint()
    outputs, state = unspool.static_rnn(cell, model.steps(), model.lengths, start, backend=backend)
    return model.results([outputs], states_of(model, state))


def bidirectional(model: Model, swap: bool = False, backend: str = "auto", joined: bool = False) -> Results:
    (cell_fw, start_fw), (cell_bw, start_bw) = model.joint("forward"), model.joint("backward")
    inputs, time_major = transposed(model, swap)
    outputs, states = unspool.bidirectional_dynamic_rnn(
        cell_fw, cell_bw, inputs, model.lengths, start_fw, start_bw, time_major, backend=backend
    )
    in_layout = [back(output, swap) for output in outputs]
    return model.results([torch.cat(in_layout, -1)] if joined else in_layout, list(states))


def static_bidirectional(model: Model, backend: str = "auto", joined: bool = False) -> Results:
    (cell_fw, start_fw), (cell_bw, start_bw) = model.joint("forward"), model.joint("backward")
    outputs, *states = unspool.static_bidirectional_rnn(
        cell_fw, cell_bw, model.steps(), model.lengths, start_fw, start_bw, backend=backend
    )
    if joined:
        return model.results([outputs], states)
    width = model.case.arrays["outputs/0"].shape[-1]
    return model.results([[y[:, :width] for y in outputs], [y[:, width:] for y in outputs]], states)


def stack_bidirectional(model: Model, swap: bool = False, backend: str = "auto") -> Results:
    forward, backward = model.indices("forward"), model.indices("backward")
    inputs, time_major = transposed(model, swap)
    outputs, states_fw, states_bw = unspool.stack_bidirectional_dynamic_rnn(
        [model.cells[k] for k in forward],
        [model.cells[k] for k in backward],
        inputs,
        model.lengths,
        [model.states[k] for k in forward],
        [model.states[k] for k in backward],
        time_major,
        backend=backend,
    )
    by_place = dict(zip(forward + backward, states_fw + states_bw, strict=True))
    return model.results([back(outputs, swap)], [by_place[k] for k in sorted(by_place)])


def raw_as_dynamic(model: Model) -> Results:
    cell, start = model.joint()
    lengths, last = torch.tensor(model.lengths), len(model.inputs) - 1

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> tuple[Any, ...]:
        next_input = model.inputs[min(time, last)]
        return time >= lengths, next_input, start if output is None else state, output, None

    emitted, state, loop_state = unspool.raw_rnn(cell, loop)
    assert loop_state is None
    return model.results([emitted], states_of(model, state))


def raw_feedback(model: Model, keep_finished: bool) -> Results:
    cell, start = model.joint()
    lengths, last = torch.tensor(model.lengths), len(model.inputs) - 1
    feedback, readout = model.leaves["weight/loop/feedback"], model.leaves["weight/loop/readout"]

    def loop(time: int, output: Any, state: Any, trace: Any) -> tuple[Any, ...]:
        finished, step_input = time >= lengths, model.inputs[min(time, last)]
        if output is None:
            emit = (step_input.new_zeros(2), step_input.new_zeros(len(feedback)))
            return finished, step_input, start, emit, torch.zeros_like(step_input)
        next_input = step_input + torch.tanh(output @ feedback) + trace
        shrunk = type(state)(*(0.75 * leaf for leaf in state)) if isinstance(state, tuple) else 0.75 * state
        next_trace = 0.5 * trace + torch.sin(next_input)
        if keep_finished:
            next_trace = torch.where((time > lengths)[:, None], trace, next_trace)
        return finished, next_input, shrunk, (output @ readout, -output), next_trace

    emitted, state, trace = unspool.raw_rnn(cell, loop)
    return model.results(list(emitted), [state]) | {"final_loop_state/0": trace}


def raw_kept_loop_state(model: Model) -> Results:
    cell, start = model.joint()
    lengths, last = torch.tensor(model.lengths), len(model.inputs) - 1

    def loop(time: int, output: Any, state: Any, kept: Any) -> tuple[Any, ...]:
        finished, step_input = time >= lengths, model.inputs[min(time, last)]
        if output is None:
            return finished, step_input, start, None, model.leaves["weight/loop/shift"]
        return finished, step_input + kept, state, output, None

    emitted, state, kept = unspool.raw_rnn(cell, loop)
    return model.results([emitted], [state]) | {"final_loop_state/0": kept}


WAYS: dict[str, dict[str, Callable[[Model], Results]]] = {
    "dynamic_rnn": {
        "dynamic": dynamic,
        "reference": partial(dynamic, backend="reference"),
        "other_layout": partial(dynamic, swap=True),
        "static": static,
    },
    "static_rnn": {"static": static, "reference": partial(static, backend="reference"), "dynamic": dynamic},
    "bidirectional_dynamic_rnn": {
        "dynamic": bidirectional,
        "reference": partial(bidirectional, backend="reference"),
        "other_layout": partial(bidirectional, swap=True),
        "static": static_bidirectional,
    },
    "static_bidirectional_rnn": {
        "static": partial(static_bidirectional, joined=True),
        "dynamic": partial(bidirectional, joined=True),
    },
    "stack_bidirectional_dynamic_rnn": {
        "dynamic": stack_bidirectional,
        "other_layout": partial(stack_bidirectional, swap=True),
    },
    "raw_rnn_as_dynamic": {"raw": raw_as_dynamic},
    "raw_rnn_feedback": {"raw": partial(raw_feedback, keep_finished=True)},
    "raw_rnn_running_loop_state": {"raw": partial(raw_feedback, keep_finished=False)},
    "raw_rnn_kept_loop_state": {"raw": raw_kept_loop_state},
}
"""For each function of TensorFlow, the ways in which this library computes the same."""


DIFFERENCES = {
    "raw_rnn_running_loop_state": "raw_rnn runs the cell on rows that have not finished, TensorFlow on all: a loop "
    "state that goes on in finished rows sees zeros there instead of an output",
}
"""Functions whose values differ from TensorFlow's on purpose, and why."""


def every_way() -> list[Any]:
    """Return each case in its own way, and the other ways once for each kind of case."""
    params, met = [], set()
    for name, case in CASES.items():
        function = case.meta["function"]
        reason = DIFFERENCES.get(function)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)]
        kind = function, case.meta["lengths"] is None, case.meta["dtype"]
        own, *others = WAYS[function]
        for way in [own, *(way for way in others if (kind, way) not in met)]:
            met.add((kind, way))
            params.append(pytest.param(name, way, id=f"{name}-{way}", marks=marks))
    return params


@pytest.mark.parametrize(("name", "way"), every_way())
def test_values_and_gradients(name: str, way: str) -> None:
    case = CASES[name]
    model = Model(case)
    results = WAYS[case.meta["function"]][way](model)
    case.check_results(results)
    case.check_gradients(results, model.leaves, model.expected)


def test_every_case_is_there() -> None:
    assert len(CASES) == sum(GROUPS.values()) == 184
    assert {case.meta["function"] for case in CASES.values()} == set(WAYS)
