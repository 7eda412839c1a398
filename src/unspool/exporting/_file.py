"""ONNX files: constants, int8, what they say of themselves, and the check against the model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._extra import needed

_NO_LIMIT = 2**62
_PACKAGES = ("onnxscript.optimizer", "onnxscript.rewriter", "onnx_ir.passes.common")


@dataclass(frozen=True)
class OnnxFile:
    """A file that `export_onnx` has written.

    Attributes
    ----------
    path : Path
    size : int
        In bytes.
    inputs, outputs : dict of str to list
        The names in their order, with the shapes: numbers, and "batch" and "steps" where any size will do.
    difference : float or None
        The largest difference between what ONNX Runtime makes of the file and the model's own values, as a part of the
        largest value of the output; None where ONNX Runtime is not installed.
    start : dict of str to ndarray
        For each input that is a state, the one in which a sequence starts, with a batch of 1.
    """

    path: Path
    size: int
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    difference: float | None
    start: dict[str, np.ndarray]

    def initial_state(self, batch_size: int = 1) -> dict[str, np.ndarray]:
        """Return the state in which so many sequences start, by the names of the inputs.

        Parameters
        ----------
        batch_size : int
            Number of sequences B.

        Returns
        -------
        dict of str to ndarray
            Copies, with B on the axis that `inputs` calls "batch".
        """
        return {
            name: np.repeat(value, batch_size, self.inputs[name].index("batch")) for name, value in self.start.items()
        }


def with_constants(program: torch.onnx.ONNXProgram) -> Any:
    """Return the model of a program in which all that is computed of weights alone has become a weight, of any size.

    Parameters
    ----------
    program : ONNXProgram

    Returns
    -------
    onnx.ModelProto
    """
    optimizer, rewriter, passes = (needed(name, "exporting to ONNX", "onnx") for name in _PACKAGES)
    # ONNX Runtime's quantisation transposes the weight of a Gemm where it stands, once for each that shares it.
    rewriter.rewrite(program.model, [rewriter.pattern.RewriteRule(_gemm, _product)])
    optimizer.fold_constants(program.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    passes.DeduplicateInitializersPass(size_limit=_NO_LIMIT)(program.model)
    passes.RemoveUnusedNodesPass()(program.model)
    passes.ClearMetadataAndDocStringPass()(program.model)  # the lines and the paths of the code that was traced
    model = program.model_proto
    # ONNX Runtime's quantisation transposes weights and stumbles over what is said of their shapes here; every reader
    # infers shapes.
    del model.graph.value_info[:]
    return model


def _gemm(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    return op.Gemm(x, weight, bias, transB=1)


def _product(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    return op.Add(op.MatMul(x, op.Transpose(weight, perm=[1, 0])), bias)


def in_int8(model: Any) -> Any:
    """Return a copy of a model whose products are of 8-bit integers.

    Parameters
    ----------
    model : onnx.ModelProto

    Returns
    -------
    onnx.ModelProto
    """
    onnx = needed("onnx", "exporting to ONNX", "onnx")
    quantization = needed("onnxruntime.quantization", "int8=True", "onnx")
    given = onnx.ModelProto()
    given.CopyFrom(model)
    # Else it logs that folding constants first would help.
    given.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        # Weights of 7 bits: on processors without VNNI the sums of products of 8 saturate, and the results are wrong.
        # Scan holds the products of all cells but LSTM's in a subgraph.
        options = {"EnableSubgraph": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
        quantization.quantize_dynamic(given, path, reduce_range=True, extra_options=options)
        quantized = onnx.load(path)
    del quantized.metadata_props[:]
    return quantized


def add_metadata(model: Any, metadata: Mapping[str, Any], initial_state: Mapping[str, Tensor]) -> None:
    """Write facts into a model, as texts by name: what is no text in JSON.

    Parameters
    ----------
    model : onnx.ModelProto
    metadata : mapping of str to object
    initial_state : mapping of str to Tensor
        Becomes `initial_state`: for each name the shape with a batch of 1, and the values, one where all are alike.

    Raises
    ------
    TypeError
        If a value is nothing that JSON can hold.
    """
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    if initial_state:
        texts["initial_state"] = json.dumps({name: _described(value) for name, value in initial_state.items()})
    for name, text in texts.items():
        model.metadata_props.add(key=name, value=text)


def _described(state: Tensor) -> dict[str, Any]:
    values = state.flatten()
    alike = bool((values == values[:1]).all())
    return {"shape": list(state.shape), "values": values[:1].tolist() if alike else values.tolist()}


def session_of(content: bytes) -> Any:
    """Return a session of ONNX Runtime with a model, or None where it is not installed.

    Parameters
    ----------
    content : bytes
    """
    try:
        runtime = needed("onnxruntime", "checking the file", "onnx")
    except ImportError:
        return None
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def compare(session: Any, outputs: list[str], examples: Callable[[], Any]) -> tuple[float, str]:
    """Run a session on examples and return the largest difference from what the model gives, and in which output.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : list of str
    examples : callable
        See `OneStep`.

    Returns
    -------
    difference : float
        As a part of the output's largest value, or of a hundredth of the largest of all outputs where that is more.
    name : str
        Of the output.
    """
    worst = (0.0, outputs[0])
    for inputs, expected in examples():
        received = session.run(outputs, {name: value.numpy() for name, value in inputs.items()})
        largest = [float(value.abs().max()) if value.numel() else 0.0 for value in expected]
        for name, its, ours, size in zip(outputs, received, expected, largest, strict=True):
            scale = max(size, max(largest) / 100) or 1.0
            apart = np.abs(its.astype(np.float64) - ours.numpy()).max(initial=0.0) / scale
            # Not a number is the largest difference of all.
            worst = max(worst, (float("inf") if np.isnan(apart) else float(apart), name))
    return worst
