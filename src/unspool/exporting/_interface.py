"""What goes into a file and what comes out of it, by name: of whole sequences, and of one step.

Letters: B batch, T steps.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from operator import methodcaller
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from unspool._nest import Nest, flatten, leaves_of, map_leaves, named_leaves, require_tensors, unflatten
from unspool.cells import LSTMState
from unspool.execution import Steps
from unspool.exporting._inputs import Inputs
from unspool.layers import Bidirectional, RecurrentLayer
from unspool.streaming import Recurrent, parts_of, stream

Values = dict[str, Tensor]
Axes = dict[str, dict[int, str]]
Stepwise = tuple[type[nn.Module], ...]

_TRACED = (3, 5)
"""Sequences and steps of the batch with which a model is traced: none is 1, which PyTorch takes for a constant."""


def names_of(tree: Nest) -> list[str]:
    """Return a name for each tensor of a state: `h` and `c`, `h` for a tensor alone, `0.h`, `fast`."""
    found = []
    for path, _ in named_leaves(tree, ""):
        parts = re.findall(r"\w+", path)
        found.append(".".join(parts if parts and not parts[-1].isdigit() else [*parts, "h"]))
    return found


class WholeSequences:
    """A model that takes a batch of sequences, and their lengths where it can.

    Parameters
    ----------
    model : Module
    inputs : Inputs
    lengths : bool, optional
        Whether lengths are an input; by default wherever the model's `forward` takes them.

    Attributes
    ----------
    module : Module
        Takes the tensors of `inputs`, in their order, and returns a tuple of those that `outputs` names.
    inputs : dict of str to Tensor
        An example.
    axes : dict of str to dict of int to str
        Of each input the axes of any size, by number.
    outputs : list of str
    initial_state : dict of str to Tensor
        None of it is an input.

    Raises
    ------
    TypeError, ValueError
        If lengths are wanted and the model takes none, or it is unrolled for a number of steps that is not known.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, lengths: bool | None) -> None:
        takes = "lengths" in inspect.signature(model.forward).parameters
        if lengths and not takes:
            raise TypeError(
                f"lengths=True was given, and {type(model).__name__}.forward has no parameter lengths; expected a "
                "layer, or a module whose forward takes them."
            )
        self._model, self._inputs = model, inputs
        self._lengths = takes if lengths is None else lengths
        self._batch_first = _batch_first(model)
        self._steps = _steps_of(model)
        self.module = _Flat(model)
        self.inputs = self._batch(_TRACED[0], _TRACED[1])
        batch, steps = (0, 1) if self._batch_first else (1, 0)
        of_input = {batch: "batch"} if self._steps else {batch: "batch", steps: "steps"}
        self.axes: Axes = {"input": of_input, "lengths": {0: "batch"}}
        self.initial_state: Values = {}
        with torch.no_grad():
            result = _called(model, tuple(self.inputs.values()))
        layer = model.forward_layer if isinstance(model, Bidirectional) else model
        if getattr(layer, "return_state", isinstance(layer, nn.RNNBase)):
            output, state = result
            state = LSTMState(*state) if isinstance(model, nn.LSTM) else state  # PyTorch's has no names
            self.outputs = [*_output_names(output), *(f"{name}_n" for name in names_of(state))]
        else:
            self.outputs = _output_names(result)

    def _batch(self, batch: int, steps: int) -> Values:
        steps = self._steps or steps
        shape = (batch, steps) if self._batch_first else (steps, batch)
        values = {"input": self._inputs.draw(*shape)}
        if self._lengths:
            # 1 at least: not every model has an answer for no steps at all.
            values["lengths"] = torch.arange(batch) * 2 % steps + 1
            values["lengths"][-1] = steps
        return values

    def examples(self) -> Iterator[tuple[Values, list[Tensor]]]:
        """Yield inputs of several sizes and what the model itself makes of them."""
        for size in [(1, 1), (5, 7), (2, 33)]:
            values = self._batch(*size)
            with torch.no_grad():
                yield values, list(self.module(*values.values()))


class OneStep:
    """A model that takes the inputs of one step and its state, and returns the output and the new state.

    Parameters
    ----------
    model : Module
    inputs : Inputs
    stepwise : tuple of type
        See `unspool.stream`.

    Attributes
    ----------
    module, inputs, axes, outputs
        See `WholeSequences`.
    initial_state : dict of str to Tensor
        By the names of inputs, the state in which one sequence starts.

    Raises
    ------
    TypeError, ValueError
        If the model cannot stream.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, stepwise: Stepwise) -> None:
        self._model, self._inputs, self._stepwise = model, inputs, stepwise
        self.module = _Step(model, stepwise)
        start = self.module.start(1)
        prefix = {part: f"{part.name}." if len(start) > 1 else "" for part in start}
        self._names = [prefix[part] + name for part, held in start.items() for name in names_of(held.nest)]
        leaves = [leaf for held in start.values() for leaf in held.leaves]
        self.initial_state = dict(zip(self._names, leaves, strict=True))
        axes = [{held.axis: "batch"} for held in start.values() for _ in held.leaves]
        self.axes: Axes = {"input": {0: "batch"}, **dict(zip(self._names, axes, strict=True))}
        states = [leaf for held in self.module.start(_TRACED[0]).values() for leaf in held.leaves]
        self.inputs = {"input": inputs.draw(_TRACED[0]), **dict(zip(self._names, states, strict=True))}
        with torch.no_grad():
            output, _ = self.module.run(*self.inputs.values())
        self.outputs = [*_output_names(output), *(f"{name}_new" for name in self._names)]

    def examples(self) -> Iterator[tuple[Values, list[Tensor]]]:
        """Yield the inputs and states of several steps, and what a stream makes of them."""
        for batch in (1, 5):
            streamed = stream(self._model, batch, stepwise=self._stepwise)
            for _ in range(3):
                before = dict(zip(self._names, leaves_of(streamed.state), strict=True))
                values = {"input": self._inputs.draw(batch), **before}
                output = streamed.step(values["input"])
                yield values, [*leaves_of(output), *leaves_of(streamed.state)]


Interface: TypeAlias = WholeSequences | OneStep


class _Flat(nn.Module):
    """Returns the tensors of a model's result in a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(leaves_of(_called(self.model, inputs)))


class _Step(nn.Module):
    """Runs one step of a model, from the leaves of its state to those of the next."""

    def __init__(self, model: nn.Module, stepwise: Stepwise) -> None:
        super().__init__()
        self.model, self._parts = model, parts_of(model, stepwise)

    def start(self, batch: int) -> dict[Recurrent, Any]:
        """Return the state of each recurrent part in which so many sequences start."""
        return {part: part.start(batch) for part in self._parts if isinstance(part, Recurrent)}

    def run(self, x: Any, *leaves: Tensor) -> tuple[Nest, list[Tensor]]:
        """Return the output and the leaves of the new state."""
        before, after = iter(leaves), []
        for part in self._parts:
            if not isinstance(part, Recurrent):
                x = part.module(x)
                continue
            layer, tensors = part.layer()
            time = 1 if layer.batch_first else 0
            old, form = flatten(part.start(1).nest)
            state = unflatten([next(before) for _ in old], form)
            steps = map_leaves(methodcaller("unsqueeze", time), x)
            x, new = layer.run_with(tensors, steps, state, Steps(None, None, None), None)
            x = map_leaves(methodcaller("squeeze", time), x) if layer.return_sequences else x
            after += leaves_of(new)
        return x, after

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output, after = self.run(*inputs)
        return (*leaves_of(output), *after)


def _called(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Call a model with a batch and, where there are two inputs, its lengths."""
    return model(inputs[0], **dict(zip(["lengths"], inputs[1:], strict=False)))


def _output_names(output: Nest) -> list[str]:
    """Return a name for each tensor of an output: `output` for one alone."""
    require_tensors(output, "the output")
    paths = ["".join(f".{part}" for part in re.findall(r"\w+", path)) for path, _ in named_leaves(output, "")]
    return [f"output{path}" for path in paths]


def _batch_first(model: nn.Module) -> bool:
    """Tell which layout the recurrent layers of a model have; that of functions such as `dynamic_rnn` by default."""
    layers = [module for module in model.modules() if isinstance(module, RecurrentLayer | nn.RNNBase)]
    found = {bool(layer.batch_first) for layer in layers}
    if len(found) > 1:
        raise ValueError("the layers of the model differ in batch_first; expected one layout.")
    return found.pop() if found else True


def _steps_of(model: nn.Module) -> int | None:
    """Return the number of steps that a model is unrolled for, or None where it takes any."""
    unrolled = [module for module in model.modules() if isinstance(module, RecurrentLayer) and module.unroll]
    if not unrolled:
        return None
    if unrolled[0].num_steps is None:
        raise ValueError(
            f"{type(unrolled[0]).__name__} is unrolled for a number of steps that its first batch sets; expected "
            "num_steps=, or a layer that is not unrolled."
        )
    return unrolled[0].num_steps
