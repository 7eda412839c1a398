"""The masked loop: every step for all rows, and `where` in place of asking which rows are live.

It runs where nobody may ask: in programs that are exported, where lengths and even the number of steps are symbols,
and under `vmap`, where each sample has lengths of its own. What stands in padding is replaced before the cell sees it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves, unflatten
from unspool.backends._onnx_operators import has_operator, run_operator
from unspool.backends._swap import call_with
from unspool.backends.base import Call, Result
from unspool.backends.reference import check_output, choose_rows
from unspool.cells import held_tensors, match_state, step
from unspool.program.rehearse import rehearsed
from unspool.program.untouched import untouched

Parts = dict[str, Nest]
"""What is there, by name: loops want tensors only, so what is absent has no entry.

- Of the carry, which goes from step to step: `state`, `[B, ...]`; `pending`, `[B]`, 1 for rows whose reset waits for
  their next token; `output`, `[B, ...]`, the last output, where padding repeats it.
- Of a step: `x`, `[B, ...]`; `live` and `reset`, `[B]`.
- Of what all steps read: `tensors`, the cell's own, by name; `rows`, its row inputs; `fresh`, the state that a reset
  returns to.
"""


class MaskedBackend:
    """Runs any cell with lengths, masks and resets whose values are not known."""

    name = "masked"

    def reasons(self, call: Call) -> list[str]:
        """Return why this backend cannot run a call."""
        return ["the arrays are ragged, and it needs padded ones"] if call.schedule.ragged else []

    def run(self, call: Call) -> Result:
        """Run every step for all rows.

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
        exporting = torch.compiler.is_exporting()
        if exporting and torch.onnx.is_in_onnx_export() and has_operator(call):
            return run_operator(call)
        schedule = call.schedule
        if schedule.steps == 0:
            raise ValueError(
                "inputs have no steps (T = 0); expected at least one in an exported program or under vmap."
            )
        live = None if schedule.dense else schedule.live_in_order
        reset = schedule.given_resets_in_order
        inputs = map_leaves(lambda leaf: leaf.flip(0), call.inputs) if schedule.reverse else call.inputs
        carry: Parts = {"state": call.initial_state}
        if live is not None:
            inputs = map_leaves(lambda leaf: _masked(live, leaf), inputs)
            if reset is not None:
                # A number and not a boolean: PyTorch's scan is differentiated only if all of its carry can be.
                carry["pending"] = torch.zeros(schedule.batch, device=schedule.device)
            if call.pad_output == "repeat":
                carry["output"] = _zero_output(call, inputs)
        constants = _present(rows=call.row_inputs, fresh=None if reset is None else call.reset_state)
        loop = _scan if exporting and not call.static else _unrolled
        # What an exported program computes stands in its graph; what tracing it has changed does not.
        with untouched(call.cell) if exporting else nullcontext():
            carry, results = loop(call, carry, _present(x=inputs, live=live, reset=reset), constants)
        if schedule.reverse:
            results = map_leaves(lambda leaf: leaf.flip(0), results)
        return Result(results["output"], carry["state"], results.get("state"))


def _present(**parts: Nest | None) -> Parts:
    return {name: part for name, part in parts.items() if part is not None}


def _masked(live: Tensor, leaf: Tensor) -> Tensor:
    """Replace what stands where nothing is live, so that what the cell makes of it is finite, gradients too.

    Ones are in the domain of more functions than zeros; integers may be ids, of which 0 is the one that there is.
    """
    filler = torch.ones_like(leaf) if leaf.is_floating_point() else torch.zeros_like(leaf)
    return torch.where(live.view(*live.shape, *[1] * (leaf.dim() - 2)), leaf, filler)


def _zero_output(call: Call, inputs: Nest) -> Nest:
    """Return zeros in the form of the cell's output; what is computed to learn it is used by nobody."""
    first = map_leaves(lambda leaf: leaf[0], inputs)
    with rehearsed(call.cell):
        output, _ = step(call.cell, first, call.initial_state, call.row_inputs)
    check_output(output, call.schedule.batch, call.cell)
    return map_leaves(
        lambda leaf: torch.zeros((call.schedule.batch, *leaf.shape[1:]), dtype=leaf.dtype, device=call.schedule.device),
        output,
    )


def _step(call: Call, carry: Parts, now: Parts, constants: Parts) -> tuple[Parts, Parts]:
    """Compute one step; return the carry, and what is kept of the step: `output`, and `state` where it is wanted."""
    cell, live, reset = call.cell, now.get("live"), now.get("reset")
    old, after = carry["state"], dict(carry)
    if reset is not None:
        if live is not None:
            waiting = torch.maximum(carry["pending"], reset.to(carry["pending"].dtype))
            reset, after["pending"] = (waiting > 0) & live, waiting * ~live
        old = choose_rows(reset, constants["fresh"], old)
    output, new = step(cell, now["x"], old, constants.get("rows"))
    new = match_state(new, old, f"the new state of {type(cell).__name__}")
    check_output(output, call.schedule.batch, cell)
    if live is not None:
        new = choose_rows(live, new, carry["state"])
        padding = carry["output"] if "output" in carry else map_leaves(torch.zeros_like, output)
        output = choose_rows(live, output, padding)
    after["state"] = new
    if "output" in carry:
        after["output"] = output
    return after, _present(output=output, state=new if call.all_states else None)


def _unrolled(call: Call, carry: Parts, steps: Parts, constants: Parts) -> tuple[Parts, Parts]:
    """Loop in Python: an exported graph has no loop."""
    leaves, spec = flatten(steps)
    results = []
    for now in zip(*[leaf.unbind(0) for leaf in leaves], strict=True):
        carry, result = _step(call, carry, unflatten(list(now), spec), constants)
        results.append(result)
    return carry, map_leaves(lambda *values: torch.stack(values), *results)


def _scan(call: Call, carry: Parts, steps: Parts, constants: Parts) -> tuple[Parts, Parts]:
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
    for name, _ in held_tensors(cell):
        raise ValueError(
            f"{type(cell).__name__} holds the tensor {name}, which is neither a parameter nor a buffer; an exported "
            f"program cannot take it along. Register it with register_buffer({name.rpartition('.')[2]!r}, ...), or, "
            "where it belongs to the rows of a batch, pass it to the run as constants=."
        )
