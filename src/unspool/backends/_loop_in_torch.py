"""The engine's loop in plain PyTorch: for derivatives of derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unspool.backends._layout import TokenLayout
from unspool.backends._running import RunningRows
from unspool.program.evaluate import constant, evaluate
from unspool.program.loop import Loop


def run_loop(loop: Loop, layout: TokenLayout, given: dict[str, Any], all_states: bool) -> tuple[Tensor, ...]:
    """Run a loop step by step.

    Parameters
    ----------
    loop : Loop
    layout : TokenLayout
    given : dict of str to sequence of Tensor
        `input`, `token`, `row`, `initial`, `fresh` and `param`, as the engine takes them.
    all_states : bool
        Whether the states per token are wanted.

    Returns
    -------
    tuple of Tensor
        Outputs in the form of inputs, final states, and states per token where they are wanted.
    """
    program = loop.program
    constants = evaluate([v for v in program.live() if constant(v) is not None], {}, 1)
    constant_rows = {"rows": list(given["row"]), "fresh": list(given["fresh"])}
    running = RunningRows(list(given["initial"]), constant_rows, layout.spans, torch.device("cpu"))
    tokens: list[Tensor] = []
    collected: list[list[Tensor]] = [[] for _ in (*program.outputs, *(program.new_states if all_states else ()))]
    inputs = [layout.take_tokens(t) for t in given["input"]]
    for k, (index, rows, resets) in enumerate(layout.each_step()):
        now = running.at(k)
        known = constants | dict(zip(loop.params, given["param"], strict=True))
        known |= {v: t.index_select(0, index) for v, t in zip(loop.tokens, given["token"], strict=True)}
        known |= {v: t.index_select(0, index) for v, t in zip(loop.inputs, inputs, strict=True)}
        known |= dict(zip(loop.rows, now["rows"], strict=True))
        for value, old, fresh in zip(loop.states, now["state"], now["fresh"], strict=True):
            where = None if resets is None else resets.view(-1, *[1] * (old.dim() - 1))
            known[value] = old if where is None else torch.where(where, fresh, old)
        evaluate(loop.body, known, len(rows))
        new = [known[v].expand(len(rows), *v.shape) for v in program.new_states]
        running.put(k, new)
        outputs = [known[v].expand(len(rows), *v.shape) for v in program.outputs]
        for values, value in zip(collected, [*outputs, *(new if all_states else ())], strict=True):
            values.append(value)
        tokens.append(index)
    ends = [*program.outputs, *(program.new_states if all_states else ())]
    number = torch.cat(tokens) if tokens else torch.zeros(0, dtype=torch.long)
    per_token = []
    for value, parts in zip(ends, collected, strict=True):
        empty = given["initial"][0].new_zeros((layout.tokens, *value.shape))
        per_token.append(empty.index_copy(0, number, torch.cat(parts)) if parts else empty)
    n = len(program.outputs)
    return (*map(layout.put_tokens, per_token[:n]), *running.final(), *per_token[n:])
