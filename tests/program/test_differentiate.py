"""Backward programs, run in PyTorch, against autograd. Those of all spellings: `rules/test_rules.py`.

Letters: B batch, H features.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.oracle import leaves_of
from tests.program.rules.spellings import KINKS, spellings, step_of
from tests.program.steps import TRACED, StepCell, constants_in_float64, known_leaves, posed_cell
from unspool.program.evaluate import constant, evaluate
from unspool.program.ir import Value
from unspool.program.read import read_step
from unspool.program.recording import Recording
from unspool.program.step import StepProgram


@constants_in_float64()
def assert_differentiated(recording: Recording, cell: Any, x: Any, state: Any, rows: Any = None) -> None:
    """Differentiate one step of the loop both ways."""
    step = StepProgram.of(recording)
    loop, bw, program = step.loop, step.backward, step.loop.program
    batch = leaves_of(state)[0].shape[0]
    known = known_leaves(program, recording, cell, x, state, rows)
    outside = [v for v in loop.outside if v not in known]
    evaluate(outside, known, batch)
    evaluate([v for v in program.live() if constant(v) is not None and v not in known], known, batch)
    # What the loop takes is where the gradients end.
    sources = [*loop.inputs, *loop.tokens, *loop.rows, *loop.states, *loop.params]
    for value in sources:
        asks = known[value].is_floating_point() and (value.level != "param" or known[value].requires_grad)
        known[value] = known[value].detach().clone().requires_grad_(asks)
    forward = evaluate([v for v in loop.body if v not in known], dict(known), batch)
    generator = torch.Generator().manual_seed(8)

    def random(value: Value) -> Tensor:
        return torch.randn((batch, *value.shape), generator=generator)

    grads = {"grad_output": [random(v) for v in program.outputs], "grad_state": [random(v) for v in program.new_states]}
    ends = zip([*program.outputs, *program.new_states], [*grads["grad_output"], *grads["grad_state"]], strict=True)
    total = torch.stack([(forward[v].expand(g.shape) * g).sum() for v, g in ends]).sum()
    asking = [v for v in sources if known[v].requires_grad]
    expected = dict(
        zip(
            asking,
            torch.autograd.grad(total, [known[v] for v in asking], materialize_grads=True, allow_unused=True),
            strict=True,
        )
    )

    backward: dict[Value, Tensor] = {}
    for leaf in bw.program.values:
        if leaf.op == "forward":
            backward[leaf] = forward[bw.forward[leaf]].detach()
        elif leaf.op in grads:
            backward[leaf] = grads[leaf.op][leaf.attrs["index"]]
    with torch.no_grad():
        for value in bw.program.values:
            if value.op == "product" and value.attrs.get("transposed"):
                g, weight = (backward[a] for a in value.args)
                backward[value] = g.reshape(batch, -1) @ weight
            elif value not in backward:
                evaluate([value], backward, batch)
    found: dict[Value, Tensor] = {}

    def note(value: Value, gradient: Value | None, *, summed: bool = False) -> None:
        if gradient is not None:
            g = backward[gradient].expand(batch, *gradient.shape)
            found[value] = g.sum(0).reshape(known[value].shape) if summed else g.reshape(known[value].shape)

    for state_leaf, gradient in zip(loop.states, bw.states, strict=True):
        note(state_leaf, gradient)
    for group in (bw.tokens, bw.rows):
        for value, gradient in group.items():
            note(value, gradient)
    for value, gradient in bw.vectors.items():
        note(value, gradient, summed=True)
    for weight, pairs in bw.weights.items():
        total_weight = found.get(weight, torch.zeros_like(known[weight]))
        for gradient, taken in pairs:
            left, right = backward[gradient].reshape(batch, -1), backward[taken].expand(batch, *taken.shape)
            total_weight = total_weight + left.t() @ right.reshape(batch, -1)
        found[weight] = total_weight
    for value, want in expected.items():
        got = found.get(value, torch.zeros_like(want))
        torch.testing.assert_close(
            got, want, rtol=1e-9, atol=1e-10, msg=lambda m, v=value: f"gradient of {v} ({v.op}): {m}"
        )


def test_gradients_at_kinks_and_ties_are_those_of_pytorch():
    h = torch.tensor([[0.0, 1.0, -1.0, 1.0, 0.0, 2.0], [0.0] * 6, [1.0, 1.0, 1.0, -3.0, 3.0, 1.0]]).double()
    for text in spellings(KINKS):
        cell, x = StepCell(step_of(text)), h.flip(1)
        try:
            assert_differentiated(read_step(cell, x, h, None), cell, x, h)
        except Exception as error:
            error.add_note(text)
            raise


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_gradients_of_a_cell(row):
    posed = posed_cell(row)
    assert_differentiated(posed.recording, posed.cell, posed.x, posed.state, posed.rows)
