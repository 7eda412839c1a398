"""Writing a model to an ONNX file."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unspool._extra import needed
from unspool._writing import write_whole
from unspool.backends import onnx_operators
from unspool.cells import is_cell
from unspool.exporting._file import OnnxFile, add_metadata, compare, in_int8, session_of, with_constants
from unspool.exporting._inputs import Inputs
from unspool.exporting._interface import Interface, OneStep, Stepwise, WholeSequences
from unspool.layers import RNN, RecurrentLayer, accelerate

_TOLERANCE, _INT8_TOLERANCE = 1e-4, 0.1


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    streaming: bool = False,
    int8: bool = False,
    lengths: bool | None = None,
    example_step: Tensor | None = None,
    stepwise: Stepwise = (),
    metadata: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> OnnxFile:
    """Write a model to an ONNX file, in evaluation mode: whole sequences, or one step that carries its state.

    Weights are constants of the file, in the form in which they are used. Where ONNX Runtime is installed, the file is
    compared with the model on batches of several sizes before it is put in its place.

    Parameters
    ----------
    model : Module
        A layer, a cell, a `torch.nn.LSTM`, `GRU` or `RNN`, or any module that takes a batch of sequences. With
        `streaming`, what `unspool.stream` takes. It stays as it is.
    path : path
        The file. Its directory must exist.
    streaming : bool
        Whether the file computes one step: from `input` and the state to `output` and the new state. Else it takes
        `input`, whole sequences in the layout of the model (of a cell, batch first), with any number of sequences and
        steps, and returns `output` and, of a layer, the final state.
    int8 : bool
        Whether products are computed with 8-bit integers, and weights take a quarter of the space.
    lengths : bool, optional
        Whether whole sequences come with `lengths`, int64 of shape (B,); by default if the model's `forward` takes
        them.
    example_step : Tensor of shape (B, ...), optional
        The inputs of one step, by which the file's are made. By default they are what the model's first part takes.
    stepwise : tuple of type
        With `streaming`, classes of modules that act on each step by itself: see `unspool.stream`.
    metadata : mapping of str to object, optional
        What else a user of the file should know, such as the names of classes; what is no text is stored as JSON.
    tolerance : float, optional
        The largest difference that the comparison accepts, as a part of the output's largest value: 1e-4 by default,
        and 0.1 with `int8`.

    Returns
    -------
    OnnxFile
        Its names and shapes, its size, the difference found.

    Raises
    ------
    ImportError
        If a package is not installed: they are in the extra `onnx`.
    ValueError
        If the model does not say what it takes and there is no `example_step`, cannot stream, or the file differs from
        the model by more than the tolerance; if `int8` is asked for and the model is not of float32.
    TypeError
        If the model or an argument is of another type than stated.
    OSError
        If the file cannot be written. What was there before is then still there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = export_onnx(GRU(3, 4, batch_first=True), f"{folder}/gru.onnx", streaming=True)
    >>> file.inputs
    {'input': ['batch', 3], 'h': [1, 'batch', 4]}
    >>> list(file.outputs)
    ['output', 'h_new']
    """
    for package in ("onnx", "onnxscript", *["onnxruntime"] * int8):
        needed(package, "exporting to ONNX", "onnx")
    if not isinstance(model, nn.Module):
        raise TypeError(f"received {type(model).__name__}; expected a torch.nn.Module.")
    if int8 and any(p.dtype != torch.float32 for p in model.parameters() if p.is_floating_point()):
        raise ValueError("int8=True was given for a model that is not of float32; expected model.float().")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {path.parent} for {path.name}.")
    # Of one step the operations of the cell are as fast as the operator. Only of LSTM there is one for int8.
    only = ("LSTM",) if streaming or int8 else ("LSTM", "GRU", "RNN")
    # The graph of PyTorch's exporter is another one without gradients, and of some models not whole.
    with onnx_operators(*only), _quiet(), torch.inference_mode(False), torch.enable_grad():
        interface = _interface(model, streaming, lengths, example_step, stepwise)
        program = _program(interface)
        exported = with_constants(program)
        exported = in_int8(exported) if int8 else exported
    add_metadata(exported, metadata or {}, interface.initial_state)
    content = exported.SerializeToString()
    session, difference = session_of(content), None
    if session is not None:
        limit = tolerance if tolerance is not None else _INT8_TOLERANCE if int8 else _TOLERANCE
        difference, name = compare(session, interface.outputs, interface.examples)
        if not difference <= limit:
            raise ValueError(
                f"the file differs from the model: ONNX Runtime's {name} is off by {difference:.2g} of its largest "
                f"value; expected at most {limit:g}. {path} was not written. A larger tolerance= accepts it."
            )
    write_whole(path, content)
    return OnnxFile(
        path=path,
        size=len(content),
        inputs=_shapes(exported.graph.input),
        outputs=_shapes(exported.graph.output),
        difference=difference,
        start={name: value.numpy() for name, value in interface.initial_state.items()},
    )


def _interface(
    model: nn.Module, streaming: bool, lengths: bool | None, example_step: Tensor | None, stepwise: Stepwise
) -> Interface:
    """Return what goes in and out of the file of a copy of a model, in evaluation mode on the CPU."""
    model = copy.deepcopy(model).cpu().eval()
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        model = accelerate(model)
    inputs = Inputs(model, example_step)
    if streaming:
        if lengths:
            raise ValueError("lengths=True was given with streaming=True; one step has no lengths.")
        return OneStep(model, inputs, stepwise)
    if is_cell(model) and not isinstance(model, RecurrentLayer):
        model = RNN(model, batch_first=True)
    return WholeSequences(model, inputs, lengths)


def _program(interface: Interface) -> torch.onnx.ONNXProgram:
    sizes = {name: torch.export.Dim(name) for name in ("batch", "steps")}
    axes = tuple({axis: sizes[size] for axis, size in interface.axes[name].items()} for name in interface.inputs)
    program = torch.onnx.export(
        interface.module,
        tuple(interface.inputs.values()),
        input_names=list(interface.inputs),
        output_names=interface.outputs,
        dynamic_shapes=(axes,),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what PyTorch's exporter says of its own doings, and `accelerate` of what could be faster."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _shapes(values: Any) -> dict[str, list[int | str]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }
