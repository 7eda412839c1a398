"""The native backend: a cell's step, read as a program, run by the engine over all real tokens of a batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from unspool._nest import Nest, leaves_of, map_leaves, unflatten
from unspool.backends._engine_run import CompiledStep, EngineRun, Request
from unspool.backends._layout import layout_of
from unspool.backends._probe import probe, probe_batch, probe_batches
from unspool.backends._static import StaticPlan
from unspool.backends.base import Call, Result
from unspool.program.evaluate import evaluate
from unspool.program.foreign import is_plain
from unspool.program.guard import Guard
from unspool.program.hooks import hook_reason, reason_for_all
from unspool.program.ir import Value
from unspool.program.kept import Kept
from unspool.program.reading import Reading
from unspool.program.source import TraceError
from unspool.program.step import StepProgram
from unspool.program.trace import Trace

INTERFACE = 4
"""The form of the tables that this version writes; the engine says which one it reads."""

CHECKED = 256
"""Programs that have been checked and are kept for other cells that compute the same, the latest ones."""


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


class NativeBackend:
    """Runs step programs on the CPU in float32 and float64."""

    name = "native"

    def __init__(self) -> None:
        self.kept: Kept[CompiledStep | str] = Kept()
        self._checked: OrderedDict[bytes, CompiledStep] = OrderedDict()

    def reasons(self, call: Call) -> list[str]:
        """Return why the engine cannot run a call."""
        if engine is None:
            return [missing]
        states = leaves_of(call.initial_state)
        rows = [] if call.row_inputs is None else leaves_of(call.row_inputs)
        found = _wrong_tensors([*leaves_of(call.inputs), *states, *rows], states)
        if any(not (t.is_floating_point() or t.dtype == torch.bool) for t in rows):
            found.append(
                "row inputs or constants hold integers, which the engine would take for floating-point numbers"
            )
        if torch.is_autocast_enabled("cpu"):
            found.append("torch.autocast is on")
        if is_transformed():
            found.append("a torch.func transform, forward-mode differentiation or a function mode is active")
        if torch.jit.is_tracing():  # type: ignore[reportPrivateImportUsage]
            found.append("torch.jit.trace is recording, which sees no operation of the engine")
        hooks = reason_for_all()
        if hooks:
            found.append(hooks)
        if found:
            return found
        compiled, _ = self.compiled(call)
        if isinstance(compiled, str):
            return [compiled]
        different = compiled.batches.get(call.schedule.batch)
        if different is None:
            different = compiled.batches[call.schedule.batch] = probe_batch(call)
        return [different] if different else []

    def compiled(self, call: Call) -> tuple[CompiledStep | str, tuple[Tensor, ...]]:
        """Return the cell's program, read and checked at its first use, and the tensors that it takes; or why not."""
        if "native" not in call.notes:
            form = (
                _forms(call.inputs, 2), _forms(call.initial_state, 1), call.row_forms, torch.get_default_dtype()
            )  # fmt: skip
            call.notes["native"] = self.kept.find(call.cell, form, lambda: self._read(call), _changes_too_often)
        return call.notes["native"]

    def _read(self, call: Call) -> tuple[Guard | None, CompiledStep | str]:
        hooks = hook_reason(call.cell)
        if hooks:
            return None, hooks
        inputs = map_leaves(lambda leaf: leaf.new_zeros((1, *leaf.shape[2:])), call.inputs)
        state = map_leaves(lambda leaf: leaf.new_zeros((1, *leaf.shape[1:])), call.initial_state)
        rows = None if call.row_inputs is None else map_leaves(
            lambda leaf: leaf.new_zeros((1, *leaf.shape[1:])), call.row_inputs
        )  # fmt: skip

        def check(traced: Trace, reading: Reading) -> CompiledStep:
            problems = _wrong_tensors(traced.parameters, leaves_of(state))
            if problems:
                raise TraceError(f"of the cell's tensors: {problems[0]}")
            different = probe_batches(call, reading)
            if different:
                raise TraceError(different)
            known = self._known(traced)
            if known is not None:
                return known
            compiled = CompiledStep(StepProgram.of(traced), engine)
            different = probe(self, call, compiled, reading)
            if different:
                raise TraceError(different)
            if traced.key is not None:
                self._checked[traced.key] = compiled.again()
            if len(self._checked) > CHECKED:
                self._checked.popitem(last=False)
            return compiled

        read = Reading(call.cell).read(inputs, state, rows, check)
        if read.trace is None:
            return read.guard, read.reason
        read.trace.let_go()
        return read.guard, read.result

    def _known(self, traced: Trace) -> CompiledStep | None:
        """Return what was made and checked for another cell, whose step has called the same."""
        found = None if traced.key is None else self._checked.get(traced.key)
        if found is None:
            return None
        known = found.step.trace
        same = known.output_spec == traced.output_spec and known.state_spec == traced.state_spec
        return found.again() if same else None

    def _static_plan(self, call: Call, compiled: CompiledStep) -> StaticPlan | None:
        """Return what is kept for a static call, made at the first one of these many steps."""
        if not call.static:
            return None
        return compiled.static_plans.at(call.schedule.steps)

    def run(self, call: Call) -> Result:
        """Run a call."""
        compiled, tensors = self.compiled(call)
        assert isinstance(compiled, CompiledStep), compiled
        with cpu_by_default():
            return self.run_program(call, compiled, tensors, torch.get_num_threads())

    def run_program(self, call: Call, compiled: CompiledStep, given: Iterable[Tensor], threads: int) -> Result:
        """Run a program over a call's steps.

        Parameters
        ----------
        call : Call
        compiled : CompiledStep
        given : iterable of Tensor
            What the program takes from the cell, in order.
        threads : int
        """
        step, schedule = compiled.step, call.schedule
        loop, program = step.loop, step.loop.program
        layout = layout_of(schedule, engine, threads)
        known: dict[Value, Tensor] = {}
        given, traced = iter(given), step.trace
        for leaf, tensor, made in zip(program.leaves("param"), traced.parameters, traced.made, strict=True):
            known[leaf] = tensor if made else next(given)
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


def _forms(tree: Nest, skip: int) -> tuple[Any, ...]:
    """Return the form of every leaf, without its first axes."""
    return tuple((tuple(leaf.shape[skip:]), leaf.dtype) for leaf in leaves_of(tree))


def _changes_too_often(what: str) -> str:
    return (
        f"{what} changes from run to run, and reading the step again each time costs more than it saves; a tensor in "
        "its place may change freely"
    )


def _wrong_tensors(tensors: list[Tensor], states: list[Tensor]) -> list[str]:
    """Return what keeps the engine from computing with tensors."""
    found = []
    away = next((t.device for t in tensors if not t.is_cpu), None)
    if away is not None:
        found.append(f"tensors are on {away}, not on the CPU")
    strange = next((t for t in tensors if not is_plain(t)), None)
    if strange is not None:
        kind = type(strange).__name__ if strange.layout == torch.strided else f"a {strange.layout} tensor"
        found.append(f"a tensor is of a kind that the engine does not read: {kind}")
    if not states or states[0].dtype not in (torch.float32, torch.float64):
        found.append(f"the state is {states[0].dtype if states else 'empty'}; the engine has float32 and float64")
    elif any(t.dtype != states[0].dtype for t in tensors if t.is_floating_point()):
        found.append("inputs, state and parameters have several dtypes")
    return found


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
