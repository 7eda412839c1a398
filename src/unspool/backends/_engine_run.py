"""One run of the engine under autograd: arrays in, plans run, gradients out."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[reportPrivateImportUsage]

from unspool._reason import Reason
from unspool.backends._buffers import DYNAMIC, BufferPool
from unspool.backends._layout import TokenLayout
from unspool.backends._loop_in_torch import run_loop
from unspool.backends._static import StaticPlan, StaticPlans
from unspool.program.evaluate import constant, constant_tensor, function_of
from unspool.program.ir import Value
from unspool.program.step import Key, StepPlan, StepProgram, Wanted, backward_plan, forward_plan

PADDED = ("input", "output", "grad_input", "grad_output")
"""Roles of arrays `[T, B, ...]`, or `[N, 1, ...]` where the schedule has ragged ones."""


@dataclass(frozen=True)
class NativePlan:
    """A plan, the engine's form of it, and what it takes from a run.

    Attributes
    ----------
    plan : StepPlan
    native : Plan
        The engine's.
    weights : list of (int, bool)
        For each weight the number of its parameter, and whether it is taken transposed.
    padded : list of bool
        For each array whether it has the form of the inputs.
    """

    plan: StepPlan
    native: Any
    weights: list[tuple[int, bool]]
    padded: list[bool]


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
    starts : dict of str to int
        Where the tensors of a run (see `EngineRun`) begin that a plan takes for arrays of a role.
    batches : dict of int to Reason
        Numbers of rows with which the cell has been tried, and why its program does not hold there, or "".
    """

    def __init__(self, step: StepProgram, engine: Any) -> None:
        self.step, self.engine = step, engine
        self.batches: dict[int, Reason] = {}
        self._plans: dict[object, NativePlan] = {}
        self.static_plans = StaticPlans(engine)
        loop, program = step.loop, step.loop.program
        self.leaves = {op: program.leaves(op) for op in ("param", "input", "row")}
        numbers = {v: constant(v) for v in loop.outside if v.level != "token"}
        self.constants = {v: constant_tensor(number) for v, number in numbers.items() if number is not None}
        self.before = [(v, function_of(v), v.args) for v, number in numbers.items() if number is None]
        self.taken = (*loop.tokens, *loop.rows)
        groups = {"input": loop.inputs, "token": loop.tokens, "row": loop.rows, "initial": loop.states}
        self.starts, self.counts = {}, {}
        self.size = 0
        for role, values in {**groups, "vector": loop.params}.items():
            self.starts[role], self.counts[role] = self.size, len(values)
            self.size += len(values)

    def again(self) -> CompiledStep:
        """Return the same for one more cell that computes the same: its plans, and memory of its own."""
        other = copy(self)
        other.batches = {}
        other.static_plans = StaticPlans(self.engine)
        return other

    def group(self, role: str, items: Any) -> Any:
        """Return those of a run's tensors, or of what belongs to them, that a role's arrays are taken from."""
        start = self.starts[role]
        return items[start : start + self.counts[role]]

    def plan(self, key: bool | Wanted) -> NativePlan:
        """Return a plan: forward for whether it is trained, backward for what is wanted."""
        if key not in self._plans:
            backward = isinstance(key, Wanted)
            plan = backward_plan(self.step, key) if isinstance(key, Wanted) else forward_plan(self.step, key)
            tables, params = plan.tables, self.step.loop.params
            native = self.engine.make_plan(
                tables.storages, tables.instructions, tables.constants, tables.indices,
                len(plan.arrays), len(tables.weights), backward,
            )  # fmt: skip
            forward = self.step.backward.forward  # a backward plan names weights by leaves that stand for them
            weights = [(params.index(forward.get(v, v)), transposed) for v, transposed in tables.weights]
            self._plans[key] = NativePlan(plan, native, weights, [role in PADDED for role, _ in plan.arrays])
        return self._plans[key]

    def execute(self, key: bool | Wanted, request: Request, arrays: list[Tensor], tensors: Any) -> None:
        """Run a plan over arrays in its order, with the weights among a run's tensors."""
        plan, start, layout = self.plan(key), self.starts["vector"], request.layout
        run = self.engine.run_f64 if request.dtype == torch.float64 else self.engine.run_f32
        inputs, weights = [], []
        for array, padded in zip(arrays, plan.padded, strict=True):
            inputs.append(_padded(array) if padded else _matrix(array))
        for number, transposed in plan.weights:
            weight = _in_memory(tensors[start + number])
            weights.append(weight if transposed else weight.t())
        with nullcontext() if request.static is None else request.static.workspace(key) as workspace:
            # Capsules, because asking each tensor for its own (`Tensor.__dlpack__`) takes longer than a short run.
            run(
                plan.native, layout.engine, list(map(to_dlpack, inputs)), list(map(to_dlpack, weights)),
                layout.threads, workspace,
            )  # fmt: skip


def _in_memory(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds its values: PyTorch negates some only when they are read."""
    return tensor.detach().resolve_neg()


def _matrix(tensor: Tensor) -> Tensor:
    """Return `[rows, features]` with features side by side: a view where they lie so, as all that is written must."""
    tensor = tensor.detach().resolve_neg()
    tensor = tensor.unsqueeze(1) if tensor.dim() == 1 else tensor.flatten(1)
    side_by_side = tensor.shape[1] <= 1 or tensor.stride(1) == 1
    apart = tensor.shape[0] <= 1 or tensor.stride(0) >= tensor.shape[1]  # a mask shared over the batch has stride 0
    return tensor if side_by_side and apart else tensor.contiguous()


def _padded(tensor: Tensor) -> Tensor:
    """Return `[T, B, features]` with features side by side: a view where they lie so, as all that is written must."""
    tensor = tensor.detach().resolve_neg()
    tensor = tensor.unsqueeze(2) if tensor.dim() == 2 else tensor.flatten(2)
    return tensor if tensor.shape[2] <= 1 or tensor.stride(2) == 1 else tensor.contiguous()


@dataclass(frozen=True)
class Request:
    """What one run is to give."""

    compiled: CompiledStep
    layout: TokenLayout
    training: bool
    dtype: torch.dtype
    static: StaticPlan | None

    @property
    def buffers(self) -> BufferPool:
        """Where the memory comes from that is kept for the backward pass."""
        return DYNAMIC if self.static is None else self.static.buffers

    def padded(self, shape: tuple[int, ...]) -> Tensor:
        """Return an array of inputs' form for the engine to fill at valid steps; elsewhere it is zero."""
        whole = *self.layout.shape, *shape
        if self.static is None:
            return (torch.zeros if self.layout.has_padding else torch.empty)(whole, dtype=self.dtype)
        return (self.buffers.zeros if self.layout.has_padding else self.buffers.empty)(whole, self.dtype)


class EngineRun(torch.autograd.Function):
    """(inputs, per-step values, per-sequence values, initial states, parameters) -> (outputs, final states)."""

    @staticmethod
    def forward(ctx: Any, request: Request, *tensors: Tensor) -> tuple[Tensor, ...]:
        compiled, layout = request.compiled, request.layout
        loop, starts = compiled.step.loop, compiled.starts
        plan = compiled.plan(request.training).plan
        arrays: list[Tensor] = []
        made: dict[Key, Tensor] = {}
        for key in plan.arrays:
            role, number = key
            if role in starts:
                array = tensors[starts[role] + number]
                array = array.reshape(1, -1).to(request.dtype) if role == "vector" else array
            # What is returned is made in its own shape, and the engine gets views of it: users may write into it.
            elif role == "state":
                array = tensors[starts["initial"] + number].clone(memory_format=torch.contiguous_format)
            elif role == "output":
                array = request.padded(loop.program.outputs[number].shape)
            else:
                shape = loop.states[number].shape if role == "state_tokens" else (plan.widths[key],)
                array = request.buffers.empty((layout.tokens, *shape), request.dtype)
            arrays.append(array)
            made[key] = array
        compiled.execute(request.training, request, arrays, tensors)
        keys = [("output", i) for i in range(len(loop.program.outputs))]
        keys += [("state", i) for i in range(len(loop.states))]
        if request.training:
            ctx.request = request
            ctx.roles = [k for k in made if k[0] in ("output", "state_tokens", "saved")]
            ctx.save_for_backward(*tensors, *(made[k] for k in ctx.roles))
        return tuple(map(made.__getitem__, keys))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        request: Request = ctx.request
        saved, size = ctx.saved_tensors, request.compiled.size  # asked for once: checkpoints refuse a second time
        tensors, needs = saved[:size], ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # create_graph=True: somebody wants derivatives of these gradients
            return (None, *differentiable_gradients(request, tensors, grads, needs))
        made = dict(zip(ctx.roles, saved[size:], strict=True))
        return (None, *_gradients(request, tensors, made, grads, needs))


def differentiable_gradients(request: Request, tensors: Any, grads: Any, needs: Any) -> list[Tensor | None]:
    """Compute the gradients once more in plain PyTorch, so that they can be differentiated themselves."""
    compiled = request.compiled
    given = {role: compiled.group(role, tensors) for role in compiled.starts}
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


def _gradients(request: Request, tensors: Any, made: dict[Key, Tensor], grads: Any, needs: Any) -> list[Tensor | None]:
    """Run the backward plan and collect the gradients of all inputs."""
    compiled, layout = request.compiled, request.layout
    loop, batch, starts = compiled.step.loop, layout.batch, compiled.starts
    wanted = Wanted(*(tuple(compiled.group(role, needs)) for role in ("input", "token", "row", "vector")))
    plan = compiled.plan(wanted).plan
    outputs = len(loop.program.outputs)

    def zeros(rows: int, width: int) -> Tensor:
        return request.buffers.zeros((rows, width), request.dtype)

    def array(role: str, number: int) -> Tensor:
        if (role, number) in made:
            return made[role, number]
        if role in starts:
            taken = tensors[starts[role] + number]
            return taken.reshape(1, -1).to(request.dtype) if role == "vector" else taken
        width = plan.widths[role, number]
        if role == "grad_state":
            g = grads[outputs + number]
            if g is None:
                return zeros(batch, width)
            # The engine writes here: whatever the strides of what comes in, the copy must be what `_matrix` can view.
            return g.reshape(batch, width).clone(memory_format=torch.contiguous_format)
        if role == "grad_output":
            g, shape = grads[number], loop.program.outputs[number].shape
            if g is None:
                return torch.zeros((1, 1, *shape), dtype=request.dtype).expand(*layout.shape, *shape)
            return g
        if role == "grad_input":
            return request.padded(loop.inputs[number].shape)
        if role == "grad_token":
            return request.buffers.empty((layout.tokens, width), request.dtype)
        sums = {"grad_row": batch, "grad_vector": max(layout.blocks, layout.threads), "grad_weight": layout.blocks}
        return zeros(sums[role], width)

    arrays = {key: array(*key) for key in plan.arrays}
    compiled.execute(wanted, request, list(arrays.values()), tensors)

    def found(role: str, values: list[Value], *shape: int) -> list[Tensor | None]:
        """Return the gradients of a role's arrays, `[*shape, ...]`; None where none was wanted."""
        of = [arrays.get((role, i)) for i in range(len(values))]
        return [None if g is None else g.view(*shape, *v.shape) for g, v in zip(of, values, strict=True)]

    param_grads: list[Tensor | None] = [None] * len(loop.params)
    for i, value in enumerate(loop.params):
        if ("grad_vector", i) in arrays:
            param_grads[i] = arrays["grad_vector", i].sum(0).view(value.shape)
    for number, (i, transposed) in enumerate(plan.gradients):
        rows, columns = loop.params[i].shape
        sums = arrays["grad_weight", number]
        total = sums.view(-1) if layout.blocks == 1 else sums.sum(0)
        part = total.view(columns, rows).t() if transposed else total.view(rows, columns)
        before = param_grads[i]
        param_grads[i] = part if before is None else before + part
    return [
        *(arrays.get(("grad_input", i)) for i in range(len(loop.inputs))),
        *found("grad_token", loop.tokens, layout.tokens),
        *found("grad_row", loop.rows, batch),
        *found("grad_state", loop.states, batch),
        *param_grads,
    ]
