"""Models that stream, and one that takes everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import unspool as us
from tests.backends.native_cells import HighwayRecurrentCell, LayerNormGRUCell
from unspool._nest import Nest

I = 3  # noqa: E741


class Counting(nn.Module):
    """A cell without parameters that counts its steps in the state, in Python."""

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> dict[str, Tensor]:
        return {
            "h": torch.full((batch_size, 4), 0.5, dtype=dtype, device=device),
            "n": torch.zeros(batch_size, dtype=torch.long, device=device),
        }

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        n = state["n"] + 1
        h = torch.tanh(state["h"] + x[:, :4] / n.unsqueeze(1))
        return h, {"h": h, "n": n}


class Mixed(nn.Module):
    """A cell with nested inputs, state and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.table = nn.Linear(I + 4, 4), nn.Embedding(4, 4)

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> tuple[Tensor, tuple[Tensor]]:
        del dtype
        h = torch.zeros(batch_size, 4, device=device)
        return h, (h + 1,)

    def forward(self, x: dict[str, Tensor], state: Nest) -> tuple[Nest, Nest]:
        h, (m,) = state
        h = torch.tanh(self.linear(torch.cat([x["a"], h], -1)) + self.table(x["k"]))
        return {"h": h, "m": (m,)}, (h, (m * 0.5 + h,))


def chain(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules).eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "LSTM of two layers": lambda: us.LSTM(I, 5, num_layers=2),
    "GRU batch first": lambda: us.GRU(I, 5, batch_first=True),
    "SimpleRNN": lambda: us.SimpleRNN(I, 5, nonlinearity="relu"),
    "last output alone": lambda: us.LSTM(I, 5, return_sequences=False),
    "unrolled": lambda: us.GRU(I, 5, unroll=True, num_steps=40),
    "LSTM with a projection": lambda: us.LSTM(I, 5, proj_size=2),
    "own cell": lambda: LayerNormGRUCell(I, 5),
    "own layer": lambda: us.RNN(HighwayRecurrentCell(I, 5), batch_first=True),
    "stack of cells": lambda: us.StackedRNNCells([us.LSTMCell(I, 5), us.GRUCell(5, 4)]),
    "torch's cell": lambda: nn.LSTMCell(I, 5),
    "torch's GRU": lambda: nn.GRU(I, 5, 2),
    "torch's LSTM with a projection": lambda: nn.LSTM(I, 5, proj_size=2, batch_first=True),
    "accelerated LSTM": lambda: us.accelerate(nn.LSTM(I, 5, 2)),
    "mixed chain": lambda: chain(
        nn.Linear(I, 4), us.LSTM(4, 5, return_state=False), nn.LayerNorm(5), nn.Dropout(0.5),
        nn.Sequential(nn.ReLU(), nn.GRU(5, 4)), nn.Softmax(-1), us.RNN(LayerNormGRUCell(4, 6)), nn.Linear(6, 2),
    ),
    "ids, batch first, to a class": lambda: chain(
        nn.Embedding(7, 4), us.GRU(4, 5, batch_first=True, return_state=False),
        us.LSTM(5, 4, batch_first=True, return_state=False, return_sequences=False), nn.Linear(4, 3),
    ),
}  # fmt: skip


def whole(model: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
    """Run a model over whole sequences in its layout, by the loop over cells or PyTorch's kernel; and its state."""
    if isinstance(model, nn.Sequential):
        for module in model:
            x, _ = whole(module, x)
        return x, None
    if isinstance(model, nn.RNNBase):
        kind = getattr(model, "torch_class", type(model))
        y, state = kind.forward(model, x)
        return y, us.LSTMState(*state) if isinstance(state, tuple) else state
    if hasattr(model, "backend"):
        y, state = us.RNN.run_with(model, None, x, None, us.execution.Steps(), None)  # type: ignore[attr-defined]
        return y, state
    if hasattr(model, "initial_state") or isinstance(model, nn.RNNCellBase):
        return us.dynamic_rnn(model, x, backend="reference")
    return model(x), None
