"""The native backend: a cell's step, read as a program, run by the engine over all valid steps of a batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from unspool._modes import autocast_dtype, is_observed, is_tracing
from unspool._nest import Nest, flatten, leaves_of, map_leaves
from unspool._reason import Reason
from unspool.backends._engine_run import CompiledStep, EngineRun, Request
from unspool.backends._inference import in_memory
from unspool.backends._layout import TokenLayout, layout_of
from unspool.backends._probe import probe, probe_batch, probe_batches, small_call
from unspool.backends._repeat import Repeatable, make_room
from unspool.backends._schedule import Schedule
from unspool.backends.base import SEVERAL_DTYPES, TO_FLOAT, UNLISTED, Call, Refusal, Result, Run
from unspool.cells import AroundCell, around
from unspool.program.evaluate import evaluate
from unspool.program.foreign import is_plain, strange
from unspool.program.guard import Guard
from unspool.program.hooks import hook_reason, reason_for_all
from unspool.program.ir import Value
from unspool.program.kept import Kept
from unspool.program.loop import Loop
from unspool.program.read import Reading
from unspool.program.recording import Recording
from unspool.program.source import TraceError
from unspool.program.step import StepProgram
from unspool.program.tables import difference_from

INTERFACE = 7
"""The form of the tables that this version writes; the engine says which one it reads."""

CHECKED = 256
"""Programs that have been checked and are kept for other cells that compute the same, the latest ones."""


def load_engine() -> tuple[Any, Reason]:
    """Return the native module, or None and why it cannot be used; `info()` and `explain()` then say so."""
    remedy = "reinstall unspool with its engine"
    try:
        module: Any = import_module("unspool._engine")
    except ModuleNotFoundError as error:
        if error.name != "unspool._engine":
            raise
        found = "there is no engine: unspool was installed without it, or for another Python"
        return None, Reason(f"{found}; to have it, reinstall unspool where there is a C++20 compiler", remedy)
    except ImportError as error:
        return None, Reason(f"the engine cannot be loaded: {error}; reinstall unspool on this machine", remedy)
    interface = getattr(module, "interface", None)
    if interface != INTERFACE:
        found = f"the engine has interface {interface}, and this version of unspool needs {INTERFACE}"
        return None, Reason(f"{found}; reinstall unspool, so that both are of one version", remedy)
    different = difference_from(module)
    if different:
        found = f"the engine is of another version: {different}"
        return None, Reason(f"{found}; reinstall unspool, so that both are of one version", remedy)
    try:
        module.accept(Tensor)
    except AttributeError:
        found = f"PyTorch {torch.__version__} does not hand its tensors to other libraries, as 2.11 and later do"
        return None, Reason(f"{found}; install a newer one", "install a newer PyTorch")
    module.active_isa()  # raises where UNSPOOL_ISA names an instruction set that cannot run here
    return module, Reason()


engine, missing = load_engine()

_INTEGERS = Reason(
    "row inputs or constants hold integers, which the engine would take for floating-point numbers",
    "compute what depends on integers before {code}, and pass it floating-point numbers or booleans",
)
_AUTOCAST = Reason("torch.autocast is on", "call {code} with torch.autocast off: torch.autocast('cpu', enabled=False)")
_TRANSFORMED = Reason(
    "a torch.func transform, forward-mode differentiation or a function mode is active",
    "call {code} outside of torch.func's transforms and of function modes",
)
_TRACING = Reason("torch.jit.trace is recording, which sees no operation of the engine")


class NativeBackend:
    """Runs step programs on the CPU in float32 and float64."""

    name = "native"
    device = "cpu"

    def __init__(self) -> None:
        self.kept: Kept[CompiledStep | Reason] = Kept()
        self._checked: OrderedDict[bytes, CompiledStep] = OrderedDict()
        self._repeatable: WeakKeyDictionary[nn.Module, dict[Schedule, Repeatable]] = WeakKeyDictionary()

    def prepare(self, call: Call) -> Run | Refusal:
        """Return what runs the call, or why the engine cannot."""
        found = _reasons(call)
        if found:
            return Refusal(found)
        form = _form(call)
        compiled, tensors = self.kept.find(call.cell, form, partial(self._read, call), _changes_too_often)
        if isinstance(compiled, Reason):
            return Refusal([compiled])
        batch = call.schedule.batch
        different = compiled.batches.get(batch)
        if different is None:
            different = compiled.batches[batch] = probe_batch(call) if batch else Reason()
        if different:
            return Refusal([different])
        threads = torch.get_num_threads()
        self._remember(call, compiled, threads, form)
        run = partial(self.run_program, call, compiled, tensors, threads)
        return partial(_on_cpu, run) if torch._C._is_torch_function_mode_enabled() else run

    def repeatable(self, cell: nn.Module, schedule: Schedule) -> Repeatable | None:
        """Return how the last run of a cell over a schedule can be repeated, if it can.

        Parameters
        ----------
        cell, schedule
            See `Call`.
        """
        return self._repeatable.get(vars(cell).get("bound_from", cell), {}).get(schedule)

    def _remember(self, call: Call, compiled: CompiledStep, threads: int, form: tuple[Any, ...]) -> None:
        """Keep how a call can be repeated, if it can and that is not known yet."""
        last = self.repeatable(call.cell, call.schedule)
        if (last is not None and last.is_of(compiled, threads)) or not Repeatable.can(call, compiled):
            return
        runs = self._repeatable.setdefault(vars(call.cell).get("bound_from", call.cell), {})
        make_room(runs)
        layout = layout_of(call.schedule, engine, threads)
        runs[call.schedule] = Repeatable(self.kept, form, call, compiled, layout)

    def compiled(self, call: Call) -> tuple[CompiledStep | Reason, tuple[Tensor, ...]]:
        """Return the cell's program, read and checked at its first use, and the tensors that it takes; or why not."""
        return self.kept.find(call.cell, _form(call), partial(self._read, call), _changes_too_often)

    def _read(self, call: Call) -> tuple[Guard | None, CompiledStep | Reason]:
        hooks = hook_reason(call.cell)
        if hooks:
            return None, hooks
        inputs = map_leaves(lambda leaf: leaf.new_zeros((1, *leaf.shape[2:])), call.inputs)
        state = map_leaves(lambda leaf: leaf.new_zeros((1, *leaf.shape[1:])), call.initial_state)
        rows = None if call.row_inputs is None else map_leaves(
            lambda leaf: leaf.new_zeros((1, *leaf.shape[1:])), call.row_inputs
        )  # fmt: skip

        def check(recording: Recording, reading: Reading) -> CompiledStep:
            problems = _wrong_tensors(recording.parameters, leaves_of(state))
            if problems:
                raise TraceError(problems[0].about("of the cell's tensors:"))
            small, batch = small_call(call), call.schedule.batch
            different, in_batch = probe_batches(small, batch, reading)
            if different:
                raise TraceError(different)
            compiled = self._known(recording)
            if compiled is None:
                compiled = CompiledStep(StepProgram.of(recording), engine)
                different = probe(self, small, compiled, reading)
                if different:
                    raise TraceError(different)
                if recording.key is not None:
                    self._checked[recording.key] = compiled.again()
                if len(self._checked) > CHECKED:
                    self._checked.popitem(last=False)
            compiled.batches[batch] = in_batch
            return compiled

        read = Reading(call.cell).read(inputs, state, rows, check)
        if read.recording is None:
            return read.guard, read.reason
        read.recording.let_go()
        return read.guard, read.result

    def _known(self, recording: Recording) -> CompiledStep | None:
        """Return what was made and checked for another cell, whose step has called the same."""
        found = None if recording.key is None else self._checked.get(recording.key)
        if found is None:
            return None
        known = found.step.recording
        same = known.output_spec == recording.output_spec and known.state_spec == recording.state_spec
        return found.again() if same else None

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
        loop, recording, leaves = step.loop, step.recording, compiled.leaves
        layout = schedule.layouts.get(threads) or layout_of(schedule, engine, threads)
        state, own = call.initial_state, call.row_inputs
        if layout.rows is not None:
            state, own = layout.take_rows(state), None if own is None else layout.take_rows(own)
        states, inputs = leaves_of(state), leaves_of(call.inputs)
        dtype = states[0].dtype
        known: dict[Value, Tensor] = dict(compiled.constants)
        given = iter(given)
        known.update(zip(leaves["input"], inputs, strict=True))
        if own is not None:
            known.update(zip(leaves["row"], leaves_of(own), strict=True))
        for leaf, tensor in known.items():
            if tensor.dtype == torch.bool:  # the engine has 0 and 1
                known[leaf] = tensor.to(dtype)
        for leaf, tensor, made in zip(leaves["param"], recording.parameters, recording.made, strict=True):
            known[leaf] = tensor if made else next(given)
        training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*known.values(), *states))
        for value, function, args in compiled.before if training else compiled.inference.before:
            if function is None:
                evaluate([value], known, schedule.batch)
            else:
                known[value] = function(*map(known.__getitem__, args))
        if loop.tokens:
            _evaluate_steps(loop, known, layout)
        static = compiled.static_plans.at(schedule.steps) if call.static else None
        if training:
            tensors = [*map(known.__getitem__, loop.inputs), *map(known.__getitem__, compiled.taken), *states]
            tensors += map(known.__getitem__, loop.params)
            results = EngineRun.apply(Request(compiled, layout, dtype, static), *tensors)
            count = len(loop.program.outputs)
            outputs, finals = results[:count], results[count:]
        else:
            values = [in_memory(known[value], dtype) for value in compiled.inference.takes]
            finals = [state.clone(memory_format=torch.contiguous_format) for state in states]
            outputs = compiled.inference.run(values, finals, layout, dtype, static)
        final = compiled.put_state(finals)
        if layout.rows is not None:
            final = map_leaves(layout.put_rows, final)
        return Result(compiled.put_outputs(outputs), final)


def _on_cpu(run: Run) -> Result:
    """Run with new tensors on the CPU, whatever the default device is."""
    with torch.device("cpu"):
        return run()


def _form(call: Call) -> tuple[Any, ...]:
    """Return what a program depends on but for the cell: the form of what its step takes."""
    forms = []
    for tree, axes in ((call.inputs, 2), (call.initial_state, 1)):
        for leaf in leaves_of(tree):
            forms += (leaf.shape[axes:], leaf.dtype)
        forms.append(None)
    if call.row_inputs is not None:
        forms.append(_form_of(call.row_inputs))
    if isinstance(call.cell, AroundCell):
        forms += map(type, around(call.cell))
    return (*forms, torch.get_default_dtype())


def _form_of(tree: Nest) -> Any:
    """Return the structure of per-sequence inputs, and the form of every leaf."""
    leaves, spec = flatten(tree)
    return spec, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)


def _changes_too_often(what: str) -> Reason:
    return Reason(
        f"{what} changes from run to run, and reading the step again each time costs more than it saves; a tensor in "
        "its place may change freely",
        "hold what changes from run to run in a tensor",
    )


def _reasons(call: Call) -> list[Reason]:
    """Return what keeps the engine from a call, but for the cell's step."""
    if engine is None:
        return [missing]
    if not call.schedule.listed:
        return [UNLISTED]
    states = leaves_of(call.initial_state)
    rows = [] if call.row_inputs is None else leaves_of(call.row_inputs)
    found = _wrong_tensors([*leaves_of(call.inputs), *states, *rows], states)
    for tensor in rows:
        if not (tensor.is_floating_point() or tensor.dtype == torch.bool):
            found.append(_INTEGERS)
            break
    if autocast_dtype("cpu") is not None:
        found.append(_AUTOCAST)
    if is_observed():
        found.append(_TRANSFORMED)
    if is_tracing():
        found.append(_TRACING)
    if _has_any_global_hook():
        hooks = reason_for_all()
        found += [hooks] if hooks else []
    return found


def _wrong_tensors(tensors: list[Tensor], states: list[Tensor]) -> list[Reason]:
    """Return what keeps the engine from computing with tensors."""
    found: list[Reason] = []
    dtype, several = states[0].dtype if states else None, False
    for tensor in tensors:
        if not tensor.is_cpu:
            found.append(Reason(f"tensors are on {tensor.device}, not on the CPU", of_device=True))
            break
    for tensor in tensors:
        several = several or (tensor.dtype != dtype and tensor.is_floating_point())
        plain = (type(tensor) is Tensor or type(tensor) is nn.Parameter) and tensor.layout == torch.strided
        if not (plain or is_plain(tensor)):
            found.append(strange(tensor).about("a tensor"))
            break
    if dtype is None:
        found.append(Reason("the state is empty; the engine has float32 and float64"))
    elif dtype not in (torch.float32, torch.float64):
        found.append(Reason(f"the state is {dtype}; the engine has float32 and float64", TO_FLOAT))
    elif several:
        found.append(SEVERAL_DTYPES)
    return found


def _evaluate_steps(loop: Loop, known: dict[Value, Tensor], layout: TokenLayout) -> None:
    """Compute what the engine leaves to PyTorch, for all valid steps at once, repeating what is one per sequence."""
    values = [v for v in loop.outside if v.level == "token"]
    per_step = dict(known)
    for value in [*values, *loop.tokens]:
        for arg in (*value.args, value):
            if arg.level == "row":
                per_step[arg] = known[arg].index_select(0, layout.row_of_token)
            elif arg.op == "input" and per_step[arg] is known[arg]:
                per_step[arg] = layout.take_tokens(known[arg])
    evaluate(values, per_step, layout.tokens)
    known.update({v: per_step[v] for v in (*values, *loop.tokens)})
