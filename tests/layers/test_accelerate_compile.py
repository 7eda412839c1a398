"""Accelerated modules under `torch.compile`, which keeps off `torch.nn.LSTM` unless its own setting says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported

import unspool as us

pytestmark = [
    # Importing inductor defines scripted classes, which PyTorch itself has deprecated.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = us.accelerate(nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True))
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.last(self.lstm(x.tanh(), lengths=lengths)[0])


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 6, 3), torch.tensor([6, 0, 1, 4])


class Recorder:
    """A backend that runs graphs as they are and notes their calls."""

    def __init__(self) -> None:
        self.graphs: list[list[str]] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.graphs.append([node.name for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward


def test_one_graph_where_the_setting_allows_it():
    model, (x, lengths) = Model(), batch()
    recorder = Recorder()
    with torch._dynamo.config.patch(allow_rnn=True):
        received = torch.compile(model, backend=recorder, fullgraph=True)(x, lengths)
    assert len(recorder.graphs) == 1
    assert "run" in recorder.graphs[0]
    torch.testing.assert_close(received, model(x, lengths))
    actual = torch.autograd.grad(received.sum(), list(model.parameters()))
    torch.testing.assert_close(actual, torch.autograd.grad(model(x, lengths).sum(), list(model.parameters())))


def test_otherwise_the_error_names_the_setting():
    with pytest.raises(Unsupported, match=r"Set torch._dynamo.config.allow_rnn=True"):
        torch.compile(Model(), backend="eager", fullgraph=True)(*batch())


def test_otherwise_the_forward_that_calls_it_stays_as_it_is_and_nothing_below_is_compiled():
    model, (x, lengths) = Model(), batch()
    recorder = Recorder()
    torch.testing.assert_close(torch.compile(model, backend=recorder)(x, lengths), model(x, lengths))
    assert recorder.graphs == []
