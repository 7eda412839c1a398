"""The masked loop: every step for all sequences, and `where` in place of asking which sequences are active.

It runs where nobody may ask: in programs that are exported, where lengths and even the number of steps are symbols,
and under `vmap`, where each sample has lengths of its own. What stands in padding is replaced before the cell sees it.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

from unspool._modes import is_exporting
from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves, unflatten
from unspool._reason import Reason
from unspool.backends._onnx_operators import has_operator, run_operator
from unspool.backends._swap import call_with
from unspool.backends.base import Call, Refusal, Result, Run
from unspool.backends.reference import check_output
from unspool.cells import choose_rows, held_tensors, inside, match_state, name_of, step
from unspool.program.untouched import untouched

Parts = dict[str, Nest]
"""What is there, by name: loops want tensors only, so what is absent has no entry.

- Of the carry, which goes from step to step: `state`, `[B, ...]`.
- Of a step: `x`, `[B, ...]`; `valid`, `[B]`.
- Of what all steps read: `tensors`, the cell's own, by name; `rows`, its row inputs.
"""


class MaskedBackend:
    """Runs any cell, with lengths, masks and resets whose values are not known too."""

    name = "masked"
    device = None

    def prepare(self, call: Call) -> Run | Refusal:
        """Return what runs the call, or why this backend cannot."""
        if call.schedule.ragged:
            return Refusal([Reason("the arrays are ragged, and it needs padded ones")])
        return partial(self.run, call)

    def run(self, call: Call) -> Result:
        """Run every step for all sequences.

        In an ONNX export, a cell that ONNX has an operator for becomes that operator.

        Parameters
        ----------
        call : Call

        Returns
        -------
        Result

        Raises
        ------
        ValueError, TypeError
            If there are no steps, or the cell does not keep its contract.
        """
        exporting = is_exporting()
        if exporting and torch.onnx.is_in_onnx_export() and has_operator(call):
            return run_operator(call)
        schedule = call.schedule
        if schedule.steps == 0:
            raise ValueError(
                "inputs have no steps (T = 0); expected at least one in an exported program or under vmap."
            )
        valid = None if schedule.dense else schedule.valid_in_order.to(schedule.device)
        inputs = map_leaves(lambda leaf: leaf.flip(0), call.inputs) if schedule.reverse else call.inputs
        carry: Parts = {"state": call.initial_state}
        if valid is not None:
            inputs = map_leaves(lambda leaf: _masked(valid, leaf), inputs)
        one = isinstance(schedule.steps, int) and schedule.steps == 1  # which needs no loop
        loop = _scan if exporting and not (call.static or one) else _unrolled
        # What an exported program computes stands in its graph; what tracing it has changed does not.
        with untouched(call.cell) if exporting else nullcontext():
            carry, outputs = loop(call, carry, _present(x=inputs, valid=valid), _present(rows=call.row_inputs))
        if schedule.reverse:
            outputs = map_leaves(lambda leaf: leaf.flip(0), outputs)
        return Result(outputs, carry["state"])


def _present(**parts: Nest | None) -> Parts:
    return {name: part for name, part in parts.items() if part is not None}


def _masked(valid: Tensor, leaf: Tensor) -> Tensor:
    """Replace what stands where no step is valid, so that what the cell makes of it is finite, gradients too.

    Ones are in the domain of more functions than zeros; integers may be ids, of which 0 is the one that there is.
    """
    if leaf.dtype == torch.bool:  # of which ONNX Runtime has no Where
        return leaf & valid.view(*valid.shape, *[1] * (leaf.dim() - 2))
    filler = torch.ones_like(leaf) if leaf.is_floating_point() else torch.zeros_like(leaf)
    return torch.where(valid.view(*valid.shape, *[1] * (leaf.dim() - 2)), leaf, filler)


def _step(call: Call, carry: Parts, now: Parts, constants: Parts) -> tuple[Parts, Nest]:
    """Compute one step; return the carry and the output."""
    cell, valid, old = call.cell, now.get("valid"), carry["state"]
    output, new = step(cell, now["x"], old, constants.get("rows"))
    new = match_state(new, old, f"the new state of {name_of(cell)}")
    check_output(output, call.schedule.batch, cell)
    if valid is not None:
        new = choose_rows(valid, new, old)
        output = choose_rows(valid, output, map_leaves(torch.zeros_like, output))
    return {"state": new}, output


def _unrolled(call: Call, carry: Parts, steps: Parts, constants: Parts) -> tuple[Parts, Nest]:
    """Loop in Python: an exported graph has no loop."""
    leaves, spec = flatten(steps)
    outputs = []
    for now in zip(*[leaf.unbind(0) for leaf in leaves], strict=True):
        carry, output = _step(call, carry, unflatten(list(now), spec), constants)
        outputs.append(output)
    return carry, map_leaves(lambda *values: torch.stack(values), *outputs)


def _scan(call: Call, carry: Parts, steps: Parts, constants: Parts) -> tuple[Parts, Nest]:
    """Loop in the graph, for any number of steps."""
    # What the body reads must be handed in: what it closes over would become a constant of the graph.
    _refuse_unregistered(call.cell)
    tensors = dict([*call.cell.named_parameters(), *call.cell.named_buffers()])
    fixed, fixed_spec = flatten(constants | {"tensors": tensors})
    start, carry_spec = flatten(map_leaves(torch.clone, carry))  # no tensor may be handed in twice
    xs, steps_spec = flatten(steps)
    if torch.onnx.is_in_onnx_export():  # a file has no gradients, and PyTorch's scan has none where sizes are symbols
        start, xs, fixed = ([leaf.detach() for leaf in leaves] for leaves in (start, xs, fixed))
    result_spec: list[Spec] = []

    def body(*leaves: Tensor) -> list[Tensor]:
        given = iter(leaves)
        before = unflatten([next(given) for _ in start], carry_spec)
        now = unflatten([next(given) for _ in xs], steps_spec)
        known = unflatten(list(given), fixed_spec)
        after, result = call_with(call.cell, known["tensors"], lambda: _step(call, before, now, known))
        results, spec = flatten(result)
        result_spec[:] = [spec]
        return [leaf.clone() for leaf in (*leaves_of(after), *results)]  # nothing may share memory with anything

    # The operator, and not the function `scan`, which would send the body through the compiler.
    found = list(scan_op(body, start, xs, tuple(fixed)))
    return unflatten(found[: len(start)], carry_spec), unflatten(found[len(start) :], result_spec[0])


def _refuse_unregistered(cell: Any) -> None:
    """Refuse tensors that a cell holds and does not own as PyTorch knows it: no graph could be handed them.

    Raises
    ------
    ValueError
        If there are such tensors.
    """
    for name, _ in held_tensors(inside(cell)):
        raise ValueError(
            f"{name_of(cell)} holds the tensor {name}, which is neither a parameter nor a buffer; an exported "
            f"program cannot take it along. Register it with register_buffer({name.rpartition('.')[2]!r}, ...), or, "
            "where it belongs to the rows of a batch, pass it to the run as constants=."
        )
