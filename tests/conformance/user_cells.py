"""Cells that users might write, each awkward in its own way. Some derive from `unspool.Cell`, some from nothing.

Letters: B batch, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unspool import Cell, LSTMState


class LayerNormLSTMCell(Cell):
    """LSTM with layer normalisation of its gates and its memory (Ba et al., 2016)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(LSTMState(hidden_size, hidden_size))  # type: ignore[arg-type]
        self.input_size, self.output_size = input_size, hidden_size
        self.product_x = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.product_h = nn.Linear(hidden_size, 4 * hidden_size)
        self.norm_x, self.norm_h = nn.LayerNorm(4 * hidden_size), nn.LayerNorm(4 * hidden_size)
        self.norm_c = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, o = (self.norm_x(self.product_x(x)) + self.norm_h(self.product_h(h))).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.norm_c(c))
        return h, LSTMState(h, c)


class DictStateCell(Cell):
    """Two states of different sizes in a dict, given back in another order of keys; the output is none of them."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__({"slow": hidden_size, "fast": hidden_size + 1})
        self.into_fast = nn.Linear(input_size + hidden_size, hidden_size + 1)
        self.into_slow = nn.Linear(hidden_size + 1, hidden_size)

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        fast = torch.tanh(self.into_fast(torch.cat([x, state["slow"]], 1))) + 0.3 * state["fast"]
        slow = 0.9 * state["slow"] + 0.1 * torch.tanh(self.into_slow(fast))
        return torch.cat([fast, slow], 1).square(), {"fast": fast, "slow": slow}


class NestedStateCell(nn.Module):
    """Tuples in dicts in lists, with a matrix of fast weights per row (Ba et al., 2016); derives from nothing."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.product_x = nn.Linear(input_size, hidden_size)
        self.product_h = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        h = torch.zeros(batch_size, self.hidden_size, dtype=dtype, device=device)
        matrix = torch.zeros(batch_size, self.hidden_size, self.hidden_size, dtype=dtype, device=device)
        return [h, {"memory": (matrix, torch.ones_like(h))}]

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, memory = state
        matrix, trace = memory["memory"]
        read = (matrix @ h.unsqueeze(2)).squeeze(2)
        h = torch.tanh(self.product_x(x) + self.product_h(h) + read)
        matrix = 0.8 * matrix + 0.2 * h.unsqueeze(2) * h.unsqueeze(1)
        return h + trace, [h, {"memory": (matrix, 0.5 * (trace + h))}]


class SoftmaxCell(Cell):
    """The state is a distribution over features; products, reductions and a maximum over features."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        attention = torch.softmax(self.product(torch.cat([x, state], 1)) + state.mean(1, keepdim=True), dim=1)
        state = 0.5 * state + attention
        return state - state.amax(1, keepdim=True), state


class MinimalGatedCell(Cell):
    """Minimal gated unit (Zhou et al., 2016): one gate, which also resets."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.gate(torch.cat([state, x], 1)))
        h = (1 - f) * state + f * torch.tanh(self.candidate(torch.cat([f * state, x], 1)))
        return h, h


class IndependentCell(Cell):
    """IndRNN (Li et al., 2018): each unit sees only itself; a bare parameter multiplies the state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Parameter(torch.linspace(-0.9, 0.9, hidden_size))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(self.product(x) + self.recurrent * state)
        return h, h


class LogCell(Cell):
    """Not finite at zero input: shows whether anything but real steps is ever computed."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product_x = nn.Linear(input_size, hidden_size)
        self.product_h = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.product_x(torch.log(x.abs()) + 1 / x) + self.product_h(state))
        return h, h


class SumCell(Cell):
    """No parameters: a decaying sum; the output is a pair."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        state = 0.7 * state + x
        return (state, torch.sin(state[:, :1])), state


class LearnedStartCell(Cell):
    """Starts from a parameter, which must receive its gradient."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)
        self.start = nn.Parameter(torch.linspace(-0.5, 0.5, hidden_size))

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return self.start.expand(batch_size, -1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.product(torch.cat([x, state], 1)))
        return h, h


class MultiplicativeCell(Cell):
    """Multiplicative integration (Wu et al., 2016): the two products are multiplied."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product_x = nn.Linear(input_size, hidden_size, bias=False)
        self.product_h = nn.Linear(hidden_size, hidden_size, bias=False)
        self.alpha, self.beta = nn.Parameter(torch.ones(hidden_size)), nn.Parameter(torch.full((hidden_size,), 0.5))
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.product_x(x), self.product_h(state)
        h = torch.tanh(self.alpha * a * b + self.beta * (a + b) + self.bias)
        return h, h


class CountingStepsCell(Cell):
    """Part of the state are integers: steps since the start, and a flag."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
        h = super().initial_state(batch_size, dtype=dtype, device=device)
        count = torch.zeros(batch_size, dtype=torch.long, device=device)
        return {"h": h, "count": count, "odd": torch.zeros_like(count, dtype=torch.bool)}

    def forward(self, x: Tensor, state: Any) -> tuple[Any, Any]:
        count = state["count"] + 1
        decay = torch.exp(-0.1 * count.to(x.dtype)).unsqueeze(1)
        h = torch.tanh(self.product(torch.cat([x, decay * state["h"]], 1)))
        return {"h": h, "count": count}, {"h": h, "count": count, "odd": ~state["odd"]}


class TokenCell(Cell):
    """Takes token ids `[B]`; an id that is not in the vocabulary raises."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.embedding = nn.Embedding(11, input_size)
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.product(torch.cat([self.embedding(x), state], 1)))
        return h, h


class NestedInputCell(Cell):
    """Takes a dict of a vector and an image per step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__((hidden_size,))
        self.product = nn.Linear(input_size + hidden_size, hidden_size)
        self.convolution = nn.Conv2d(1, hidden_size, 2)

    def forward(self, x: dict[str, Tensor], state: tuple[Tensor]) -> tuple[dict[str, Any], tuple[Tensor]]:
        seen = self.convolution(x["image"]).flatten(2).mean(2)
        h = torch.tanh(self.product(torch.cat([x["vector"], state[0]], 1)) + seen)
        return {"h": h, "pair": (h[:, 0], seen)}, (h,)


class ContextCell(Cell):
    """Row inputs of its own: a random vector per sequence, in training and in evaluation."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.hidden_size = hidden_size
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def row_inputs(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> tuple[Tensor]:
        return (torch.randn(batch_size, self.hidden_size, dtype=dtype, device=device),)

    def forward(self, x: Tensor, state: Tensor, rows: tuple[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        assert rows is not None
        h = torch.tanh(self.product(torch.cat([x, state], 1)) + rows[0])
        return h, h


class MemoryCell(Cell):
    """Looks into a memory that the run holds constant, weighing its slots by the state (Luong et al., 2015)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.input_size, self.output_size = input_size, hidden_size
        self.product = nn.Linear(input_size + 2 * hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        memory = constants["memory"]
        scores = (memory @ state.unsqueeze(2)).squeeze(2).masked_fill(~constants["real"], -torch.inf)
        seen = (scores.softmax(1).unsqueeze(1) @ memory).squeeze(1)
        h = torch.tanh(self.product(torch.cat([x, state, seen], 1)))
        return h, h


class SpeakerCell(Cell):
    """Row inputs that it draws itself, and constants that the run is given."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.hidden_size = hidden_size
        self.product = nn.Linear(input_size + hidden_size, hidden_size)

    def row_inputs(self, batch_size: int, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.randn(batch_size, self.hidden_size, dtype=dtype, device=device)

    def forward(self, x: Tensor, state: Tensor, rows: Tensor, constants: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.product(torch.cat([x, rows * state], 1)) + constants[0])
        return h, h


class HeadsCell(Cell):
    """Cuts its features into heads with `view` and -1, which PyTorch refuses for tensors without rows."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(2 * hidden_size)
        self.product = nn.Linear(input_size + 2 * hidden_size, 2 * hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.product(torch.cat([x, state], 1)).view(x.shape[0], 2, -1)
        h = torch.tanh(heads - heads.mean(1, keepdim=True) + heads.flip(1)).view(x.shape[0], -1)
        return h, h


class StateOnlyCell(Cell):
    """Its output does not depend on the input at all, and its state only on itself."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.product = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.cos(self.product(state))
        return h, h


class ProbeCell(Cell):
    """Adds its inputs up, and notes the rows of every call: the first feature of x names the row."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls: list[list[int]] = []

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append([int(row) for row in x[:, 0]])
        state = state + x[:, 1:]
        return state, state
