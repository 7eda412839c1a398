"""Layers as plain loops over sequences and steps, with nothing of the library in them.

Letters: B batch, T steps, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import unspool as us
from tests.conformance.oracle import map_leaves

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class About(NamedTuple):
    """What is told of the steps: lists or tensors `[T][B]`; states given at resets have leaves `[T, B, ...]`."""

    valid: Any
    resets: Any = None
    reset_states: Any = None


def loop(step: Step, x: Tensor, state: Any, start: Any, about: About, reverse: bool = False) -> tuple[Tensor, Any]:
    """Run a step over `[T, B, I]`, sequence by sequence; leaves of `state` are `[B, ...]`, of `start` `[1, ...]`."""
    outputs: dict[tuple[int, int], Tensor] = {}
    finals = []
    steps, batch = x.shape[:2]
    for b in range(batch):
        now = map_leaves(lambda leaf, b=b: leaf[b : b + 1], state)
        times, waiting = [t for t in range(steps) if about.valid[t][b]], None
        order = range(max(times, default=-1) + 1)
        for t in reversed(order) if reverse else order:
            if about.resets is not None and about.resets[t][b]:
                waiting = t
            if not about.valid[t][b]:
                continue
            if waiting is not None:
                given = about.reset_states
                now = start if given is None else map_leaves(lambda leaf, t=waiting, b=b: leaf[t, b : b + 1], given)
                waiting = None
            outputs[t, b], now = step(x[t, b : b + 1], now)
        finals.append(now)
    example, _ = step(x[0, :1].nan_to_num(), start)
    zero = torch.zeros_like(example)
    rows = [torch.cat([outputs.get((t, b), zero) for b in range(batch)]) for t in range(steps)]
    return torch.stack(rows), map_leaves(lambda *leaves: torch.cat(leaves), *finals)


def steps_of(layer: Any) -> list[Step]:
    """Return the steps of a layer, by layer, then direction: of a built-in one with the parameters that it has."""
    if isinstance(layer, us.RNN):
        return [layer.cell]
    kind = next(kind for kind in (us.LSTM, us.GRU, us.SimpleRNN) if isinstance(layer, kind))
    weights = [[*p] for p in layer.all_weights]
    return [lambda x, state, w=w: STEPS[kind](x, state, *w) for w in weights]


def lstm(x: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Any]:
    h, c = state
    i, f, g, o = (x @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return h, us.LSTMState(h, c)


def gru(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
    (r, z, n), (r_h, z_h, n_h) = ((a @ w.t() + b).chunk(3, 1) for a, w, b in ((x, w_ih, b_ih), (h, w_hh, b_hh)))
    r, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    h = (1 - z) * (n + r * n_h).tanh() + z * h
    return h, h


def simple(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
    h = (x @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh).tanh()
    return h, h


STEPS: dict[type, Any] = {us.LSTM: lstm, us.GRU: gru, us.SimpleRNN: simple}


def run_layer(layer: Any, x: Tensor, state: Any, start: Any, about: About) -> tuple[Tensor, Any]:
    """Do what a layer does, time-major: states are in its own form, `start` in that of its parameters."""
    steps = steps_of(layer)
    if isinstance(layer, us.RNN):
        return loop(steps[0], x, state, start, about, layer.reverse)
    directions = 2 if layer.bidirectional else 1
    finals, outputs = [], []
    for k, step in enumerate(steps):
        given = about.reset_states
        now = about._replace(reset_states=None if given is None else map_leaves(lambda leaf, k=k: leaf[:, :, k], given))
        own, first = (map_leaves(lambda leaf, k=k: leaf[k], tree) for tree in (state, start))
        output, final = loop(step, x, own, first, now, layer.reverse or k % directions == 1)
        outputs.append(output)
        finals.append(final)
        if len(outputs) == directions:
            x, outputs = torch.cat(outputs, -1), []
    return x, map_leaves(lambda *leaves: torch.stack(leaves), *finals)
