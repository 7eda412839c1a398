"""The cells of `torch.nn`, each one function for PyTorch.

Letters: B sequences, H hidden size, G gates.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unspool.program.ir import Value
from unspool.program.rules.build import both, flat_slice, unary
from unspool.program.rules.products import linear
from unspool.program.rules.registry import Recorder, Rule, rule


def _products(rec: Recorder, result: Tensor, x: Tensor, h: Tensor, params: tuple[Any, ...]) -> list[Value] | None:
    """Return the products [B, G H] of input and state."""
    w_ih, w_hh, b_ih, b_hh = (*params, None, None)[:4]
    left, right = linear(rec, result, x, w_ih, b_ih), linear(rec, result, h, w_hh, b_hh)
    return None if left is None or right is None else [left, right]


def _gates(rec: Recorder, value: Value, size: int) -> list[Value]:
    return [flat_slice(rec, value, start, start + size) for start in range(0, value.width, size)]


@rule("lstm_cell")
def _lstm_cell(rec: Recorder, result: Any, x: Tensor, hx: Any, *params: Any) -> list[Value] | None:
    products = _products(rec, result[0], x, hx[0], params)
    if products is None:
        return None
    i, f, g, o = _gates(rec, both(rec, "add", *products), result[0].shape[1])
    i, f, o = (unary(rec, "sigmoid", gate) for gate in (i, f, o))
    c = both(rec, "add", both(rec, "mul", f, rec.value(hx[1])), both(rec, "mul", i, unary(rec, "tanh", g)))
    return [both(rec, "mul", o, unary(rec, "tanh", c)), c]


@rule("gru_cell")
def _gru_cell(rec: Recorder, result: Tensor, x: Tensor, hx: Tensor, *params: Any) -> Value | None:
    products = _products(rec, result, x, hx, params)
    if products is None:
        return None
    h = rec.value(hx)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (_gates(rec, value, result.shape[1]) for value in products)
    r, z = (unary(rec, "sigmoid", both(rec, "add", a, b)) for a, b in ((x_r, h_r), (x_z, h_z)))
    n = unary(rec, "tanh", both(rec, "add", x_n, both(rec, "mul", r, h_n)))
    return both(rec, "add", n, both(rec, "mul", z, both(rec, "sub", h, n)))


def _rnn_cell(activation: str) -> Rule:
    def apply(rec: Recorder, result: Tensor, x: Tensor, hx: Tensor, *params: Any) -> Value | None:
        products = _products(rec, result, x, hx, params)
        return None if products is None else unary(rec, activation, both(rec, "add", *products))

    return apply


rule("rnn_tanh_cell")(_rnn_cell("tanh"))
rule("rnn_relu_cell")(_rnn_cell("relu"))
