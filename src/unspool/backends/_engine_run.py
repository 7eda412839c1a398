"""One run of the engine under autograd: arrays in, plans run, gradients out."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[reportPrivateImportUsage]

from unspool.backends._buffers import DYNAMIC, BufferPool
from unspool.backends._layout import TokenLayout
from unspool.backends._loop_in_torch import run_loop
from unspool.backends._static import StaticPlan, StaticPlans
from unspool.program.step import StepPlan, StepProgram, Wanted, backward_plan, forward_plan

PADDED = ("input", "output", "grad_input", "grad_output")
"""Roles of arrays `[T, B, ...]`, or `[N, 1, ...]` where the schedule has ragged ones."""


class CompiledStep:
    """A step program with its plans, each made once.

    Parameters
    ----------
    step : StepProgram
    engine : module
        The native module.

    Attributes
    ----------
    batches : dict of int to str
        Numbers of rows with which the cell has been tried, and why its program does not hold there, or "".
    """

    def __init__(self, step: StepProgram, engine: Any) -> None:
        self.step, self.engine = step, engine
        self.batches: dict[int, str] = {}
        self._plans: dict[object, tuple[StepPlan, Any]] = {}
        self.static_plans = StaticPlans(engine)

    def again(self) -> CompiledStep:
        """Return the same for one more cell that computes the same: its plans, and memory of its own."""
        other = copy(self)
        other.batches = {}
        other.static_plans = StaticPlans(self.engine)
        return other

    def plan(self, key: object) -> tuple[StepPlan, Any]:
        """Return a plan and the engine's form of it: forward for `(training, all_states)`, backward for `Wanted`."""
        if key not in self._plans:
            backward = isinstance(key, Wanted)
            plan = backward_plan(self.step, key) if isinstance(key, Wanted) else forward_plan(self.step, *key)  # type: ignore[misc]
            tables = plan.tables
            native = self.engine.make_plan(
                tables.storages, tables.instructions, tables.constants, tables.indices, plan.carried, plan.reset,
                len(plan.arrays), len(tables.weights), backward,
            )  # fmt: skip
            self._plans[key] = plan, native
        return self._plans[key]

    def execute(self, key: object, request: Request, arrays: dict[tuple[str, int], Tensor], params: Any) -> None:
        """Run a plan over arrays, by role, and weights."""
        plan, native = self.plan(key)
        forward = self.step.backward.forward  # a backward plan names weights by leaves that stand for them
        taken = [(_in_memory(params[forward.get(v, v)]), transposed) for v, transposed in plan.tables.weights]
        weights = [weight if transposed else weight.t() for weight, transposed in taken]
        run = self.engine.run_f64 if request.dtype == torch.float64 else self.engine.run_f32
        inputs = [(_padded if k[0] in PADDED else _matrix)(arrays[k]) for k in plan.arrays]
        layout = request.layout
        with request.static.workspace(key) if request.static else nullcontext() as workspace:
            # Capsules, because asking each tensor for its own (`Tensor.__dlpack__`) takes longer than a short run.
            capsules = [to_dlpack(array) for array in inputs], [to_dlpack(weight) for weight in weights]
            run(native, layout.engine, *capsules, layout.threads, workspace)

    @cached_property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Numbers of inputs, tokens, rows, states and parameters that the loop takes."""
        loop = self.step.loop
        return len(loop.inputs), len(loop.tokens), len(loop.rows), len(loop.states), len(loop.params)


def _in_memory(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds its values: PyTorch negates some only when they are read."""
    return tensor.detach().resolve_neg()


def _matrix(tensor: Tensor) -> Tensor:
    """Return `[rows, features]` with features side by side: a view where they lie so, as all that is written must."""
    tensor = _in_memory(tensor)
    tensor = tensor.unsqueeze(1) if tensor.dim() == 1 else tensor.flatten(1)
    side_by_side = tensor.shape[1] <= 1 or tensor.stride(1) == 1
    apart = tensor.shape[0] <= 1 or tensor.stride(0) >= tensor.shape[1]  # a mask shared over the batch has stride 0
    return tensor if side_by_side and apart else tensor.contiguous()


def _padded(tensor: Tensor) -> Tensor:
    """Return `[T, B, features]` with features side by side: a view where they lie so, as all that is written must."""
    tensor = _in_memory(tensor)
    tensor = tensor.unsqueeze(2) if tensor.dim() == 2 else tensor.flatten(2)
    return tensor if tensor.shape[2] <= 1 or tensor.stride(2) == 1 else tensor.contiguous()


@dataclass(frozen=True)
class Request:
    """What one run is to give."""

    compiled: CompiledStep
    layout: TokenLayout
    training: bool
    all_states: bool
    dtype: torch.dtype
    static: StaticPlan | None

    @property
    def buffers(self) -> BufferPool:
        """Where the memory comes from that is kept for the backward pass."""
        return DYNAMIC if self.static is None else self.static.buffers

    def padded(self, shape: tuple[int, ...]) -> Tensor:
        """Return an array of inputs' form for the engine to fill where there are tokens; elsewhere it is zero."""
        whole = *self.layout.shape, *shape
        if self.static is None:
            return (torch.zeros if self.layout.has_padding else torch.empty)(whole, dtype=self.dtype)
        return (self.buffers.zeros if self.layout.has_padding else self.buffers.empty)(whole, self.dtype)


class EngineRun(torch.autograd.Function):
    """(inputs, tokens, rows, initial and reset states, parameters) -> (outputs, final states, states per token)."""

    @staticmethod
    def forward(ctx: Any, request: Request, *tensors: Tensor) -> tuple[Tensor, ...]:
        compiled, layout = request.compiled, request.layout
        loop = compiled.step.loop
        given = _split(compiled, tensors)
        arrays = _outside_arrays(given, request.dtype)
        key = (request.training, request.all_states)
        plan, _ = compiled.plan(key)
        # What is returned is made in its own shape, and the engine gets views of it: users may write into it.
        finals = [state.clone(memory_format=torch.contiguous_format) for state in given["initial"]]
        for i, state in enumerate(finals):
            arrays["state", i], arrays["fresh", i] = state, given["fresh"][i]
        for i, value in enumerate(loop.program.outputs):
            arrays["output", i] = request.padded(value.shape)
        for role, number in plan.arrays:
            if role in ("state_tokens", "saved"):
                shape = loop.states[number].shape if role == "state_tokens" else (plan.widths[role, number],)
                arrays[role, number] = request.buffers.empty((layout.tokens, *shape), request.dtype)
        params = dict(zip(loop.params, given["param"], strict=True))
        compiled.execute(key, request, arrays, params)
        outputs = [arrays["output", i] for i in range(len(loop.program.outputs))]
        per_token = [arrays["state_tokens", i] for i in range(len(finals))] if request.all_states else []
        if request.training:
            ctx.request = request
            ctx.roles = [k for k in arrays if k[0] in ("output", "state_tokens", "saved")]
            ctx.save_for_backward(*tensors, *(arrays[k] for k in ctx.roles))
            ctx.inputs = len(tensors)
            ctx.results = (len(outputs), len(finals), len(per_token))
        return (*outputs, *finals, *per_token)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        request: Request = ctx.request
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint refuses a second time
        tensors, made = saved[: ctx.inputs], saved[ctx.inputs :]
        if torch.is_grad_enabled():  # create_graph=True: somebody wants derivatives of these gradients
            return (None, *differentiable_gradients(request, tensors, grads, ctx.needs_input_grad[1:]))
        return (
            None,
            *_gradients(
                request, tensors, dict(zip(ctx.roles, made, strict=True)), ctx.results, grads, ctx.needs_input_grad[1:]
            ),
        )


def differentiable_gradients(request: Request, tensors: Any, grads: Any, needs: Any) -> list[Tensor | None]:
    """Compute the gradients once more in plain PyTorch, so that they can be differentiated themselves."""
    given = _split(request.compiled, tensors)
    with torch.enable_grad():
        results = run_loop(request.compiled.step.loop, request.layout, given, request.all_states)
        ends = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad]
        wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in ends], wanted, [g for _, g in ends], create_graph=True, allow_unused=True
            )
        )
    return [next(found) if need else None for need in needs]


def _gradients(
    request: Request,
    tensors: Any,
    made: dict[tuple[str, int], Tensor],
    results: tuple[int, int, int],
    grads: Any,
    needs: Any,
) -> list[Tensor | None]:
    """Run the backward plan and collect the gradients of all inputs."""
    compiled, layout = request.compiled, request.layout
    batch = layout.batch
    loop = compiled.step.loop
    given, wants = _split(compiled, tensors), _split(compiled, needs)
    n_out, n_final, _ = results
    grad_out, grad_final, grad_tokens = grads[:n_out], grads[n_out : n_out + n_final], grads[n_out + n_final :]
    wanted = Wanted(
        tuple(wants["input"]), tuple(wants["token"]), tuple(wants["row"]), tuple(wants["param"]),
        tuple(bool(grad_tokens) and grad_tokens[i] is not None for i in range(n_final)),
    )  # fmt: skip
    plan, _ = compiled.plan(wanted)

    def zeros(rows: int, width: int) -> Tensor:
        return request.buffers.zeros((rows, width), request.dtype)

    arrays = {**_outside_arrays(given, request.dtype), **made}
    for i, state in enumerate(given["initial"]):
        arrays["initial", i], arrays["fresh", i] = state, given["fresh"][i]
        width = loop.states[i].width
        g = grad_final[i]
        # The engine writes here, so whatever the strides of what comes in, the copy must be what `_matrix` can view.
        arrays["grad_state", i] = (
            zeros(batch, width) if g is None else g.reshape(batch, width).clone(memory_format=torch.contiguous_format)
        )
        arrays["grad_fresh", i] = zeros(batch, width)
        if wanted.states_per_token[i]:
            arrays["grad_state_tokens", i] = grad_tokens[i].reshape(layout.tokens, width)
    for i, value in enumerate(loop.program.outputs):
        g = grad_out[i]
        if g is None:
            g = torch.zeros((1, 1, *value.shape), dtype=request.dtype)
            g = g.expand(*layout.shape, *value.shape)
        arrays["grad_output", i] = g
    for role, number in plan.arrays:
        width = plan.widths.get((role, number), 0)
        if role == "grad_input":
            arrays[role, number] = request.padded(loop.inputs[number].shape)
        elif role == "grad_token":
            arrays[role, number] = request.buffers.empty((layout.tokens, width), request.dtype)
        elif role == "grad_row":
            arrays[role, number] = zeros(batch, width)
        elif role == "grad_vector":
            arrays[role, number] = zeros(max(layout.blocks, layout.threads), width)
        elif role == "grad_weight":
            arrays[role, number] = zeros(layout.blocks, width)
    params = dict(zip(loop.params, given["param"], strict=True))
    compiled.execute(wanted, request, arrays, params)

    input_grads = [arrays.get(("grad_input", i)) for i in range(len(loop.inputs))]
    token_grads = [
        arrays["grad_token", i].view(layout.tokens, *v.shape) if ("grad_token", i) in arrays else None
        for i, v in enumerate(loop.tokens)
    ]
    row_grads = [arrays["grad_row", i].view(batch, *v.shape) if ("grad_row", i) in arrays else None
                 for i, v in enumerate(loop.rows)]  # fmt: skip
    initial = [arrays["grad_state", i].view(batch, *v.shape) for i, v in enumerate(loop.states)]
    fresh = [arrays["grad_fresh", i].view(batch, *v.shape) for i, v in enumerate(loop.states)]
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
    return [*input_grads, *token_grads, *row_grads, *initial, *fresh, *param_grads]


def _split(compiled: CompiledStep, items: Any) -> dict[str, Any]:
    """Sort the inputs of a run by what they are for."""
    inputs, tokens, rows, states, params = compiled.counts
    sizes = {"input": inputs, "token": tokens, "row": rows, "initial": states, "fresh": states, "param": params}
    found, start = {}, 0
    for role, size in sizes.items():
        found[role] = items[start : start + size]
        start += size
    return found


def _outside_arrays(given: dict[str, Any], dtype: torch.dtype) -> dict[tuple[str, int], Tensor]:
    arrays = {("input", i): t for i, t in enumerate(given["input"])}
    arrays |= {("token", i): t for i, t in enumerate(given["token"])}
    arrays |= {("row", i): t for i, t in enumerate(given["row"])}
    # Masks among the parameters are booleans; the engine has 0 and 1.
    arrays |= {("vector", i): t.reshape(1, -1).to(dtype) for i, t in enumerate(given["param"])}
    return arrays
