"""`torch.onnx.export`: each model is run by ONNX Runtime, on ragged batches of other sizes than the exported one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

import unspool as us
from tests.execution.exported import Dynamic, Flat, LeakyCell, Static, assert_equal, axes, batch

OPERATORS = {"LSTM", "GRU", "RNN", "Scan", "Loop"}


class Everything(nn.Module):
    """Initial states for an operator; masks and resets, which ONNX's operators have not."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = us.GRU(3, 4, batch_first=True), us.LSTM(4, 2, batch_first=True, return_state=False)

    def forward(self, x: Tensor, lengths: Tensor, hx: Tensor, mask: Tensor, resets: Tensor) -> tuple[Tensor, ...]:
        outputs, state = self.gru(x, hx, lengths=lengths)
        return outputs, state, self.lstm(outputs, mask=mask, resets=resets)


class Plain(nn.Module):
    """Takes a batch and its lengths alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, lengths: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        return self.model(x, lengths)


MODELS: list[tuple[list[str], Callable[[], nn.Module]]] = [
    (["LSTM"], lambda: Flat(us.LSTM(3, 4, batch_first=True))),
    (
        ["LSTM"],
        lambda: Dynamic(us.LSTMCell(3, 4, peephole=True, forget_bias=1.0, activation="relu"), reverse=True),
    ),
    (
        ["GRU"],
        lambda: Flat(us.GRU(3, 4, batch_first=True, return_sequences=False, reverse=True, backend="native")),
    ),
    (["GRU"], lambda: Flat(us.RNN(us.GRUCell(3, 4, reset_after=False, recurrent_bias=False), batch_first=True))),
    (
        ["RNN"] * 2,
        lambda: Flat(us.SimpleRNN(3, 4, nonlinearity="relu", bias=False, bidirectional=True, batch_first=True)),
    ),
    (["LSTM"], lambda: Dynamic(nn.LSTMCell(3, 4))),
    (["RNN"], lambda: Dynamic(nn.RNNCell(3, 4))),
    (["RNN"], lambda: Flat(us.accelerate(nn.RNN(3, 4, batch_first=True)))),
    (["Scan"], lambda: Dynamic(LeakyCell(3, 4), reverse=True)),
    (["Scan"], lambda: Flat(us.LSTM(3, 4, proj_size=2, batch_first=True, pad_output="repeat"))),
]
"""Models, and the operators with a loop inside that stand in each, in order; an RNN takes half as long as an LSTM."""


class All(nn.Module):
    """Several models as one: an export takes seconds."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(result for model in self.models for result in model(*given))


def converted(model: nn.Module, arguments: tuple[Any, ...], shapes: Any) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():  # of PyTorch's exporter, on its own doings
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model.eval(), arguments, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    return program


def loops(program: torch.onnx.ONNXProgram) -> list[str]:
    return [node.op_type for node in program.model.graph if node.op_type in OPERATORS]


def session(program: torch.onnx.ONNXProgram) -> Callable[..., Any]:
    """Return a function of tensors, in the order of the model's inputs, that ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    engine = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    names = [given.name for given in engine.get_inputs()]
    return lambda *tensors: engine.run(None, dict(zip(names, (t.numpy() for t in tensors), strict=True)))


def arguments(rows: int, steps: int) -> tuple[Tensor, ...]:
    flags = torch.rand(2, rows, steps) > 0.5
    return *batch(rows, steps), torch.randn(1, rows, 4), flags[0], flags[1]


def test_onnx_runtime_gives_our_numbers():
    model = All([*(Plain(make()) for _, make in MODELS), Everything()])
    of_x, of_lengths = axes(False)
    program = converted(model, arguments(4, 6), ((of_x, of_lengths, {1: of_lengths[0]}, of_x, of_x),))
    assert loops(program) == [*(name for names, _ in MODELS for name in names), "GRU", "Scan"]
    run = session(program)
    for rows, steps in [(4, 6), (7, 9), (1, 1)]:
        given = arguments(rows, steps)
        with torch.no_grad():
            assert_equal(run(*given), model(*given))
    x, _, *others = arguments(4, 7)
    x = x.nan_to_num(1.0)
    with torch.no_grad():  # lengths outside of their range count as the nearest one inside
        outside, inside = torch.tensor([12, -3, 7, 2]), torch.tensor([7, 0, 7, 2])
        assert_equal(run(x, outside, *others), model(x, inside, *others))


def test_unrolled_models_have_no_loops():
    model = All([Flat(us.LSTM(3, 4, batch_first=True, unroll=True)), Static(LeakyCell(3, 4))])
    steps = 2  # an export takes as long as there are steps
    program = converted(model, batch(4, steps), (axes(static=True),))
    assert loops(program) == []
    run = session(program)
    for rows in (4, 7, 1):
        x, lengths = batch(rows, steps)
        with torch.no_grad():
            assert_equal(run(x, lengths), model(x, lengths))
