"""What a backend is: something that runs a cell's step over time, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

from unspool._nest import Nest, describe
from unspool._reason import Reason
from unspool.backends._schedule import Schedule
from unspool.cells import ResetCell, around, name_of

SEVERAL_DTYPES = Reason("inputs, state and parameters have several dtypes", "model = model.to(x.dtype)")
TO_FLOAT = "model, x = model.float(), x.float()"


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
        See `unspool.cells`; with `ResetCell` and `WithStates` around it where a run has resets, or gives all states.
    inputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) where the schedule's arrays are ragged
        What stands outside of the schedule's valid steps must reach nothing.
    initial_state : nesting of Tensor of shape (B, ...)
    row_inputs : nesting of Tensor of shape (B, ...), or None
        What the cell takes beside input and state, constant over time: its own row inputs, and the constants of the
        run, as `unspool.cells.beside` puts them together.
    schedule : Schedule
        Which sequences are computed at which step.
    static : bool
        Whether T and the largest batch are fixed, so that a backend may keep a plan.
    """

    cell: Any
    inputs: Nest
    initial_state: Nest
    row_inputs: Nest | None
    schedule: Schedule
    static: bool

    def __str__(self) -> str:
        mode = "static" if self.static else "dynamic"
        schedule = self.schedule
        axes = f"(N, 1, ...), rows: {schedule.batch}" if schedule.ragged else "(T, B, ...)"
        raggedness = "all rows real" if schedule.dense and not schedule.ragged else "ragged"
        direction = ", reverse" if schedule.reverse else ""
        inputs = self.inputs
        for cell in around(self.cell):
            inputs = inputs[0] if isinstance(cell, ResetCell) else inputs
        return f"{name_of(self.cell)} over {describe(inputs)} {axes}, {mode}, {raggedness}{direction}"


class Result(NamedTuple):
    """What a backend's run gives back.

    Attributes
    ----------
    outputs : nesting of Tensor of shape (T, B, ...), or (N, 1, ...) as the inputs
        The output of every step, in the order of the inputs, and zeros where nothing is computed.
    final_state : nesting of Tensor of shape (B, ...)
        The state after each sequence's last valid step; the initial state for sequences without any.
    """

    outputs: Nest
    final_state: Nest


Run: TypeAlias = Callable[[], Result]


@dataclass(frozen=True)
class Refusal:
    """Why a backend cannot run a call.

    Attributes
    ----------
    reasons : iterable of Reason
        One sentence each, at least one. Choosing a backend needs none of them, so they may be found as they are asked
        for, once.
    """

    reasons: Iterable[str]

    @cached_property
    def all(self) -> list[str]:
        """The reasons, found once."""
        return list(self.reasons)


class Backend(Protocol):
    """Runs cells over time.

    To add one, write this protocol and put an instance into `unspool.backends.dispatch.BACKENDS`, before those that
    it should be preferred to. The conformance tests then run over it.
    """

    @property
    def name(self) -> str:
        """What users ask for."""
        ...

    @property
    def device(self) -> str | None:
        """The type of device that it runs on; None for any. It is not asked about calls whose inputs are elsewhere."""
        ...

    def prepare(self, call: Call) -> Run | Refusal:
        """Return what runs the call, or why this backend cannot.

        A failure of the run raises; nothing falls back.
        """
        ...


UNLISTED = Reason("lengths, mask or resets have no values here: the run is exported, or vmap gives each sample its own")
"""The reason of backends that ask which sequences are valid at which step, where a schedule is not listed."""
