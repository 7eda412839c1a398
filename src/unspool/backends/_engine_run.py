"""One run of the engine under autograd: arrays in, plans run, gradients out."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from unspool._nest import builder_of
from unspool._reason import Reason
from unspool.backends._buffers import DYNAMIC, BufferPool
from unspool.backends._inference import Inference, in_memory, padded
from unspool.backends._layout import TokenLayout
from unspool.backends._loop_in_torch import run_loop
from unspool.backends._static import StaticPlan, StaticPlans
from unspool.program import roles
from unspool.program.evaluate import constant, constant_tensor, function_of
from unspool.program.roles import Key, Role
from unspool.program.step import StepPlan, StepProgram, Wanted, backward_plan, forward_plan
from unspool.program.tables import Place

_GIVEN = [role for role in roles.ROLES if role.giver == "run"]
_PADDED, _TOKEN = Place.PADDED, Place.TOKEN  # which Python 3.11 would look up in Python at every run


@dataclass(frozen=True)
class NativePlan:
    """A plan, the engine's form of it, and what it takes from a run.

    Attributes
    ----------
    plan : StepPlan
    native : Plan
        The engine's.
    weights : list of int
        For each weight the number of its parameter.
    """

    plan: StepPlan
    native: Any
    weights: list[int]


class CompiledStep:
    """A step program with its plans, each made once.

    Parameters
    ----------
    step : StepProgram
    engine : module
        The native module.

    Attributes
    ----------
    constants : dict of Value to Tensor
        What is known before any call.
    before : list of (Value, callable or None, tuple of Value)
        What is computed before the loop, of parameters and per sequence: by a function of PyTorch, or by `evaluate`.
    put_outputs, put_state : callable
        Give outputs and states their structure.
    results : list of (Role, int)
        What a forward plan gives.
    slices : dict of Role to slice
        Which tensors of a run (see `EngineRun`) a plan takes for arrays of a role.
    batches : dict of int to Reason
        Numbers of sequences with which the cell has been tried, and why its program does not hold there, or "".
    """

    def __init__(self, step: StepProgram, engine: Any) -> None:
        self.step, self.engine = step, engine
        self.batches: dict[int, Reason] = {}
        self._plans: dict[Wanted | None, NativePlan] = {}
        self.static_plans = StaticPlans(engine)
        loop, recording = step.loop, step.recording
        self.put_outputs, self.put_state = builder_of(recording.output_spec), builder_of(recording.state_spec)
        self.leaves = {op: loop.program.leaves(op) for op in ("param", "input", "row")}
        numbers = {v: constant(v) for v in loop.outside if v.level != "token"}
        self.constants = {v: constant_tensor(number) for v, number in numbers.items() if number is not None}
        self.before = [(v, function_of(v), v.args) for v, number in numbers.items() if number is None]
        self.taken = (*loop.tokens, *loop.rows)
        self.results = [(role, i) for role in (roles.OUTPUT, roles.STATE) for i in range(len(role.of(loop)))]
        ends = [*accumulate((len(role.of(loop)) for role in _GIVEN), initial=0)]
        self.slices = {role: slice(*bounds) for role, bounds in zip(_GIVEN, pairwise(ends), strict=True)}

    @cached_property
    def inference(self) -> Inference:
        """How the step is run without gradients."""
        return Inference(self.step, self.engine, self.before)

    def again(self) -> CompiledStep:
        """Return the same for one more cell that computes the same: its plans, and memory of its own."""
        other = copy(self)
        other.batches = {}
        other.static_plans = StaticPlans(self.engine)
        return other

    def group(self, role: Role, items: Any) -> Any:
        """Return those of a run's tensors, or of what belongs to them, that a role's arrays are taken from."""
        return items[self.slices[role]]

    def plan(self, wanted: Wanted | None) -> NativePlan:
        """Return a plan of training: backward for what is wanted, or forward."""
        if wanted not in self._plans:
            plan = forward_plan(self.step, training=True) if wanted is None else backward_plan(self.step, wanted)
            tables, params, arrays = plan.tables, self.step.loop.params, len(plan.arrays)
            native = self.engine.make_plan(
                tables.storages, tables.instructions, tables.constants, tables.indices,
                list(range(arrays)), [(arrays + i, not w[1], 0, -1) for i, w in enumerate(tables.weights)],
                wanted is not None,
            )  # fmt: skip
            forward = self.step.backward.forward  # a backward plan names weights by leaves that stand for them
            weights = [params.index(forward.get(v, v)) for v, _ in tables.weights]
            self._plans[wanted] = NativePlan(plan, native, weights)
        return self._plans[wanted]


@dataclass(frozen=True)
class Request:
    """What one run is to give."""

    compiled: CompiledStep
    layout: TokenLayout
    dtype: torch.dtype
    static: StaticPlan | None

    @property
    def buffers(self) -> BufferPool:
        """Where the memory comes from that is kept for the backward pass."""
        return DYNAMIC if self.static is None else self.static.buffers

    def run(self, wanted: Wanted | None, tensors: Any, known: dict[Key, Tensor]) -> dict[Key, Tensor]:
        """Run a plan.

        Parameters
        ----------
        wanted : Wanted or None
            Which plan: see `CompiledStep.plan`.
        tensors : sequence of Tensor
            What the run is given.
        known : dict of (Role, int) to Tensor
            Arrays that are neither given nor new.

        Returns
        -------
        dict of (Role, int) to Tensor
            The plan's arrays.
        """
        compiled, layout = self.compiled, self.layout
        plan = compiled.plan(wanted)
        arrays = {}
        for key, width in plan.plan.arrays.items():
            arrays[key] = known[key] if key in known else self._array(*key, width, tensors)
        params = compiled.group(roles.VECTOR, tensors)
        given = [*arrays.values(), *(params[number] for number in plan.weights)]
        run = compiled.engine.run_f64 if self.dtype == torch.float64 else compiled.engine.run_f32
        with nullcontext() if self.static is None else self.static.workspace(wanted) as workspace:
            run(plan.native, layout.engine, [in_memory(t, self.dtype) for t in given], layout.threads, workspace)
        return arrays

    def _array(self, role: Role, number: int, width: int, tensors: Any) -> Tensor:
        """Return one of a run's tensors, or memory for the engine to fill."""
        compiled, layout = self.compiled, self.layout
        if role in compiled.slices:
            return tensors[compiled.slices[role].start + number]
        if role.place is _PADDED:
            return padded(layout, role.of(compiled.step.loop)[number].shape, self.dtype, self.static)
        if role.place is _TOKEN:
            return self.buffers.empty((layout.tokens, width), self.dtype)
        summed = {
            roles.GRAD_ROW: layout.batch,
            roles.GRAD_VECTOR: max(layout.blocks, layout.threads),
            roles.GRAD_WEIGHT: layout.blocks,
        }
        return self.buffers.zeros((summed[role], width), self.dtype)


class EngineRun(torch.autograd.Function):
    """(inputs, per-step values, per-sequence values, initial states, parameters) -> (outputs, final states)."""

    @staticmethod
    def forward(ctx: Any, request: Request, *tensors: Tensor) -> tuple[Tensor, ...]:
        compiled = request.compiled
        states: dict[Key, Tensor] = {
            (roles.STATE, i): initial.clone(memory_format=torch.contiguous_format)
            for i, initial in enumerate(compiled.group(roles.INITIAL, tensors))
        }
        arrays = request.run(None, tensors, states)
        ctx.request = request
        ctx.set_materialize_grads(False)
        ctx.kept = [key for key in arrays if key[0].giver == "forward"]
        ctx.save_for_backward(*tensors, *map(arrays.__getitem__, ctx.kept))
        return tuple(map(arrays.__getitem__, compiled.results))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        request: Request = ctx.request
        saved, needs = ctx.saved_tensors, ctx.needs_input_grad[1:]  # asked for once: checkpoints refuse a second time
        tensors, made = saved[: len(needs)], saved[len(needs) :]
        if torch.is_grad_enabled():  # create_graph=True: somebody wants derivatives of these gradients
            return (None, *differentiable_gradients(request, tensors, grads, needs))
        known = dict(zip(ctx.kept, made, strict=True))
        return (None, *_gradients(request, tensors, known, grads, needs))


def differentiable_gradients(request: Request, tensors: Any, grads: Any, needs: Any) -> list[Tensor | None]:
    """Compute the gradients once more in plain PyTorch, so that they can be differentiated themselves."""
    compiled = request.compiled
    given = {role: compiled.group(role, tensors) for role in compiled.slices}
    with torch.enable_grad():
        results = run_loop(compiled.step.loop, request.layout, given)
        ends = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad]
        wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in ends], wanted, [g for _, g in ends], create_graph=True, allow_unused=True
            )
        )
    return [next(found) if need else None for need in needs]


def _gradients(request: Request, tensors: Any, known: dict[Key, Tensor], grads: Any, needs: Any) -> list[Tensor | None]:
    """Run the backward plan and collect the gradients of all inputs."""
    compiled, layout = request.compiled, request.layout
    loop, batch = compiled.step.loop, layout.batch
    taken = roles.INPUT, roles.TOKEN, roles.ROW, roles.VECTOR
    wanted = Wanted(*(tuple(compiled.group(role, needs)) for role in taken))
    for (role, i), g in zip(compiled.results, grads, strict=True):
        value = role.of(loop)[i]
        shape, width = value.shape, value.width
        if role is roles.STATE and g is None:
            g = request.buffers.zeros((batch, width), request.dtype)
        elif role is roles.STATE:
            # The engine writes here: whatever the strides of what comes in, the copy must have features side by side.
            g = g.reshape(batch, width).clone(memory_format=torch.contiguous_format)
        elif g is None:
            g = torch.zeros((1, 1, *shape), dtype=request.dtype).expand(*layout.shape, *shape)
        known[roles.GRAD_STATE if role is roles.STATE else roles.GRAD_OUTPUT, i] = g
    arrays = request.run(wanted, tensors, known)

    def found(role: Role, *shape: int) -> list[Tensor | None]:
        """Return the gradients of a role's arrays, `[*shape, ...]`; None where none was wanted."""
        of = enumerate(role.of(loop))
        return [arrays[role, i].view(*shape, *v.shape) if (role, i) in arrays else None for i, v in of]

    param_grads: list[Tensor | None] = [None] * len(loop.params)
    for i, value in enumerate(loop.params):
        if (roles.GRAD_VECTOR, i) in arrays:
            sums = arrays[roles.GRAD_VECTOR, i]
            param_grads[i] = (sums if len(sums) == 1 else sums.sum(0)).view(value.shape)
    for number, (i, transposed) in enumerate(compiled.plan(wanted).plan.gradients):
        rows, columns = loop.params[i].shape
        sums = arrays[roles.GRAD_WEIGHT, number]
        total = sums.view(-1) if layout.blocks == 1 else sums.sum(0)
        part = total.view(columns, rows).t() if transposed else total.view(rows, columns)
        before = param_grads[i]
        param_grads[i] = part if before is None else before + part
    return [
        *found(roles.GRAD_INPUT, *layout.shape),
        *found(roles.GRAD_TOKEN, layout.tokens),
        *found(roles.GRAD_ROW, batch),
        *found(roles.GRAD_STATE, batch),
        *param_grads,
    ]
