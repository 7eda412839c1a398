"""`export_onnx`: ONNX Runtime computes the files, at other sizes than those they were traced and checked with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

import unspool as us
from tests.execution.exported import LeakyCell, batch
from unspool.exporting import OnnxFile


def session(path: str | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def run(path: str | Path, **inputs: Any) -> dict[str, Tensor]:
    engine = session(path)
    values = engine.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return {out.name: torch.from_numpy(value) for out, value in zip(engine.get_outputs(), values, strict=True)}


def streamed(file: OnnxFile, x: Tensor) -> Tensor:
    """Return the outputs of all steps of `x`, batch first, with the state carried from step to step."""
    engine, state, outputs = session(file.path), file.initial_state(len(x)), []
    for step in x.unbind(1):
        output, *new = engine.run(None, {"input": step.numpy(), **state})
        state = dict(zip(state, new, strict=True))
        outputs.append(torch.from_numpy(output))
    return torch.stack(outputs, 1)


def far(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def operators(path: str | Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


class FromTwo(LeakyCell):
    """A cell whose state starts with numbers that are learned."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.start = nn.Parameter(torch.linspace(-1, 1, hidden_size))

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        return self.start.expand(batch_size, -1)


class Every(nn.Module):
    """One layer of each kind, side by side in a chain."""

    def __new__(cls, size: int) -> nn.Sequential:  # type: ignore[misc]
        kinds = [us.LSTM, us.GRU, us.SimpleRNN]
        layers = [kind(size, size, batch_first=True, return_state=False) for kind in kinds]
        own = us.RNN(LeakyCell(size, size), batch_first=True, return_state=False)
        return nn.Sequential(nn.Embedding(50, size), *layers, nn.Dropout(0.5), own, nn.Linear(size, 3))


@torch.no_grad()
def test_whole_sequences_of_a_module_of_pytorch(tmp_path):
    model = nn.LSTM(3, 4, 2, batch_first=True)
    file = us.export_onnx(model, tmp_path / "lstm.onnx")
    assert type(model) is nn.LSTM
    assert model.training
    assert file.inputs == {"input": ["batch", "steps", 3], "lengths": ["batch"]}
    assert file.outputs == {"output": ["batch", "steps", 4], "h_n": [2, "batch", 4], "c_n": [2, "batch", 4]}
    assert operators(file.path) >= {"LSTM"}
    assert file.size == file.path.stat().st_size
    assert file.difference is not None
    assert file.difference < 1e-5
    x, lengths = batch(7, 9)
    found = run(file.path, input=x, lengths=lengths)
    output, (h, c) = us.accelerate(model, copy=True)(x, lengths=lengths)
    for name, expected in {"output": output, "h_n": h, "c_n": c}.items():
        torch.testing.assert_close(found[name], expected)


@torch.no_grad()
def test_whole_sequences_of_a_cell_and_of_an_unrolled_layer(tmp_path):
    cell = LeakyCell(3, 4)
    file = us.export_onnx(cell, tmp_path / "cell.onnx", example_step=torch.zeros(1, 3), lengths=False)
    assert list(file.inputs) == ["input"]
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(run(file.path, input=x)["output"], us.dynamic_rnn(cell, x)[0])
    layer = us.GRU(3, 4, unroll=True, num_steps=3, return_state=False)
    file = us.export_onnx(layer, tmp_path / "unrolled.onnx", int8=True)
    assert file.inputs == {"input": [3, "batch", 3], "lengths": ["batch"]}
    x = torch.randn(3, 2, 3)
    assert far(run(file.path, input=x, lengths=[3, 0])["output"], layer(x, lengths=[3, 0])) < 0.05


@torch.no_grad()
def test_all_kinds_whole_and_streamed_in_float_and_in_int8(tmp_path):
    model = Every(128)
    files = {
        (streaming, int8): us.export_onnx(
            model, tmp_path / f"{streaming}{int8}.onnx", streaming=streaming, int8=int8, tolerance=0.05
        )
        for streaming in (False, True)
        for int8 in (False, True)
    }
    tokens = torch.randint(50, (3, 11))
    expected = model.eval()(tokens)
    for (streaming, int8), file in files.items():
        found = streamed(file, tokens) if streaming else run(file.path, input=tokens)["output"]
        assert far(found, expected) < (0.05 if int8 else 1e-5)
        assert file.size < files[streaming, False].size * (1 / 3 if int8 else 2)
        kinds = operators(file.path)
        assert ("DynamicQuantizeLSTM" if int8 else "LSTM") in kinds
        assert ("GRU" in kinds) == (not int8 and not streaming)
        assert ("Scan" in kinds) == (not streaming)
    names = ["1.h", "1.c", "2.h", "3.h", "5.h"]
    assert list(files[True, True].inputs) == ["input", *names]
    assert list(files[True, True].outputs) == ["output", *(f"{name}_new" for name in names)]


@pytest.mark.parametrize("streaming", [False, True])
@torch.no_grad()
def test_quantize_dynamic_finds_the_weights_of_an_lstm(tmp_path, streaming):
    model = us.LSTM(64, 128, num_layers=2, batch_first=True)
    file = us.export_onnx(model, tmp_path / "lstm.onnx", streaming=streaming)
    graph = onnx.load(file.path).graph
    weights = {value.name for value in graph.initializer}
    assert [node.op_type for node in graph.node if set(node.input) <= weights] == []
    assert weights <= {name for node in graph.node for name in node.input}
    small = tmp_path / "small.onnx"
    quantize_dynamic(file.path, small, reduce_range=True)
    assert small.stat().st_size < file.size / 3
    x = torch.randn(3, 64) if streaming else torch.randn(3, 5, 64)
    rest: Any = file.initial_state(3) if streaming else {"lengths": [5, 0, 2]}
    assert far(run(small, input=x, **rest)["output"], run(file.path, input=x, **rest)["output"]) < 0.05


@torch.no_grad()
def test_a_learned_initial_state_is_in_the_file(tmp_path):
    cell = FromTwo(3, 4)
    file = us.export_onnx(cell, tmp_path / "a.onnx", streaming=True, example_step=torch.zeros(1, 3))
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(streamed(file, x), us.dynamic_rnn(cell, x)[0])
    described = json.loads(session(file.path).get_modelmeta().custom_metadata_map["initial_state"])
    assert described["h"]["shape"] == [1, 4]
    np.testing.assert_allclose(described["h"]["values"], cell.start)


def test_what_the_file_says(tmp_path):
    model = us.GRU(3, 4, num_layers=2)
    file = us.export_onnx(model, tmp_path / "a.onnx", streaming=True, int8=True, metadata={"classes": ["a", "ü"]})
    said = session(file.path).get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == ["a", "ü"]
    assert json.loads(said["initial_state"]) == {"h": {"shape": [2, 1, 4], "values": [0.0]}}
    assert file.initial_state(5)["h"].shape == (2, 5, 4)
    content = file.path.read_bytes()
    assert b".py" not in content
    assert str(Path(us.__file__).parent).encode() not in content


def test_a_file_that_differs_is_not_put_in_place(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("before")
    with pytest.raises(ValueError, match=r"(output|h_new) is off by .* of its largest value; expected at most 1e-09"):
        us.export_onnx(us.GRU(3, 40), path, streaming=True, int8=True, tolerance=1e-9)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_without_onnx_runtime_nothing_is_compared(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert us.export_onnx(us.GRU(3, 4), tmp_path / "a.onnx", streaming=True).difference is None
    with pytest.raises(ImportError, match=r"needs onnxruntime, .*\nInstall it with: pip install 'unspool\[onnx\]'"):
        us.export_onnx(us.GRU(3, 4), tmp_path / "b.onnx", int8=True)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (LeakyCell(3, 4), {}, "LeakyCell does not say what it takes; pass example_step"),
    (us.GRU(3, 4), {"example_step": 3}, "example_step is 3; expected a tensor"),
    (us.GRU(3, 4), {"streaming": True, "lengths": True}, "lengths=True was given with streaming=True"),
    (nn.Sequential(us.GRU(3, 4, return_state=False)), {"lengths": True}, "Sequential.forward has no parameter lengths"),
    (us.GRU(3, 4, bidirectional=True), {"streaming": True}, "GRU is bidirectional"),
    (us.GRU(3, 4).double(), {"int8": True}, "int8=True was given for a model that is not of float32"),
    (us.GRU(3, 4, unroll=True), {}, "GRU is unrolled for a number of steps that its first batch sets"),
    (nn.Sequential(us.GRU(3, 4), us.GRU(4, 4, batch_first=True)), {}, "differ in batch_first"),
    ("GRU", {}, "received str; expected a torch.nn.Module"),
]


@pytest.mark.parametrize(("model", "options", "message"), REFUSED)
def test_what_cannot_be_exported_is_refused(tmp_path, model, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        us.export_onnx(model, tmp_path / "a.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        us.export_onnx(us.GRU(3, 4), tmp_path / "a" / "b.onnx")
