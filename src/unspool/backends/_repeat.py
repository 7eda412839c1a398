"""What one run has found out, so that the next one of the same form need not.

Whatever could let that one do otherwise is asked again, each time: whether the cell's program stands (its guard), and
what surrounds the run. Everything else follows from the form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from unspool._nest import leaves_of
from unspool.backends._engine_run import CompiledStep, EngineRun, Request
from unspool.backends._layout import TokenLayout
from unspool.backends.base import Call, Result
from unspool.cells import AroundCell
from unspool.program.kept import Kept

FORMS = 8
"""Forms of calls that are kept for a cell or a layer, the latest ones."""


def make_room(kept: dict[Any, Any]) -> None:
    """Let the oldest of what is kept go, so that one more is at most `FORMS`; other threads may do the same.

    Parameters
    ----------
    kept : dict
    """
    for key in list(kept)[: max(0, len(kept) - FORMS + 1)]:
        kept.pop(key, None)


class Repeatable:
    """A run of one cell over one tensor, whole sequences and nothing beside, in the dynamic mode.

    Parameters
    ----------
    kept : Kept
        Where programs are kept.
    form : tuple
        See `Kept.find`.
    call : Call
    compiled : CompiledStep
        What was found for the call.
    layout : TokenLayout

    Attributes
    ----------
    dtype : torch.dtype
        Of everything.
    layout : TokenLayout
    """

    @staticmethod
    def can(call: Call, compiled: CompiledStep) -> bool:
        """Tell whether a call is of this kind."""
        schedule, inputs, leaves = call.schedule, call.inputs, compiled.leaves
        return (
            type(inputs) is Tensor
            and schedule.dense
            and not (schedule.ragged or call.static or call.row_inputs is not None or isinstance(call.cell, AroundCell))
            and len(leaves["input"]) == 1
            and not compiled.taken
            and all(function is not None for _, function, _ in compiled.before)
            and {t.dtype for t in (*leaves_of(call.initial_state), *compiled.step.recording.parameters)}
            == {inputs.dtype}
        )

    def __init__(
        self, kept: Kept[Any], form: tuple[Any, ...], call: Call, compiled: CompiledStep, layout: TokenLayout
    ) -> None:
        owner = vars(call.cell).get("bound_from", call.cell)
        self._kept, self._shelf, self._owner, self.layout = kept, kept.shelf(owner, form), ref(owner), layout
        self.dtype = call.inputs.dtype
        params = list(zip(compiled.leaves["param"], compiled.step.recording.parameters, compiled.step.recording.made,
                          strict=True))  # fmt: skip
        # The run picks what it takes from a list: the input, the cell's tensors, those of the program itself, and what
        # is computed of them before the loop.
        fixed = compiled.constants | {leaf: tensor for leaf, tensor, made in params if made}
        pool = [*compiled.leaves["input"], *(leaf for leaf, _, made in params if not made), *fixed]
        self._compiled, self._fixed = compiled, list(fixed.values())
        self._infer = _Picked(pool, compiled.inference.before, compiled.inference.takes)
        self._engine = compiled.inference.bound(layout, self.dtype)
        self._inputs = _Picked(pool, compiled.before, compiled.step.loop.inputs)
        self._params = _Picked([*pool, *(value for value, *_ in compiled.before)], [], compiled.step.loop.params)

    def is_of(self, compiled: CompiledStep, threads: int) -> bool:
        """Tell whether it runs this program on so many threads.

        Parameters
        ----------
        compiled : CompiledStep
        threads : int
        """
        return self._compiled is compiled and self.layout.threads == threads

    def run(self, cell: nn.Module, inputs: Tensor, states: list[Tensor], one_step: bool = False) -> Result | None:
        """Run it once more, or return None where the cell has changed.

        Parameters
        ----------
        cell : cell
        inputs : Tensor of shape (T, B, I)
        states : list of Tensor of shape (B, ...)
            The leaves of the initial state. Where gradients are off, each must be contiguous and in memory of its own:
            they become the final ones.
        one_step : bool
            Whether there is one step, without gradients, and inputs and outputs have no axis of time.
        """
        if vars(cell).get("bound_from", cell) is not self._owner():
            return None
        standing = self._kept.standing(self._shelf, cell)
        if standing is None or standing[0] is not self._compiled:  # read anew, or as another of its readings now
            return None
        compiled = self._compiled
        pool = [inputs, *standing[1]]
        if any(map(Tensor.is_neg, pool)):
            return None
        pool += self._fixed
        if torch.is_grad_enabled():
            given = [*self._inputs(pool), *states, *self._params(pool)]
            results = EngineRun.apply(Request(compiled, self.layout, self.dtype, None), *given)
            count = len(results) - len(states)
            outputs, states = results[:count], results[count:]
        else:
            outputs = self._engine(self._infer(pool), states, one_step)
        return Result(compiled.put_outputs(outputs), compiled.put_state(states))


class _Picked:
    """Picks values from a list to which it adds what is computed of them.

    Parameters
    ----------
    pool : list of Value
        What the list holds.
    before : list of (Value, callable, tuple of Value)
        What is computed.
    wanted : list of Value
    """

    def __init__(self, pool: list[Any], before: list[Any], wanted: list[Any]) -> None:
        place = {value: i for i, value in enumerate((*pool, *(value for value, *_ in before)))}
        self._before = [(function, _picker([place[a] for a in args])) for _, function, args in before]
        self._wanted = _picker([place[value] for value in wanted])

    def __call__(self, pool: list[Tensor]) -> Sequence[Tensor]:
        for function, arguments in self._before:
            pool.append(function(*arguments(pool)))
        return self._wanted(pool)


def _picker(places: list[int]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Return what takes these elements of a list."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda pool: [pool[place] for place in places]
