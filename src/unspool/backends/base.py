"""What a backend is: something that runs a cell's step over time, and says when it cannot."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from unspool._nest import Nest, describe, flatten
from unspool.backends._schedule import Schedule


class BackendError(ValueError):
    """A backend that was asked for by name cannot run the call; the message gives its reasons.

    Change what the reasons name, or leave `backend="auto"`, which takes the first backend that can; `unspool.explain`
    shows the reasons of all.
    """


@dataclass(frozen=True)
class Call:
    """One cell to be run over one batch of sequences. All arguments have been checked.

    Attributes
    ----------
    cell : cell
        See `unspool.cells`.
    inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where the schedule's arrays are ragged
        What stands outside of the schedule's tokens must reach nothing.
    initial_state : nesting of Tensor of shape (B, ...)
    reset_state : nesting of Tensor of shape (B, ...)
        The cell's own initial state, to which a reset returns.
    row_inputs : nesting of Tensor of shape (B, ...), or None
        What the cell takes beside input and state, constant over time: its own row inputs, and the constants of the
        run, as `unspool.cells.beside` puts them together.
    schedule : Schedule
        Which rows are computed at which step.
    pad_output : {"zero", "repeat"}
        What the outputs hold where nothing is computed.
    all_states : bool
        Whether the state after every step is wanted.
    static : bool
        Whether T and the largest batch are fixed, so that a backend may keep a plan.
    notes : dict
        What backends have found out about the call and do not want to find out twice.
    """

    cell: Any
    inputs: Nest
    initial_state: Nest
    reset_state: Nest
    row_inputs: Nest | None
    schedule: Schedule
    pad_output: str
    all_states: bool
    static: bool
    notes: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def row_forms(self) -> Hashable:
        """The structure of the row inputs, with shapes and dtypes of one row: what a program of the step depends on."""
        if self.row_inputs is None:
            return None
        leaves, spec = flatten(self.row_inputs)
        return spec, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)

    def __str__(self) -> str:
        mode = "static" if self.static else "dynamic"
        schedule = self.schedule
        axes = f"(N, 1, ...), rows: {schedule.batch}" if schedule.ragged else "(T, B, ...)"
        raggedness = "all rows real" if schedule.dense and not schedule.ragged else "ragged"
        direction = ", reverse" if schedule.reverse else ""
        return f"{type(self.cell).__name__} over {describe(self.inputs)} {axes}, {mode}, {raggedness}{direction}"


@dataclass(frozen=True)
class Result:
    """What a run gives back.

    Attributes
    ----------
    outputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) as the inputs
        The output of every step, in the order of the inputs; padded as the call says.
    final_state : nesting of Tensor of shape (B, ...)
        The state after each row's last token; the initial state for rows without tokens.
    all_states : nesting of Tensor of shape (T, B, ...) or (N, 1, ...), or None
        The state after every step, carried through steps that are not computed.
    """

    outputs: Nest
    final_state: Nest
    all_states: Nest | None


class Backend(Protocol):
    """Runs cells over time.

    To add one, write this protocol and put an instance into `unspool.backends.dispatch.BACKENDS`, before those that
    it should be preferred to. The conformance tests then run over it.
    """

    name: str

    def reasons(self, call: Call) -> Iterable[str]:
        """Return why this backend cannot run the call: one sentence each, none if it can.

        Choosing a backend asks for the first one alone, so they may be found as they are asked for.
        """
        ...

    def run(self, call: Call) -> Result:
        """Run a call for which `reasons` is empty. A failure raises; nothing falls back."""
        ...
