"""What is computed in the engine's loop, and what stays outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from unspool.program.evaluate import constant
from unspool.program.ir import LEAVES, Program, Value
from unspool.program.operations import OPERATIONS

NATIVE = {name for name, operation in OPERATIONS.items() if operation.kind not in ("weights", "call")}
"""Operations that the engine has."""


@dataclass
class Loop:
    """The part of a hoisted program that the engine runs, and what it takes from the rest.

    Attributes
    ----------
    program : Program
        The whole.
    outside : list of Value
        What PyTorch computes beforehand: of parameters alone, per sequence, and per valid step what the engine cannot.
    body : list of Value
        What the engine computes, in order: per valid step, a chunk of steps at once, and of the state, step by step.
    states : list of Value
        The state's leaves.
    inputs, tokens, rows, params : list of Value
        What the body takes: leaves of the step's input; values from outside per valid step, per sequence, and for all.
    """

    program: Program
    outside: list[Value]
    body: list[Value]
    states: list[Value]
    inputs: list[Value]
    tokens: list[Value]
    rows: list[Value]
    params: list[Value]


def extract_loop(program: Program) -> Loop:
    """Separate the loop of a hoisted program from the rest."""
    live = program.live()
    left_out = _left_out(live)
    inside = {v for v in live if v.level in ("token", "state") and v.op not in LEAVES and v not in left_out}
    ends = {*program.outputs, *program.new_states}
    # Last cuts of values per sequence cost nothing in the loop, and their gradients come together there.
    wanted = ends | {a for v in inside for a in v.args}
    for value in reversed(live):
        if value in wanted and value.level == "row" and value.op in ("slice", "reshape"):
            inside.add(value)
            wanted.update(value.args)
    body = [v for v in live if v in inside]
    taken = {a for v in body for a in v.args} | ends
    boundary = [v for v in live if v in taken and v not in inside and v.op != "state"]
    needed = set(boundary)
    for value in reversed(live):
        if value in needed:
            needed.update(value.args)
    per_token = [v for v in boundary if v.level == "token"]
    return Loop(
        program=program,
        outside=[v for v in live if v in needed and (v.op not in LEAVES or v.op == "constant")],
        body=body,
        states=program.leaves("state"),
        inputs=[v for v in per_token if v.op == "input" and "dtype" not in v.attrs],
        tokens=[v for v in per_token if v.op != "input" or "dtype" in v.attrs],
        rows=[v for v in boundary if v.level == "row"],
        params=[v for v in boundary if v.level == "param" and constant(v) is None],
    )


def _left_out(live: list[Value]) -> set[Value]:
    """Return the values per valid step that PyTorch computes: what it must, what that takes, what is not a float."""
    left_out: set[Value] = set()
    for value in live:
        if value.level != "token" or value.op in LEAVES:
            continue
        discrete = any("dtype" in a.attrs or (a in left_out and a.op != "call") for a in value.args)
        if value.op not in NATIVE or discrete:
            left_out.add(value)
    for value in reversed(live):
        if value in left_out:
            left_out.update(a for a in value.args if a.level == "token" and a.op not in LEAVES)
    return left_out
