"""Running a cell's step once, on a few sequences, and recording what it calls.

Letters: B the number of sequences of the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves
from unspool._reason import Reason
from unspool.cells import match_state, step
from unspool.program.foreign import Foreign, NothingWritten
from unspool.program.guard_code import bytes_of
from unspool.program.ir import Program, Value
from unspool.program.recorder import Recorder
from unspool.program.source import TraceError
from unspool.program.tape import Tape


@dataclass
class Recording:
    """A program together with what connects it to its cell.

    Attributes
    ----------
    program : Program
    parameters : list of Tensor
        For each `param` leaf, in order, the tensor that the step has read, or made of numbers alone.
    made : list of bool
        Which of these the step has made: they are the same at every run.
    output_spec, state_spec : structure
        How the leaves of output and state are nested.
    key : bytes or None
        Of all that was called, with what: two steps with one key compute the same. None where that cannot be told,
        or was not asked for.
    """

    program: Program
    parameters: list[Tensor]
    made: list[bool]
    output_spec: Spec
    state_spec: Spec
    key: bytes | None

    def let_go(self) -> None:
        """Keep the cell's tensors alive no longer: who runs the program is told where they are (see `guard`)."""
        pairs = zip(self.parameters, self.made, strict=True)
        self.parameters = [t if made else torch.empty_like(t, device="meta") for t, made in pairs]


def sizes_in(*trees: Any) -> set[int]:
    """Return all sizes of the tensors in structures."""
    return {n for t in leaves_of(trees) if isinstance(t, Tensor) for n in t.shape}


PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173)


def record(
    cell: nn.Module, inputs: Nest, state: Nest, rows: Nest | None, foreign: Foreign, batch: int, sample: Sampler,
    keyed: bool = True,
) -> Recording:  # fmt: skip
    """Read a cell's step.

    Parameters
    ----------
    cell : cell
    inputs, state, rows : nesting of Tensor of shape (..., features)
        Any tensors of the form of the step's, but for the batch.
    foreign : Foreign
    batch : int
        How many sequences the step is run on: unlike every other size in sight.
    sample : callable
        Makes a tensor with these many sequences like another one.
    keyed : bool, optional
        Whether the recording is to have a key.

    Returns
    -------
    Recording

    Raises
    ------
    TraceError
        If the step does something that a program cannot express.
    """
    inputs, state = (map_leaves(lambda leaf: sample(leaf, batch), tree) for tree in (inputs, state))
    rows = None if rows is None else map_leaves(lambda leaf: sample(leaf, batch), rows)
    recorder = Recorder(foreign, batch, tape=Tape() if keyed else None)
    for op, level, tree in (("input", "token", inputs), ("state", "state", state), ("row", "row", rows)):
        for leaf in leaves_of(tree) if tree is not None else []:
            recorder.leaf(leaf, op, level)
    with NothingWritten(foreign), recorder:
        output, new_state = foreign.observer.run(lambda: step(cell, inputs, state, rows))
    new_state = match_state(new_state, state, "the new state")
    program = recorder.program
    outputs, output_spec = flatten(output)
    new_states, state_spec = flatten(new_state)
    for leaf in (*outputs, *new_states):
        if not isinstance(leaf, Tensor) or leaf.dim() < 1 or leaf.shape[0] != batch:
            what = "an output or new state is not a tensor with the batch as its first axis"
            raise TraceError(what, "return tensors with the batch as their first axis")
        if not leaf.is_floating_point():
            what = f"an output or new state is of dtype {leaf.dtype}, not a floating-point one"
            raise TraceError(what, "return floating-point outputs and states")
    recorder.expect(*outputs, *new_states)
    program.outputs = [recorder.value(leaf) for leaf in outputs]
    program.new_states = [recorder.value(leaf) for leaf in new_states]
    key = None
    if recorder.tape is not None:
        own = [bytes_of(t).hex() for t, made in zip(recorder.parameters, recorder.made, strict=True) if made]
        forms = repr(([_form(value) for value in program.values], output_spec))
        parameters = recorder.parameters, recorder.made, own
        key = recorder.tape.key(inputs, state, rows, parameters, outputs, new_states, forms)
    return Recording(program, recorder.parameters, recorder.made, output_spec, state_spec, key)


Sampler = Callable[[Tensor, int], Tensor]


def difference(one: Recording, other: Recording) -> Reason:
    """Return the first operation in which two readings of one step differ, with its line, or an empty reason."""
    if len(one.program.values) != len(other.program.values):
        pairs = zip(one.program.values, other.program.values, strict=False)
    else:
        pairs = zip(one.program.values, other.program.values, strict=True)
    for a, b in pairs:
        if _form(a) != _form(b):
            return Reason(f"{a.op} ({a.source})" if a.source else a.op, where=a.source)
    same = len(one.program.values) == len(other.program.values) and _ends(one) == _ends(other)
    same = same and one.made == other.made and all(map(_same_parameter, one.parameters, other.parameters, one.made))
    return Reason("" if same else "what it takes or gives")


def _form(value: Value) -> tuple[Any, ...]:
    return value.op, tuple(a.id for a in value.args), repr(value.attrs), value.shape, value.level


def _ends(recording: Recording) -> list[int]:
    return [v.id for v in (*recording.program.outputs, *recording.program.new_states)]


def _same_parameter(a: Tensor, b: Tensor, made: bool) -> bool:
    return torch.equal(a, b) if made and a.shape == b.shape else a is b
