"""Cells as a user would write them: one time step in plain PyTorch, nothing of unspool in it.

Letters: B rows, I input features, H hidden features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _UserCell(nn.Module):
    """Weights of G gates, and a state of zeros.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    gates : int
        G.
    """

    def __init__(self, input_size: int, hidden_size: int, gates: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(gates * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(gates * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(gates * hidden_size).uniform_(-bound, bound))

    def zeros(self, batch_size: int, dtype: torch.dtype | None, device: Any) -> Tensor:
        """Return zeros `[B, H]`."""
        like = self.weight_hh
        return torch.zeros(batch_size, self.hidden_size, dtype=dtype or like.dtype, device=device or like.device)


class PlainLSTMCell(_UserCell):
    """An LSTM without anything special, state (h, c)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 4)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        """Return (h, c), each `[B, H]` of zeros."""
        return self.zeros(batch_size, dtype, device), self.zeros(batch_size, dtype, device)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        """Take x `[B, I]` and (h, c), return h and (h, c)."""
        h, c = state
        i, f, g, o = (x @ self.weight_ih.t() + h @ self.weight_hh.t() + self.bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class LayerNormLSTMCell(_UserCell):
    """An LSTM with layer normalisation of both products and of the cell state (Ba, Kiros and Hinton, 2016)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 4)
        self.norm_ih = nn.LayerNorm(4 * hidden_size)
        self.norm_hh = nn.LayerNorm(4 * hidden_size)
        self.norm_c = nn.LayerNorm(hidden_size)
        # With a gain of 1 this recurrence is chaotic: rounding errors grow to the size of the outputs within 300 steps,
        # on any backend, and no comparison of long float32 runs would mean anything. A small gain makes it stable.
        nn.init.constant_(self.norm_hh.weight, 0.1)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        """Return (h, c), each `[B, H]` of zeros."""
        return self.zeros(batch_size, dtype, device), self.zeros(batch_size, dtype, device)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        """Take x `[B, I]` and (h, c), return h and (h, c)."""
        h, c = state
        gates = self.norm_ih(x @ self.weight_ih.t()) + self.norm_hh(h @ self.weight_hh.t()) + self.bias
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * self.norm_c(c).tanh()
        return h, (h, c)


class MinimalGatedCell(_UserCell):
    """The minimal gated unit: one gate f, which also opens the recurrence of the candidate (Zhou et al., 2016)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 2)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        """Return h `[B, H]` of zeros."""
        return self.zeros(batch_size, dtype, device)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Take x `[B, I]` and h, return h twice."""
        size = self.hidden_size
        x_f, x_n = (x @ self.weight_ih.t() + self.bias).chunk(2, 1)
        f = torch.sigmoid(x_f + h @ self.weight_hh[:size].t())
        n = torch.tanh(x_n + (f * h) @ self.weight_hh[size:].t())
        h = (1 - f) * h + f * n
        return h, h
