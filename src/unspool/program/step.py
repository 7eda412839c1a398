"""A cell's step, ready to be run by the engine: forward and backward plans over named arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unspool.program import roles
from unspool.program.differentiate import Backward, differentiate
from unspool.program.hoist import hoist
from unspool.program.ir import Value
from unspool.program.loop import Loop, extract_loop
from unspool.program.operations import NUMBERS, VIEWS
from unspool.program.plan import Planner
from unspool.program.recording import Recording
from unspool.program.roles import Key, Role
from unspool.program.tables import Kind, Operand, Phase, Place, Storage, Tables

NARROW = 64
"""The gradient of a weight with fewer columns is summed as its transpose, which has long rows."""


class Arrays(dict[Key, int]):
    """The arrays of a plan, in the order in which they are mentioned, and how wide each is."""

    def at(self, role: Role, number: int, width: int) -> int:
        """Return the place of an array."""
        self[role, number] = width
        return list(self).index((role, number))

    def storage(self, role: Role, number: int, width: int) -> Storage:
        """Return an array as a place for values."""
        return Storage(role.place, self.at(role, number, width), width)


@dataclass
class StepPlan:
    """Tables for the engine, and what the arrays in them are for.

    Attributes
    ----------
    tables : Tables
    arrays : dict of (Role, int) to int
        What each array is for, in the order in which the engine takes them, and its features.
    gradients : list of (int, bool)
        For each array `GRAD_WEIGHT`, in order: which parameter's gradient it holds, and whether transposed.
    """

    tables: Tables
    arrays: Arrays
    gradients: list[tuple[int, bool]] = field(default_factory=list)


@dataclass
class StepProgram:
    """A cell's step: what leaves the loop, the loop, and its derivative.

    Attributes
    ----------
    recording : Recording
    loop : Loop
    backward : Backward
    """

    recording: Recording
    loop: Loop
    backward: Backward

    @staticmethod
    def of(recording: Recording) -> StepProgram:
        """Hoist and differentiate a recording."""
        loop = extract_loop(hoist(recording.program))
        return StepProgram(recording, loop, differentiate(loop))

    def is_weight(self, value: Value) -> bool:
        """Tell whether a parameter is the weight of a product of the loop."""
        return any(v.op == "product" and v.args[1] is value for v in self.loop.body)

    def is_vector(self, value: Value) -> bool:
        """Tell whether a parameter is read as a vector, be it that it is the weight of a product too."""
        return not self.is_weight(value) or any(
            value in ((*v.args[:1], *v.args[2:]) if v.op == "product" else v.args) for v in self.loop.body
        )

    @property
    def same_as_output(self) -> list[int]:
        """For each state, which output has the same values at every step, or -1."""
        outputs = self.loop.program.outputs
        return [outputs.index(s) if s in outputs else -1 for s in self.loop.program.new_states]

    def states_kept(self) -> list[int]:
        """Return the states whose values at every valid step the backward program takes."""
        program, bw = self.loop.program, self.backward
        taken = set(bw.forward.values())
        ends = zip(self.loop.states, program.new_states, strict=True)
        outputs = set(program.outputs)
        return [i for i, (old, new) in enumerate(ends) if old in taken or (new in taken and new not in outputs)]


def forward_plan(step: StepProgram, training: bool) -> StepPlan:
    """Plan a step forward."""
    loop, arrays = step.loop, Arrays()
    body = set(loop.body)
    carried = [arrays.storage(roles.STATE, i, state.width) for i, state in enumerate(loop.states)]
    given = {**_outside(step, arrays), **dict(zip(loop.states, carried, strict=True))}
    kept: dict[Value, Storage] = {}
    copies: list[tuple[Value, Storage]] = []

    def keep(value: Value, role: Role, number: int) -> None:
        storage = arrays.storage(role, number, value.width)
        if value in body and value not in kept and value.op not in VIEWS:
            kept[value] = storage
        else:
            copies.append((value, storage))

    if training:
        for i in step.states_kept():
            if step.same_as_output[i] < 0:
                keep(loop.program.new_states[i], roles.STATE_TOKENS, i)
        for i, value in enumerate(step.backward.saved):
            keep(value, roles.SAVED, i)
    planner = Planner(given, kept, apart=not training)
    ends = [value for value, _ in copies] + loop.program.new_states + loop.program.outputs
    phases = {v: Phase.BEFORE if v.level == "token" else Phase.STEP for v in loop.body}
    planner.compute(loop.body, ends, phases)
    planner.phase = Phase.STEP
    for value, storage in copies:
        planner.copy(value, storage)
    for i, value in enumerate(loop.program.outputs):
        storage = arrays.storage(roles.OUTPUT, i, value.width)
        planner.store(value, storage, Phase.BEFORE if value.level == "token" else Phase.STEP)
    planner.phase = Phase.STEP
    _carry(planner, loop.program.new_states, loop.states, carried)
    return StepPlan(planner.tables(), arrays)


@dataclass(frozen=True)
class Wanted:
    """Which gradients a backward plan computes."""

    inputs: tuple[bool, ...]
    tokens: tuple[bool, ...]
    rows: tuple[bool, ...]
    params: tuple[bool, ...]


def backward_plan(step: StepProgram, wanted: Wanted) -> StepPlan:
    """Plan a step backward."""
    loop, bw, arrays = step.loop, step.backward, Arrays()
    outside = _outside(step, arrays)
    given: dict[Value, Storage] = {}
    for leaf, value in bw.forward.items():
        if value.level == "param" and not step.is_vector(value):
            continue
        given[leaf] = outside[value] if value in outside else _forward_storage(step, value, arrays)
    coming = {"grad_output": roles.GRAD_OUTPUT, "grad_state": roles.GRAD_STATE}
    for leaf in bw.program.values:
        if leaf.op in coming:
            given[leaf] = arrays.storage(coming[leaf.op], leaf.attrs["index"], leaf.width)
    kept: dict[Value, Storage] = {}
    copies: list[tuple[Value, Storage]] = []

    def keep(value: Value, role: Role, number: int) -> None:
        storage = arrays.storage(role, number, value.width)
        if value in kept or value in given or value.op in (*VIEWS, "constant"):
            copies.append((value, storage))
        else:
            kept[value] = storage

    for i, token in enumerate(loop.tokens):
        if wanted.tokens[i] and token in bw.tokens:
            keep(bw.tokens[token], roles.GRAD_TOKEN, i)
    inputs = [(i, bw.tokens[v]) for i, v in enumerate(loop.inputs) if wanted.inputs[i] and v in bw.tokens]
    rows = [(i, bw.rows[v]) for i, v in enumerate(loop.rows) if wanted.rows[i] and v in bw.rows]
    vectors = [(i, bw.vectors[v]) for i, v in enumerate(loop.params) if wanted.params[i] and v in bw.vectors]
    pairs = _pairs(step, wanted)
    late = [*(v for _, v in (*inputs, *vectors)), *(v for _, *pair in pairs for v in pair)]
    ends = [*kept, *(v for v, _ in copies), *(v for _, v in rows), *late]
    carry = [v for v in bw.states if v is not None]
    values = _needed(bw.program.values, [*ends, *carry])
    phases = _backward_phases(values, [*carry, *(v for _, v in rows)])
    planner = Planner(given, kept)
    planner.compute(values, [*ends, *carry], phases, late)
    for value, storage in copies:
        planner.phase = phases.get(value, Phase.STEP)
        planner.copy(value, storage)
    planner.phase = Phase.STEP
    for i, value in rows:
        place = planner.whole(arrays.storage(roles.GRAD_ROW, i, value.width))
        planner.emit(Kind.BINARY, NUMBERS["add"], place, value.width, a=place, b=planner.operand(value, value.width))
    for i, value in vectors:
        slot, at = arrays.storage(roles.GRAD_VECTOR, i, value.width), planner.per_token(value)
        planner.emit(Kind.COLUMN_SUMS, 0, planner.whole(slot), value.width, a=at)
    gradients: list[tuple[int, bool]] = []
    for i, gradient, x in pairs:
        transposed = x.width < min(NARROW, gradient.width)
        if (i, transposed) not in gradients:
            gradients.append((i, transposed))
        slot = arrays.storage(roles.GRAD_WEIGHT, gradients.index((i, transposed)), gradient.width * x.width)
        first, second = (x, gradient) if transposed else (gradient, x)
        a, b = planner.per_token(first), planner.per_token(second)
        planner.emit(Kind.WEIGHT_GRADIENT, 0, planner.whole(slot), first.width, groups=second.width, a=a, b=b)
    for i, value in inputs:
        at = planner.per_token(value)
        place = planner.whole(arrays.storage(roles.GRAD_INPUT, i, value.width))
        planner.emit(Kind.STORE, 0, place, value.width, a=at)
    planner.phase = Phase.STEP
    carried = [arrays.storage(roles.GRAD_STATE, i, s.width) for i, s in enumerate(loop.states)]
    leaves = [next((g for g in bw.program.values if g.op == "grad_state" and g.attrs["index"] == i), None)
              for i in range(len(loop.states))]  # fmt: skip
    _carry(planner, bw.states, leaves, carried)
    return StepPlan(planner.tables(), arrays, gradients)


def _pairs(step: StepProgram, wanted: Wanted) -> list[tuple[int, Value, Value]]:
    """Return `(number of the parameter, gradient, input)` for each product whose weight's gradient is wanted."""
    found = []
    for i, param in enumerate(step.loop.params):
        if wanted.params[i]:
            found += [(i, gradient, x) for gradient, x in step.backward.weights.get(param, [])]
    return found


def _outside(step: StepProgram, arrays: Arrays) -> dict[Value, Storage]:
    """Return where a plan finds what the loop takes from outside; weights of products are apart."""
    return {
        value: arrays.storage(role, i, value.width)
        for role in (roles.INPUT, roles.TOKEN, roles.ROW, roles.VECTOR)
        for i, value in enumerate(role.of(step.loop))
        if role is not roles.VECTOR or step.is_vector(value)
    }


def _forward_storage(step: StepProgram, value: Value, arrays: Arrays) -> Storage:
    """Return where the backward plan finds a value of the forward program."""
    loop, program, width = step.loop, step.loop.program, value.width
    if value in loop.states:
        i = loop.states.index(value)
        first, same = arrays.at(roles.INITIAL, i, width), step.same_as_output[i]
        if same >= 0:
            return Storage(Place.PADDED_PREVIOUS, arrays.at(roles.OUTPUT, same, width), width, first)
        return Storage(Place.PREVIOUS, arrays.at(roles.STATE_TOKENS, i, width), width, first)
    if value in program.outputs:
        return arrays.storage(roles.OUTPUT, program.outputs.index(value), width)
    if value in program.new_states:
        return arrays.storage(roles.STATE_TOKENS, program.new_states.index(value), width)
    return arrays.storage(roles.SAVED, step.backward.saved.index(value), width)


def _backward_phases(values: list[Value], step_ends: list[Value]) -> dict[Value, Phase]:
    """Return which values must be computed step by step: what the steps before need, and what reads carried gradients.

    Those are gone after the step, also where they are seen through views. All other values can wait.
    """
    stack = step_ends + [v for v in values if any(_root(a).op == "grad_state" for a in v.args)]
    step: set[Value] = set()
    while stack:
        value = stack.pop()
        if value not in step:
            step.add(value)
            stack.extend(value.args)
    return {v: Phase.STEP if v in step else Phase.AFTER for v in values}


def _root(value: Value) -> Value:
    """Return what a value is a view of, or itself."""
    return _root(value.args[0]) if value.op in VIEWS else value


def _needed(values: Iterable[Value], ends: list[Value]) -> list[Value]:
    values = list(values)
    needed, stack = set(ends), list(ends)
    while stack:
        for arg in stack.pop().args:
            if arg not in needed:
                needed.add(arg)
                stack.append(arg)
    return [v for v in values if v in needed and v.op not in ("forward", "grad_output", "grad_state", "constant")]


def _carry(
    planner: Planner, values: Sequence[Value | None], leaves: Sequence[Value | None], places: list[Storage]
) -> None:
    """Put the values of the next step in place of those of this one, when nobody reads the old ones any more."""
    sources: list[Operand | None] = []
    for value, leaf in zip(values, leaves, strict=True):
        if value is None:
            sources.append(planner.scalar(0.0))
        elif value is leaf:
            sources.append(None)  # it stays
        elif _root(value) in leaves:  # it moves from one state to another: take it out of the way first
            source = planner.operand(value, value.width)
            scratch = planner._scratch(value)
            planner.emit(Kind.UNARY, 0, scratch, value.width, a=source)
            sources.append(scratch)
        else:
            sources.append(planner.operand(value, value.width))
    for source, place in zip(sources, places, strict=True):
        if source is not None:
            planner.emit(Kind.UNARY, 0, planner.whole(place), place.width, a=source)
