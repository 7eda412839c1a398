"""The engine's loop in plain PyTorch: for derivatives of derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unspool.backends._layout import TokenLayout
from unspool.backends._running import RunningRows
from unspool.program import roles
from unspool.program.evaluate import constant, evaluate
from unspool.program.loop import Loop
from unspool.program.roles import Role


def run_loop(loop: Loop, layout: TokenLayout, given: Mapping[Role, Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Run a loop step by step.

    Parameters
    ----------
    loop : Loop
    layout : TokenLayout
    given : mapping of Role to sequence of Tensor
        What a run is given, as the engine takes it.

    Returns
    -------
    tuple of Tensor
        Outputs in the form of inputs, and final states.
    """
    program = loop.program
    constants = evaluate([v for v in program.live() if constant(v) is not None], {}, 1)
    initial, own = list(given[roles.INITIAL]), list(given[roles.ROW])
    running = RunningRows(initial, {"rows": own}, layout.spans, torch.device("cpu"))
    tokens: list[Tensor] = []
    collected: list[list[Tensor]] = [[] for _ in program.outputs]
    inputs = [layout.take_tokens(t) for t in given[roles.INPUT]]
    for k, (index, rows) in enumerate(layout.each_step()):
        now = running.at(k)
        known = constants | dict(zip(loop.params, given[roles.VECTOR], strict=True))
        known |= {v: t.index_select(0, index) for v, t in zip(loop.tokens, given[roles.TOKEN], strict=True)}
        known |= {v: t.index_select(0, index) for v, t in zip(loop.inputs, inputs, strict=True)}
        known |= dict(zip(loop.rows, now["rows"], strict=True))
        known |= dict(zip(loop.states, now["state"], strict=True))
        evaluate(loop.body, known, len(rows))
        new = [known[v].expand(len(rows), *v.shape) for v in program.new_states]
        running.put(k, new)
        outputs = [known[v].expand(len(rows), *v.shape) for v in program.outputs]
        for values, value in zip(collected, outputs, strict=True):
            values.append(value)
        tokens.append(index)
    number = torch.cat(tokens) if tokens else torch.zeros(0, dtype=torch.long)
    per_token = []
    for value, parts in zip(program.outputs, collected, strict=True):
        empty = initial[0].new_zeros((layout.tokens, *value.shape))
        per_token.append(empty.index_copy(0, number, torch.cat(parts)) if parts else empty)
    return (*map(layout.put_tokens, per_token), *running.final())
