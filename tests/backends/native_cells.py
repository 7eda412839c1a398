"""Cells from the literature as users write them: plain PyTorch, no registration, no thought of any engine.

Letters: B batch, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unspool import Cell, LSTMState


class LayerNormGRUCell(Cell):
    """GRU with a norm on each product."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product_x = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.product_h = nn.Linear(hidden_size, 3 * hidden_size)
        self.norm_x, self.norm_h = nn.LayerNorm(3 * hidden_size), nn.LayerNorm(3 * hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        r_x, z_x, n_x = self.norm_x(self.product_x(x)).chunk(3, dim=-1)
        r_h, z_h, n_h = self.norm_h(self.product_h(h)).chunk(3, dim=-1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h
        return h, h


class HighwayRecurrentCell(Cell):
    """Simple recurrent unit (Lei et al., 2018): only pointwise work depends on the state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.candidate = nn.Linear(input_size, hidden_size, bias=False)
        self.forget, self.reset = nn.Linear(input_size, hidden_size), nn.Linear(input_size, hidden_size)
        self.skip = nn.Linear(input_size, hidden_size, bias=False)
        self.v_f, self.v_r = (nn.Parameter(torch.linspace(-0.5, 0.5, hidden_size)) for _ in range(2))

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.forget(x) + self.v_f * c)
        r = torch.sigmoid(self.reset(x) + self.v_r * c)
        c = f * c + (1 - f) * self.candidate(x)
        return r * torch.tanh(c) + (1 - r) * self.skip(x), c


class ResidualRNNCell(Cell):
    """The new state is the old one and a correction."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = h + 0.5 * self.out(F.relu(self.product(torch.cat([x, h], dim=-1))))
        h = torch.clamp(h, -4.0, 4.0)
        return h, h


class ScalarLSTMCell(Cell):
    """sLSTM (Beck et al., 2024): exponential gates, with a normaliser and a stabiliser in the state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__({"h": hidden_size, "c": hidden_size, "n": hidden_size, "m": hidden_size})
        self.product_x = nn.Linear(input_size, 4 * hidden_size)
        self.product_h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        i, f, z, o = torch.chunk(self.product_x(x) + self.product_h(state["h"]), 4, dim=1)
        log_f = F.logsigmoid(f)
        m = torch.maximum(log_f + state["m"], i)
        i, f = torch.exp(i - m), torch.exp(log_f + state["m"] - m)
        c = f * state["c"] + i * torch.tanh(z)
        n = f * state["n"] + i
        h = torch.sigmoid(o) * c / n.abs().clamp(min=1.0)
        return h, {"h": h, "c": c, "n": n, "m": m}


class NASCell(Cell):
    """The cell that a search has found (Zoph and Le, 2017), as TensorFlow 1's `NASCell` has it."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__((hidden_size, hidden_size))
        self.product_x = nn.Linear(input_size, 8 * hidden_size, bias=False)
        self.product_h = nn.Linear(hidden_size, 8 * hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        m = torch.split(self.product_h(h), h.shape[1], dim=1)
        p = torch.split(self.product_x(x), h.shape[1], dim=1)
        first = [
            torch.sigmoid(p[0] + m[0]), torch.relu(p[1] + m[1]), torch.sigmoid(p[2] + m[2]), torch.relu(p[3] * m[3]),
            torch.tanh(p[4] + m[4]), torch.sigmoid(p[5] + m[5]), torch.tanh(p[6] + m[6]), torch.sigmoid(p[7] + m[7]),
        ]  # fmt: skip
        left, right = torch.tanh(first[0] * first[1]), torch.tanh(first[2] + first[3])
        third, fourth = torch.tanh(first[4] * first[5]), torch.sigmoid(first[6] + first[7])
        left = torch.tanh(left + c)
        c = left * right
        h = torch.tanh(c * torch.tanh(third + fourth))
        return h, (h, c)


class AttendingCell(Cell):
    """Softmax over features, a root mean square norm by hand, and a sum of the state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)
        self.scale = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        weights = F.softmax(self.product(torch.cat((x, h), 1)), dim=-1)
        mixed = weights * (1 + h.sum(dim=1, keepdim=True)) + 0.5 * h
        h = mixed * torch.rsqrt(mixed.pow(2).mean(-1, keepdim=True) + 1e-3) * self.scale
        return h, h


class ManualLSTMCell(nn.Module):
    """LSTM from bare parameters and `@`, with an initial state of its own, deriving from nothing."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.w = nn.Parameter(torch.randn(input_size, 4 * hidden_size) / (input_size + 1) ** 0.5)
        self.u = nn.Parameter(torch.randn(hidden_size, 4 * hidden_size) / (hidden_size + 1) ** 0.5)
        self.b = nn.Parameter(torch.zeros(4 * hidden_size))

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> LSTMState:
        zero = torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
        return LSTMState(zero, zero.clone())

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        gates = x @ self.w + state.h @ self.u + self.b
        n = self.hidden_size
        i, f, g, o = gates[:, :n], gates[:, n : 2 * n], gates[:, 2 * n : 3 * n], gates[:, 3 * n :]
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, LSTMState(h, c)


class ClockworkCell(Cell):
    """Half of the state moves slowly; the output is a sum of both halves."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(2 * hidden_size)
        self.hidden_size = hidden_size
        self.product = nn.Linear(input_size + 2 * hidden_size, 2 * hidden_size)
        self.register_buffer("rate", torch.cat([torch.ones(hidden_size), torch.full((hidden_size,), 0.125)]))
        self.rate: Tensor

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.lerp(h, torch.tanh(self.product(torch.cat([x, h], -1))), self.rate)
        fast, slow = h.split([self.hidden_size, self.hidden_size], dim=1)
        return fast + slow, h


class InPlaceCell(Cell):
    """Writes in place, but only into what it has made itself."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product_x, self.product_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y = self.product_h(h)
        y += self.product_x(x)
        y = y.tanh_()
        y = y * 0.9
        y.add_(0.1)
        return y, y


class TwoOutputsCell(Cell):
    """Puts out a dict; one output comes from the input alone, one is the old state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product_x, self.product_h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        seen = F.gelu(self.product_x(x))
        new = torch.tanh(seen + self.product_h(h))
        return {"seen": seen, "before": h, "gap": (new - h).abs()}, new


class ShiftCell(Cell):
    """The states move on from one to the next: a delay line with a product at its end."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__((hidden_size, hidden_size, hidden_size))
        self.product = nn.Linear(input_size + 2 * hidden_size, hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        a, b, c = state
        new = torch.tanh(self.product(torch.cat([x, c, a], 1)))
        return b, (new, a, b)


class RepeatedStateCell(Cell):
    """One tensor is both states."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__([hidden_size, hidden_size])
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h = torch.tanh(self.product(torch.cat([state[0] - 0.5 * state[1], x], 1)))
        return h, [h, h]
