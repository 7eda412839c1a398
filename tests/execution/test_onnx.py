"""`torch.onnx.export`: each model is run by ONNX Runtime, on ragged batches of other sizes than the exported one."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.execution.exported import Dynamic, Flat, LeakyCell, Static, assert_equal, axes, batch

OPERATORS = {"LSTM", "GRU", "RNN", "Scan", "Loop"}

MODELS: dict[str, tuple[dict[str, int], Callable[[], nn.Module]]] = {
    "LSTM": ({"LSTM": 4}, lambda: Flat(us.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True))),
    "LSTM with peepholes": (
        {"LSTM": 1},
        lambda: Dynamic(us.LSTMCell(3, 4, peephole=True, forget_bias=1.0, activation="relu"), reverse=True),
    ),
    "GRU": (
        {"GRU": 1},
        lambda: Flat(us.GRU(3, 4, batch_first=True, return_sequences=False, reverse=True, backend="native")),
    ),
    "GRU, reset before": (
        {"GRU": 2},
        lambda: Flat(
            us.Bidirectional(us.RNN(us.GRUCell(3, 4, reset_after=False, recurrent_bias=False), batch_first=True))
        ),
    ),
    "SimpleRNN": ({"RNN": 1}, lambda: Flat(us.SimpleRNN(3, 4, nonlinearity="relu", bias=False, batch_first=True))),
    "torch.nn.LSTMCell": ({"LSTM": 1}, lambda: Dynamic(nn.LSTMCell(3, 4))),
    "torch.nn.RNNCell": ({"RNN": 1}, lambda: Dynamic(nn.RNNCell(3, 4))),
    "accelerated nn.GRU": ({"GRU": 1}, lambda: Flat(us.accelerate(nn.GRU(3, 4, batch_first=True)))),
    "user's cell": ({"Scan": 1}, lambda: Dynamic(LeakyCell(3, 4), reverse=True)),
    "LSTM with projection": (
        {"Scan": 1},
        lambda: Flat(us.LSTM(3, 4, proj_size=2, batch_first=True, pad_output="repeat")),
    ),
    "unrolled layer": ({}, lambda: Flat(us.LSTM(3, 4, batch_first=True, unroll=True))),
    "static_rnn": ({}, lambda: Static(LeakyCell(3, 4))),
}
"""Models, and the operators with a loop inside that stand in each."""


def converted(model: nn.Module, arguments: tuple[Any, ...], shapes: Any) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():  # of PyTorch's exporter, on its own doings
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model.eval(), arguments, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    return program


def loops(program: torch.onnx.ONNXProgram) -> Counter[str]:
    return Counter(node.op_type for node in program.model.graph if node.op_type in OPERATORS)


def session(program: torch.onnx.ONNXProgram) -> Callable[..., Any]:
    """Return a function of tensors, in the order of the model's inputs, that ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    engine = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    names = [given.name for given in engine.get_inputs()]
    return lambda *tensors: engine.run(None, dict(zip(names, (t.numpy() for t in tensors), strict=True)))


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_gives_our_numbers(name):
    operators, make = MODELS[name]
    model, static = make(), not operators
    program = converted(model, batch(), axes(static))
    assert loops(program) == operators
    run = session(program)
    for rows, steps in [(4, 6), (7, 6), (1, 6)] if static else [(4, 6), (7, 9), (1, 1)]:
        x, lengths = batch(rows, steps)
        with torch.no_grad():
            assert_equal(run(x, lengths), model(x, lengths))


class Everything(nn.Module):
    """Initial states for an operator; masks and resets, which ONNX's operators have not."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = us.GRU(3, 4, batch_first=True), us.LSTM(4, 2, batch_first=True, return_state=False)

    def forward(self, x: Tensor, hx: Tensor, lengths: Tensor, mask: Tensor, resets: Tensor) -> tuple[Tensor, ...]:
        outputs, state = self.gru(x, hx, lengths=lengths)
        return outputs, state, self.lstm(outputs, mask=mask, resets=resets)


def test_states_masks_and_resets_are_inputs():
    def arguments(rows: int, steps: int) -> tuple[Tensor, ...]:
        flags = torch.rand(2, rows, steps) > 0.5
        x, lengths = batch(rows, steps)
        return x, torch.randn(1, rows, 4), lengths, flags[0], flags[1]

    of_x, of_lengths = axes(False)
    model = Everything()
    program = converted(model, arguments(4, 6), (of_x, {1: of_lengths[0]}, of_lengths, of_x, of_x))
    assert loops(program) == {"GRU": 1, "Scan": 1}
    given = arguments(7, 8)
    with torch.no_grad():
        assert_equal(session(program)(*given), model(*given))


def test_lengths_outside_of_their_range_count_as_the_nearest_one_inside():
    model = Flat(us.LSTM(3, 4, batch_first=True))
    run = session(converted(model, batch(), axes(False)))
    x = torch.randn(4, 7, 3)
    with torch.no_grad():
        assert_equal(run(x, torch.tensor([12, -3, 7, 2])), model(x, torch.tensor([7, 0, 7, 2])))
