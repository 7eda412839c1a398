"""One reading of a cell's step, of which nothing can be seen afterwards.

It happens in a thread of its own (`apart`), under a watch (`Observer`), on stand-ins for the cell's tensors
(`Foreign`). What the step changes in spite of all is put back (`Snapshot`), and the step is refused: a program would
not change it at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unspool._nest import Nest
from unspool._reason import Reason
from unspool.cells import initial_state_of, inside, require_cell, row_inputs_of, size_of, step
from unspool.program.foreign import Foreign, StandIns
from unspool.program.guard import Guard, guard_of
from unspool.program.hoist import hoist
from unspool.program.ir import Program
from unspool.program.observe import Observer, apart
from unspool.program.recording import PRIMES, Recording, difference, record, sizes_in
from unspool.program.source import DRAWS, TraceError
from unspool.program.turns import begin, turn
from unspool.program.untouched import RandomStates, Snapshot, untouched

EXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a step may raise on sample sequences: a reason; the reference backend, which runs the cell, tells more."""


@dataclass(frozen=True)
class Read:
    """What came of a reading.

    Attributes
    ----------
    recording : Recording or None
        None where the step was refused.
    reason : Reason
        Why it was refused; empty if it was not.
    guard : Guard or None
        Whether that still stands; None where it cannot be told, so that the step has to be read again.
    result : object
        What `check` has returned.
    """

    recording: Recording | None
    reason: Reason
    guard: Guard | None
    result: Any = None


class Reading:
    """The reading of one cell.

    Parameters
    ----------
    cell : cell

    Attributes
    ----------
    foreign : Foreign
        The cell's tensors, and what stands for them.
    """

    def __init__(self, cell: nn.Module) -> None:
        self.cell = cell
        self._snapshot = Snapshot()
        self._observer = Observer(self._snapshot)
        self.foreign = Foreign(self._observer)

    def step(self, x: Nest, state: Nest, rows: Nest | None = None) -> tuple[Nest, Nest]:
        """Run the step on stand-ins, once it has been read: it is known by then to do nothing else.

        `x`, `state` and `rows` are those of `unspool.cells.step`.
        """
        with StandIns(self.foreign):
            return step(self.cell, x, state, rows)

    def read(
        self, inputs: Nest, state: Nest, rows: Nest | None, check: Callable[[Recording, Reading], Any] | None = None
    ) -> Read:
        """Read the step.

        Parameters
        ----------
        inputs, state, rows : nesting of Tensor of shape (..., features)
            See `record`.
        check : callable, optional
            Looks at the program before anything is put back; it may raise `TraceError`.

        Returns
        -------
        Read
        """
        with turn():
            return apart(lambda: self._read(inputs, state, rows, check))

    def _read(self, inputs: Nest, state: Nest, rows: Nest | None, check: Any) -> Read:
        begin()
        states = RandomStates()
        self._snapshot.add(inside(self.cell), "cell")
        recording: Recording | None = None
        written: list[str] = []
        try:
            try:
                recording = self._read_twice(inputs, state, rows, states)
                result = None if check is None else self._checked(check, recording)
                self._require_unchanged(states)
                tensors = [t for t, made in zip(recording.parameters, recording.made, strict=True) if not made]
                return Read(recording, Reason(), self._guard(tensors), result)
            except TraceError as error:
                reason = error.reason
            except EXPECTED as error:
                # Perhaps for this: what is held of each sequence is that of as many sequences as the run has.
                held = isinstance(error, RuntimeError) and any(type(t) is Tensor for t in self.foreign.met)
                remedy = "pass what the cell holds for each row of a batch, if it does, to {code} as constants="
                reason = Reason(f"the cell cannot be run on sample rows: {error!r}", remedy if held else "")
            written = list(self._snapshot.changes())
        finally:
            self._snapshot.restore()
            states.restore()
        return Read(None, reason, self._guard_of_refusal(written))

    def _checked(self, check: Callable[[Recording, Reading], Any], recording: Recording) -> Any:
        try:
            return check(recording, self)
        except EXPECTED as error:
            raise TraceError(f"the program that was read from the cell cannot be run: {error!r}") from error

    def _read_twice(self, inputs: Nest, state: Nest, rows: Nest | None, states: RandomStates) -> Recording:
        """Read the step on two batches, of other sizes and values: it must do the same with both."""
        sizes = {n for t, _ in list(self._snapshot.tensors.values()) for n in t.shape} | sizes_in(inputs, state, rows)
        first, second = [n for n in PRIMES if n not in sizes][:2]
        gentle, wild = _gentle(), _wild()
        with torch.enable_grad():
            one = self._record(inputs, state, rows, first, gentle, keyed=True)
            self._require_unchanged(states)
            other = self._record(inputs, state, rows, second, wild)
        different = difference(one, other)
        if different:
            what = f"two calls of the step differ: {different}, by the number of rows or from call to call"
            raise TraceError(what, "let every call do the same, for any number of rows", different.where)
        if self._observer.asks_for_gradients:
            with torch.no_grad():
                other = self._record(inputs, state, rows, first, gentle)
            different = difference(one, other)
            if different:
                asked = self._observer.asks_for_gradients
                what = f"the step asks whether gradients are wanted ({asked}), and does something else then"
                raise TraceError(what, "do the same whether gradients are wanted or not", asked.where)
        return one

    def _record(
        self, inputs: Nest, state: Nest, rows: Nest | None, batch: int, sample: Any, keyed: bool = False
    ) -> Recording:
        return record(self.cell, inputs, state, rows, self.foreign, batch, sample, keyed)

    def _require_unchanged(self, states: RandomStates) -> None:
        for path in self._snapshot.changes():
            what = f"the step changes {path}, which a program would not do at every call"
            raise TraceError(Reason.ending(what, "return what changes as a part of the state"))
        for whose in states.changes():
            raise TraceError(f"the step {DRAWS}, from {whose} random state", DRAWS.remedy)

    def _guard(self, tensors: list[Tensor]) -> Guard:
        foreign = self.foreign
        return guard_of(
            self.cell, self._observer, tensors, foreign.shaped.values(), foreign.contents.values(), foreign.looks
        )

    def _guard_of_refusal(self, written: list[str]) -> Guard | None:
        """Return whether a refusal still stands; what the step itself has written does not count."""
        try:
            foreign = self.foreign
            return guard_of(
                self.cell, self._observer, [], foreign.met, foreign.contents.values(), foreign.looks, written
            )
        except TraceError:
            return None


def _gentle() -> Callable[[Tensor, int], Tensor]:
    """Return what makes values between 0.1 and 0.6, in the domain of every function."""
    generator = torch.Generator().manual_seed(0)

    def sample(like: Tensor, batch: int) -> Tensor:
        shape = (batch, *like.shape[1:])
        if not like.is_floating_point():
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        values = torch.rand(shape, generator=generator, dtype=like.dtype) * 0.5 + 0.1
        return values.to(like.device).requires_grad_(torch.is_grad_enabled())

    return sample


def _wild() -> Callable[[Tensor, int], Tensor]:
    """Return what makes values of both signs and several magnitudes."""
    generator = torch.Generator().manual_seed(1)

    def sample(like: Tensor, batch: int) -> Tensor:
        shape = (batch, *like.shape[1:])
        if like.dtype == torch.bool:
            return (torch.rand(shape, generator=generator) < 0.5).to(like.device)
        if not like.is_floating_point():
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        values = torch.randn(shape, generator=generator, dtype=like.dtype)
        values = values * 10.0 ** torch.randint(-3, 3, (batch, *[1] * (like.dim() - 1)), generator=generator)
        return values.to(like.device, like.dtype).requires_grad_(torch.is_grad_enabled())

    return sample


def read_step(cell: nn.Module, inputs: Nest, state: Nest, rows: Nest | None) -> Recording:
    """Return the program of a cell's step.

    Parameters
    ----------
    cell : cell
    inputs, state, rows : nesting of Tensor of shape (..., features)
        See `record`.

    Returns
    -------
    Recording

    Raises
    ------
    TraceError
        If the step does something that a program cannot express.
    """
    found = Reading(cell).read(inputs, state, rows)
    if found.recording is None:
        raise TraceError(found.reason)
    return found.recording


def program(cell: Any, input_size: int | None = None) -> Program:
    """Return the program of a cell's step, with all that can leave the time loop outside of it.

    Parameters
    ----------
    cell : cell
        See `unspool.cells`.
    input_size : int, optional
        Features of the step's input; `cell.input_size` by default.

    Returns
    -------
    Program
        `pretty()` gives a readable dump, `to_json()` and `Program.from_json` keep it as text.

    Raises
    ------
    TraceError
        If the step does something that a program cannot express; the message names the operation and the line.
    TypeError
        If `cell` is not a cell.
    ValueError
        If the cell does not tell its `input_size` and none is given.

    Examples
    --------
    >>> print(program(SimpleRNNCell(2, 3)).pretty())  # doctest: +ELLIPSIS
    param:
    ...
    new state: ...
    """
    require_cell(cell)
    size = size_of(cell, "input_size", "program() without input_size=") if input_size is None else input_size
    with untouched(cell):
        state, rows = initial_state_of(cell, 1), row_inputs_of(cell, 1)
    return hoist(read_step(cell, torch.zeros(1, size), state, rows).program)
