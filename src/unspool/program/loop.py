"""The part of a program that runs step by step, and what it takes from outside."""

from __future__ import annotations

from dataclasses import dataclass

from unspool.program.evaluate import constant
from unspool.program.ir import LEAVES, Program, Value


@dataclass(frozen=True)
class Loop:
    """The loop of a hoisted program.

    Attributes
    ----------
    program : Program
        The whole program.
    outside : list of Value
        What is computed outside of the loop, in order.
    body : list of Value
        What is computed step by step, in order. Last cuts of values from outside are among them: they cost nothing
        there, and their gradients come together there.
    states : list of Value
        The state's leaves.
    tokens, rows, params : list of Value
        What the body takes from outside: one value per token, per row, for all.
    """

    program: Program
    outside: list[Value]
    body: list[Value]
    states: list[Value]
    tokens: list[Value]
    rows: list[Value]
    params: list[Value]


def extract_loop(program: Program) -> Loop:
    """Separate the loop of a hoisted program from the rest."""
    live = program.live()
    inside = {v for v in live if v.in_loop and v.op != "state"}
    ends = [*program.outputs, *program.new_states]
    wanted = set(ends) | {a for v in inside for a in v.args}
    for value in reversed(live):
        if value in wanted and value.level in ("token", "row") and value.op in ("slice", "reshape"):
            inside.add(value)
            wanted.update(value.args)
    # What a step puts out or keeps without computing it still belongs to the loop.
    body = [v for v in live if v in inside]
    taken = {a for v in body for a in v.args} | set(ends)
    boundary = [v for v in live if v in taken and v not in inside and v.op != "state"]
    needed = set(boundary)
    for value in reversed(live):
        if value in needed:
            needed.update(value.args)
    return Loop(
        program=program,
        outside=[v for v in live if v in needed and (v.op not in LEAVES or v.op == "constant")],
        body=body,
        states=program.leaves("state"),
        tokens=[v for v in boundary if v.level == "token"],
        rows=[v for v in boundary if v.level == "row"],
        params=[v for v in boundary if v.level == "param" and constant(v) is None],
    )
