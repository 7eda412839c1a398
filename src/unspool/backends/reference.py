"""The reference backend: a Python loop over plain PyTorch. Every faster backend is compared with this one.

It calls the cell on the active sequences only, so padding is never touched, whatever the cell does with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from unspool._nest import Nest, describe, leaves_of, map_leaves, require_tensors
from unspool.backends._running import RunningRows
from unspool.backends.base import UNLISTED, Call, Refusal, Result, Run
from unspool.cells import held_tensors, inside, match_state, name_of, step
from unspool.program.rehearse import rehearsed


class ReferenceBackend:
    """Runs any cell, on any device, in any dtype, with gradients of any order."""

    name = "reference"
    device = None

    def prepare(self, call: Call) -> Run | Refusal:
        """Return what runs the call: anything, but where nobody can say which sequences are computed."""
        return partial(self.run, call) if call.schedule.listed else Refusal([UNLISTED])

    def run(self, call: Call) -> Result:
        """Run the cell step by step.

        Parameters
        ----------
        call : Call

        Returns
        -------
        Result

        Raises
        ------
        TypeError, ValueError
            If the cell does not keep its contract: see `unspool.cells`.
        """
        schedule = call.schedule
        constants = {} if call.row_inputs is None else {"rows": call.row_inputs}
        gaps = None if schedule.right_padded else schedule.tokens[0].split(schedule.counts)
        running = RunningRows(call.initial_state, constants, schedule.spans, schedule.device, gaps)
        outputs: list[Nest] = []
        for k, x in enumerate(schedule.cut(call.inputs)):
            now = running.at(k)
            old, constant, rows = now["state"], now.get("rows"), schedule.rows(k)
            given = {"input": x, "state": old, "constants": () if constant is None else constant}
            versions = {name: _versions(tree) for name, tree in given.items()}
            try:
                output, new = step(call.cell, x, old, constant)
                new = match_state(new, old, f"the new state of {name_of(call.cell)}")
                check_output(output, schedule.batch if rows is None else len(rows), call.cell)
            except Exception as error:
                where = f"{name_of(call.cell)}, step {k + 1} of the run"
                error.add_note(f"in {where}: input {describe(x)}, state {describe(old)}, of the rows still running")
                for name, tensor in held_tensors(inside(call.cell)):
                    if tensor.dim() and tensor.shape[0] == schedule.batch:
                        error.add_note(
                            f"the cell holds {name} {list(tensor.shape)}: what belongs to the rows of a batch, pass to "
                            "the run as constants=, so that each step gets that of its rows"
                        )
                raise
            for name, tree in given.items():
                if _versions(tree) != versions[name]:
                    raise ValueError(
                        f"{name_of(call.cell)} wrote into the {name} that it received; expected a new one, since "
                        f"the old one may still be needed. Replace in-place operations on the {name} (+=, add_, ...)."
                    )
            running.put(k, new)
            outputs.append(output)
        padded, state = schedule.scatter(outputs, outputs[0] if outputs else _probe(call)), running.final()
        return Result(padded, state) if outputs else Result(_in_graph(padded, call), _in_graph(state, call))


def _versions(tree: Nest) -> list[int]:
    """Return how often each leaf has been written to; inference tensors do not count."""
    return [0 if leaf.is_inference() else leaf._version for leaf in leaves_of(tree)]


def check_output(output: Nest, rows: int, cell: Any) -> None:
    """Refuse outputs that do not have the batch as their first axis.

    Parameters
    ----------
    output : nesting
    rows : int
        B.
    cell : cell
        Which has put it out.

    Raises
    ------
    ValueError, TypeError
        If they do not, or are not tensors.
    """
    require_tensors(output, "output")
    if any(leaf.dim() == 0 or leaf.shape[0] != rows for leaf in leaves_of(output)):
        raise ValueError(
            f"{name_of(cell)} put out {describe(output)} for {rows} rows; expected the batch as the first "
            "axis of every leaf. Return one output per row."
        )


def _probe(call: Call) -> Nest:
    """Run the step on one sequence of ones to learn what its output looks like, where there is nothing to compute."""

    def one_row(tree: Nest, batch_axis: int) -> Nest:
        return map_leaves(lambda leaf: leaf.new_ones((1, *leaf.shape[batch_axis + 1 :])), tree)

    rows = None if call.row_inputs is None else one_row(call.row_inputs, 0)
    with torch.no_grad(), rehearsed(call.cell):
        output, _ = step(call.cell, one_row(call.inputs, 1), one_row(call.initial_state, 0), rows)
    check_output(output, 1, call.cell)
    return output


def _in_graph(values: Nest, call: Call) -> Nest:
    """Make values for which nothing was computed part of the graph, so that backward gives zero gradients."""
    sources = [*call.cell.parameters(), *leaves_of((call.inputs, call.initial_state))]
    sources += [] if call.row_inputs is None else leaves_of(call.row_inputs)
    # The sum over no elements is zero with a gradient of zero, whatever the elements are.
    anchors = [leaf.flatten()[:0].sum() for leaf in sources if leaf.requires_grad]
    if not anchors:
        return values
    anchor = torch.stack([a.to(anchors[0]) for a in anchors]).sum()
    return map_leaves(lambda leaf: leaf + anchor.to(leaf) if leaf.is_floating_point() else leaf, values)
