"""What one run without gradients has found out, so that the next one of the same form need not.

Whatever could let that one do otherwise is asked again, each time: whether the cell's program stands (its guard), and
what surrounds the run. Everything else follows from the form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unspool._nest import leaves_of
from unspool._reason import Reason
from unspool.backends._layout import TokenLayout
from unspool.backends.base import Call, Result
from unspool.cells import AroundCell
from unspool.program.kept import Kept

if TYPE_CHECKING:
    from unspool.backends._engine_run import CompiledStep


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
            and not compiled.step.loop.tokens
            and all(function is not None for _, function, _ in compiled.inference.before)
            and {t.dtype for t in (*leaves_of(call.initial_state), *compiled.step.recording.parameters)}
            == {inputs.dtype}
        )

    def __init__(
        self, kept: Kept[Any], form: tuple[Any, ...], call: Call, compiled: CompiledStep, layout: TokenLayout
    ) -> None:
        self._kept, self._form, self._batch, self.layout = kept, form, call.schedule.batch, layout
        self.dtype = call.inputs.dtype
        inference, recording = compiled.inference, compiled.step.recording
        params = list(zip(compiled.leaves["param"], recording.parameters, recording.made, strict=True))
        # The run picks what it takes from a list: the input, the cell's tensors, those of the program itself, and what
        # is computed of them before the loop.
        fixed = compiled.constants | {leaf: tensor for leaf, tensor, made in params if made}
        self._fixed = list(fixed.values())
        pool = [*compiled.leaves["input"], *(leaf for leaf, _, made in params if not made), *fixed]
        pool += [value for value, *_ in inference.before]
        place = {value: i for i, value in enumerate(pool)}
        self._before = [(function, _picker([place[a] for a in args])) for _, function, args in inference.before]
        self._picked = _picker([place[value] for value in inference.takes])
        self._compiled = compiled

    def run(self, cell: nn.Module, inputs: Tensor, states: list[Tensor]) -> Result | None:
        """Run it once more, or return None where it is another run now: one for training, or of a changed cell.

        Parameters
        ----------
        cell : cell
        inputs : Tensor of shape (T, B, I)
        states : list of Tensor of shape (B, ...)
            The leaves of the initial state, each contiguous and in memory of its own; they become the final ones.
        """
        standing = self._kept.standing(cell, self._form)
        if standing is None or isinstance(standing[0], Reason):
            return None
        compiled, tensors = standing
        if compiled is not self._compiled:  # it was read anew, or computes with another of its readings now
            return None
        pool = [inputs, *tensors]
        if any(map(Tensor.is_neg, pool)):
            return None
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*pool, *states)):
            return None
        pool += self._fixed
        for function, arguments in self._before:
            pool.append(function(*arguments(pool)))
        outputs = compiled.inference.run(self._picked(pool), states, self.layout, self.dtype)
        return Result(compiled.put_outputs(outputs), compiled.put_state(states))


def _picker(places: list[int]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Return what takes these elements of a list."""
    if len(places) == 1:
        (place,) = places
        return lambda pool: (pool[place],)
    return itemgetter(*places)
