"""The native backend: a cell's step, read as a program, run by the engine over all real tokens of a batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from unspool._nest import leaves_of, map_leaves, unflatten
from unspool.backends._engine_run import CompiledStep, EngineRun, Request
from unspool.backends._layout import layout_of
from unspool.backends._probe import probe
from unspool.backends._static import StaticPlan
from unspool.backends.base import Call, Result
from unspool.program.evaluate import evaluate
from unspool.program.fingerprint import fingerprint, has_hooks
from unspool.program.ir import Value
from unspool.program.step import StepProgram
from unspool.program.trace import TraceError, trace

INTERFACE = 3
"""The form of the tables that this version writes; the engine says which one it reads."""


def load_engine() -> tuple[Any, str]:
    """Return the native module, or None and why it cannot be used; `info()` and `explain()` then say so."""
    try:
        module: Any = import_module("unspool._engine")
    except ModuleNotFoundError as error:
        if error.name != "unspool._engine":
            raise
        found = "there is no engine: unspool was installed without it, or for another Python"
        return None, f"{found}; to have it, reinstall unspool where there is a C++20 compiler"
    except ImportError as error:
        return None, f"the engine cannot be loaded: {error}; reinstall unspool on this machine"
    interface = getattr(module, "interface", None)
    if interface != INTERFACE:
        found = f"the engine has interface {interface}, and this version of unspool needs {INTERFACE}"
        return None, f"{found}; reinstall unspool, so that both are of one version"
    module.active_isa()  # raises where UNSPOOL_ISA names an instruction set that cannot run here
    return module, ""


engine, missing = load_engine()

KEPT = 32
"""Programs of one cell that are kept. A cell whose attributes change from call to call is read anew each time."""

EXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a step may raise on sample rows: a reason; the reference backend, which runs the cell, tells more."""


class NativeBackend:
    """Runs step programs on the CPU in float32 and float64."""

    name = "native"

    def __init__(self) -> None:
        # Programs live as long as the cells that they were read from.
        self._programs: WeakKeyDictionary[nn.Module, dict[Any, CompiledStep | str]] = WeakKeyDictionary()

    def reasons(self, call: Call) -> list[str]:
        """Return why the engine cannot run a call."""
        if engine is None:
            return [missing]
        states = leaves_of(call.initial_state)
        tensors = [*leaves_of(call.inputs), *states, *call.cell.parameters(), *call.cell.buffers()]
        tensors += [] if call.row_inputs is None else leaves_of(call.row_inputs)
        found = []
        away = next((t.device for t in tensors if not t.is_cpu), None)
        if away is not None:
            found.append(f"tensors are on {away}, not on the CPU")
        strange = next((t for t in tensors if not _is_plain(t)), None)
        if strange is not None:
            kind = type(strange).__name__ if strange.layout == torch.strided else f"a {strange.layout} tensor"
            found.append(f"a tensor is of a kind that the engine does not read: {kind}")
        if not states or states[0].dtype not in (torch.float32, torch.float64):
            found.append(f"the state is {states[0].dtype if states else 'empty'}; the engine has float32 and float64")
        elif any(t.dtype != states[0].dtype for t in (*states, *(t for t in tensors if t.is_floating_point()))):
            found.append("inputs, state and parameters have several dtypes")
        if torch.is_autocast_enabled("cpu"):
            found.append("torch.autocast is on")
        if is_transformed():
            found.append("a torch.func transform, forward-mode differentiation or a function mode is active")
        if torch.jit.is_tracing():  # type: ignore[reportPrivateImportUsage]
            found.append("torch.jit.trace is recording, which sees no operation of the engine")
        if has_hooks(call.cell):
            found.append("the cell has hooks, which expect to be called at every step")
        if found:
            return found
        compiled = self.compiled(call)
        return [compiled] if isinstance(compiled, str) else []

    def compiled(self, call: Call) -> CompiledStep | str:
        """Return the cell's program, read and checked at its first use, or why there is none."""
        if "native" not in call.notes:
            call.notes["native"] = self._compiled(call)
        return call.notes["native"]

    def _compiled(self, call: Call) -> CompiledStep | str:
        owner = vars(call.cell).get("bound_from", call.cell)
        programs = self._programs.setdefault(owner, {})
        forms = tuple((tuple(t.shape[2:]), t.dtype) for t in leaves_of(call.inputs))
        states = tuple((tuple(t.shape[1:]), t.dtype) for t in leaves_of(call.initial_state))
        key = (fingerprint(call.cell), forms, states, call.row_inputs is None)
        found = programs.get(key)
        if found is None:
            # Not under inference mode, whose tensors have no gradients; nor on another device than the tensors are on.
            with torch.inference_mode(False), cpu_by_default():
                found = self._read(call)
                if isinstance(found, CompiledStep):
                    try:
                        found = probe(self, replace(call, notes={"native": found})) or found
                    except EXPECTED as error:
                        found = f"the program that was read from the cell cannot be run: {error!r}"
            if fingerprint(call.cell) != key[0]:
                found = "the step changes attributes of the cell"
            if len(programs) >= KEPT:
                programs.pop(next(iter(list(programs))), None)  # the oldest
            programs[key] = found  # which other threads see only now that it has been checked
        return found

    def _static_plan(self, call: Call, compiled: CompiledStep) -> StaticPlan | None:
        """Return what is kept for a static call, made at the first one of these many steps."""
        if not call.static:
            return None
        return compiled.static_plans.at(call.schedule.steps)

    def _read(self, call: Call) -> CompiledStep | str:
        inputs = map_leaves(lambda leaf: leaf.new_zeros((1, *leaf.shape[2:])), call.inputs)
        try:
            traced = trace(call.cell, inputs, call.initial_state, call.row_inputs)
        except TraceError as error:
            return str(error)
        except EXPECTED as error:
            return f"the cell cannot be run on sample rows: {error!r}"
        return CompiledStep(StepProgram.of(traced), engine)

    def run(self, call: Call) -> Result:
        """Run a call."""
        with cpu_by_default():
            return self._run(call)

    def _run(self, call: Call) -> Result:
        compiled = self.compiled(call)
        assert isinstance(compiled, CompiledStep), compiled
        step, schedule = compiled.step, call.schedule
        loop, program = step.loop, step.loop.program
        layout = layout_of(schedule, engine, torch.get_num_threads())
        known: dict[Value, Tensor] = {}
        parameters = dict(
            [*call.cell.named_parameters(remove_duplicate=False), *call.cell.named_buffers(remove_duplicate=False)]
        )
        for i, (leaf, name) in enumerate(zip(program.leaves("param"), step.trace.parameters, strict=True)):
            known[leaf] = parameters[name] if name else step.trace.captured[i]
        states = layout.take_rows(call.initial_state)
        fresh = layout.take_rows(call.reset_state)
        dtype = leaves_of(states)[0].dtype
        rows = None
        if call.row_inputs is not None:  # masks may be booleans; the engine has 0 and 1
            rows = map_leaves(lambda leaf: leaf.to(dtype), layout.take_rows(call.row_inputs))
        inputs = dict(zip(program.leaves("input"), leaves_of(call.inputs), strict=True))
        known |= dict(zip(program.leaves("row"), leaves_of(rows) if rows is not None else [], strict=True))
        outside = [v for v in loop.outside if v.level != "token"]
        evaluate(outside, known, schedule.batch)
        _evaluate_tokens(loop, known, inputs, layout)
        tensors = [inputs[v] for v in loop.inputs]
        tensors += [known[v] for v in (*loop.tokens, *loop.rows)] + leaves_of(states) + leaves_of(fresh)
        tensors += [known[v] for v in loop.params]
        training = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        request = Request(compiled, layout, training, call.all_states, dtype, self._static_plan(call, compiled))
        results = EngineRun.apply(request, *tensors)
        n_out, n_state = len(program.outputs), len(loop.states)
        outputs = unflatten(list(results[:n_out]), step.trace.output_spec)
        final = map_leaves(layout.put_rows, unflatten(list(results[n_out : n_out + n_state]), step.trace.state_spec))
        everything = None
        if call.all_states:
            per_token = unflatten(list(results[n_out + n_state :]), step.trace.state_spec)
            everything = map_leaves(
                lambda tokens, first: layout.repeat(first, tokens, first), per_token, call.initial_state
            )
        if call.pad_output == "repeat" and layout.has_padding:
            outputs = map_leaves(lambda leaf: layout.repeat(leaf, None, leaf.new_zeros(leaf.shape[1:])), outputs)
        return Result(outputs, final, everything)


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is nothing but an array: no subclass with operations or memory of its own, not sparse."""
    kind: Any = type(tensor)
    plain: Any = nn.Parameter
    known = (
        kind is Tensor
        or kind is plain
        or (kind.__torch_function__ is plain.__torch_function__ and kind.__torch_dispatch__ is plain.__torch_dispatch__)
    )
    return known and tensor.layout == torch.strided


def is_transformed() -> bool:
    """Tell whether a torch.func transform, dual numbers or a function mode see every operation.

    That of a default device (`torch.set_default_device`) does not count: it gives a device to new tensors, no more.
    """
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined]
    if torch.autograd.forward_ad._current_level >= 0 or functorch.maybe_current_level() is not None:
        return True
    if not torch._C._is_torch_function_mode_enabled():
        return False
    return any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def cpu_by_default() -> AbstractContextManager[object]:
    """Return a context in which new tensors are on the CPU, whatever the default device is."""
    return torch.device("cpu") if torch._C._is_torch_function_mode_enabled() else nullcontext()


def _evaluate_tokens(loop: Any, known: dict[Value, Tensor], inputs: dict[Value, Tensor], layout: Any) -> None:
    """Compute what the engine leaves to PyTorch, for all tokens at once; what is one per row is repeated for them."""
    values = [v for v in loop.outside if v.level == "token"]
    per_token = dict(known)
    for value in [*values, *loop.tokens]:
        for arg in (*value.args, value):
            if arg.level == "row":
                per_token[arg] = known[arg].index_select(0, layout.row_of_token)
            elif arg in inputs and arg not in per_token:
                per_token[arg] = layout.take_tokens(inputs[arg])
    evaluate(values, per_token, layout.tokens)
    known.update({v: per_token[v] for v in (*values, *loop.tokens)})
