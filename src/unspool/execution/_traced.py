"""What is traced of a run by `torch.compile`: one call of the operator `unspool::run`.

This module is imported when a trace first comes by, not with the library: its decorators import the compiler, which
takes seconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import guard_scalar
from torch.utils._python_dispatch import _disable_current_modes

from unspool._nest import Nest, flatten, leaves_of, map_leaves, unflatten
from unspool._ragged import RaggedBatch
from unspool.backends import recording
from unspool.execution._op import with_tensors
from unspool.execution._plans import PLANS, TENSOR, Failure, Form, Forms, Plan, Runner
from unspool.execution._run import run_dynamic, run_static
from unspool.program.rehearse import rehearsed

SAMPLE = {"T": 1, "B": 2}
"""Steps and rows of the run that shows the forms of results: any layer takes one step."""


TRANSFORMED = (
    "a torch.func transform (vmap, grad, ...) was called inside of what torch.compile compiles, around a run over "
    "time; expected it outside. Leave the function that calls the transform uncompiled."
)


def run_traced(
    module: nn.Module,
    tensors: dict[str, Tensor],
    runner: Runner,
    arguments: tuple[Nest | None, ...],
    axes: tuple[str, ...],
    result_axes: tuple[str, ...],
    **options: Any,
) -> Any:
    """Put a run over time into the graph that is being traced.

    Parameters
    ----------
    module : cell or layer
    tensors : dict of str to Tensor
        Its parameters and buffers, all that the run may read.
    runner : callable
        See `Runner`; a function at the top of its module.
    arguments : tuple of nesting of Tensor, or None
        What the runner takes.
    axes, result_axes : tuple of str
        For each argument, and for each element of the tuple that the runner returns, its first axes: `T` for time,
        `B` for the batch, a dot for one that is neither. Further axes are features.
    **options
        Constants for the runner.

    Returns
    -------
    tuple of nesting of Tensor
        What the runner returns.
    """
    if torch.compiler.is_exporting():
        return strictly()
    given: list[Tensor] = []
    forms: list[Any] = []
    for argument, where in zip(arguments, axes, strict=True):
        for leaf in leaves_of(argument):
            if isinstance(leaf, Tensor):
                given.append(leaf)
                forms.append(_form(leaf, where))
            else:
                forms.append(leaf)
    for tensor in tensors.values():
        given.append(tensor)
        forms.append(_form(tensor, ""))
    device = given[0].device.type if given else "cpu"
    autocast = (device, torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None
    wanted = [i for i, tensor in enumerate(given) if tensor.requires_grad] if torch.is_grad_enabled() else []
    name = plan_run(
        module,
        runner,
        map_leaves(_nothing, arguments),
        tuple(forms),
        tuple(tensors),
        result_axes,
        tuple(options.items()),
        autocast,
        torch.is_grad_enabled(),
    )
    plan: Plan | Failure = getattr(PLANS, name)
    if isinstance(plan, Failure):
        return plan.fail()
    results = torch.ops.unspool.run(given[0], given[1:], name, plan.forms, wanted)
    return unflatten(list(results[: plan.count]), plan.structure)  # type: ignore[arg-type]


def _nothing(leaf: Any) -> int:
    del leaf
    return 0


def _form(tensor: Tensor, where: str) -> tuple[Any, ...]:
    """Return dtype, device and dims of a tensor; sizes other than of time and batch become constants."""
    dims = [
        where[axis] if axis < len(where) and where[axis] != "." else guard_scalar(tensor.shape[axis])
        for axis in range(tensor.dim())
    ]
    return (tensor.dtype, tensor.device, *dims)


@torch.compiler.assume_constant_result
def plan_run(
    module: nn.Module,
    runner: Runner,
    skeleton: Nest,
    forms: tuple[Any, ...],
    names: tuple[str, ...],
    result_axes: tuple[str, ...],
    options: tuple[tuple[str, Any], ...],
    autocast: tuple[str, torch.dtype] | None,
    training: bool,
) -> str:
    """Make the plan of a run and return its name in `PLANS`; of a `Failure` where the run raises.

    This function is not traced. The trace takes its result as a constant, guarded by the identity of the module, so
    each trace of each run gets a plan of its own; no two runs in a graph can be taken for the same.

    Parameters
    ----------
    module, runner, result_axes
        See `run_traced`.
    skeleton : nesting
        The arguments, with anything in place of their leaves.
    forms : tuple
        Dtype, device and dims of the tensors among the leaves, constants for other leaves; then the module's tensors.
    names : tuple of str
        Names of these.
    options : tuple of (str, object)
    autocast : (str, dtype), optional
        Device type and dtype, where `torch.autocast` is on.
    training : bool
        Whether gradients may be wanted.
    """
    title = type(module).__name__
    given = [_as_form(form) for form in forms if isinstance(form, tuple)]
    leaves = forms[: len(forms) - len(names)]
    draft = Plan(
        module=weakref.ref(module),
        title=title,
        runner=runner,
        options=dict(options),
        arguments=flatten(skeleton)[1],
        constants=tuple(TENSOR if isinstance(leaf, tuple) else leaf for leaf in leaves),
        names=names,
        autocast=autocast,
    )
    if torch._C._functorch.maybe_current_level() is not None:  # type: ignore[attr-defined]
        return PLANS.add(module, Failure(_failing(RuntimeError(TRANSFORMED))))
    try:
        # The modes of an exporter would see what is none of its business.
        with _disable_current_modes():
            results = _sample(draft, given, training)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the user sees it
        return PLANS.add(module, Failure(_failing(error)))
    made: list[Form] = []
    for result, where in zip(results, result_axes, strict=True):
        made += [_as_form(_form(leaf, where)) for leaf in leaves_of(result)]
    text = str(Forms(tuple(given), tuple(made)))
    return PLANS.add(module, replace(draft, count=len(made), structure=flatten(results)[1], forms=text))


def _failing(error: Exception) -> Any:
    """Return a function at which the graph breaks; where it must not, the compiler gives the reason."""
    # Not the error itself: through its traceback it would keep the module.
    kind, message = type(error) if isinstance(error, TypeError | ValueError) else RuntimeError, str(error)

    def fail() -> Any:
        raise kind(message)

    return torch.compiler.disable(fail, reason=f"{kind.__name__}: {message}")


strictly = _failing(
    RuntimeError(
        "torch.export.export was called with strict=True, which would put a run into the program that only this "
        "process can make; expected strict=False, the default."
    )
)
"""Fails at the export of a run by the tracing of Python code."""


def _as_form(form: tuple[Any, ...]) -> Form:
    dtype, device, *dims = form
    return Form(str(dtype).removeprefix("torch."), str(device), tuple(dims))


def _sample(plan: Plan, given: list[Form], training: bool) -> tuple[Nest, ...]:
    """Run a plan on few rows and one step, and return what comes out. Nobody notices but the cell itself."""
    module = plan.module()
    assert module is not None
    count = len(given) - len(plan.names)
    tensors = [_sample_tensor(form) for form in given[:count]]
    state = dict([*module.named_parameters(), *module.named_buffers()])
    for name, form in zip(plan.names, given[count:], strict=True):
        tensor = state.get(name)  # absent where something else than a parameter stands in a layer's place for one
        if tensor is None or isinstance(tensor, FakeTensor):
            tensors.append(_sample_tensor(form))
            tensors[-1].requires_grad_(training and tensors[-1].is_floating_point())
        else:
            tensors.append(tensor.detach().clone().requires_grad_(training and tensor.requires_grad))
    with torch.inference_mode(False), rehearsed(module), recording():
        if not training:
            with torch.no_grad():
                return plan.run(tensors)
        with torch.enable_grad():
            for tensor in tensors[:count]:
                tensor.requires_grad_(tensor.is_floating_point())
            results = plan.run(tensors)
        _refuse_strangers(plan, leaves_of(results), tensors)
    return map_leaves(lambda leaf: leaf.detach(), results)


def _sample_tensor(form: Form) -> Tensor:
    """Return ones, or zeros where ids may be meant."""
    shape = [SAMPLE[dim] if isinstance(dim, str) else dim for dim in form.dims]
    dtype = getattr(torch, form.dtype)
    fill = torch.ones if dtype.is_floating_point or dtype == torch.bool else torch.zeros
    return fill(shape, dtype=dtype, device=form.device)


def _refuse_strangers(plan: Plan, results: list[Tensor], known: list[Tensor]) -> None:
    """Refuse results that depend on tensors whose gradients would be lost.

    Raises
    ------
    ValueError
        If there are such tensors.
    """
    seen: set[Any] = set()
    nodes = [r.grad_fn for r in results if r.grad_fn is not None]
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only leaves have one
        if variable is not None and all(variable is not tensor for tensor in known):
            raise ValueError(
                f"{plan.title} uses a tensor {list(variable.shape)} that requires gradients and is neither its "
                "parameter nor its argument; under torch.compile it would receive none. Register it as a parameter, "
                "or, where it belongs to the rows of a batch, pass it to the run as constants=."
            )
        nodes += [n for n, _ in node.next_functions if n is not None]


def traced_dynamic_rnn(
    cell: Any,
    inputs: Nest,
    sequence_length: Any,
    initial_state: Nest | None,
    constants: Nest | None,
    mask: Any,
    resets: Any,
    time_major: bool,
    return_all_states: bool,
    **options: Any,
) -> Any:
    """Do what `dynamic_rnn` does, in a trace; the arguments are its own."""
    if isinstance(inputs, RaggedBatch):
        options |= {"mask": mask, "resets": resets, "time_major": time_major, "return_all_states": return_all_states}
        options["constants"] = constants
        return outside(run_dynamic, cell, inputs, sequence_length, initial_state, **options)
    steps = "TB" if time_major else "BT"
    return run_traced(
        cell,
        tensors_of(cell),
        _dynamic,
        (inputs, tensor_or_none(sequence_length), initial_state, *map(tensor_or_none, (mask, resets)), constants),
        (steps, "B", "B", steps, steps, "B"),
        (steps, "B", steps) if return_all_states else (steps, "B"),
        time_major=time_major,
        return_all_states=return_all_states,
        **options,
    )


def _dynamic(
    cell: Any,
    tensors: dict[str, Tensor],
    inputs: Nest,
    lengths: Any,
    state: Any,
    mask: Any,
    resets: Any,
    constants: Any,
    **options: Any,
) -> Any:
    options |= {"mask": mask, "resets": resets, "constants": constants}
    return with_tensors(cell, tensors, lambda: run_dynamic(cell, inputs, lengths, state, **options))


def traced_static_rnn(
    cell: Any,
    inputs: Sequence[Nest],
    sequence_length: Any,
    initial_state: Nest | None,
    constants: Nest | None,
    mask: Any,
    resets: Any,
    **options: Any,
) -> tuple[Nest, Nest]:
    """Do what `run_static` does, in a trace; the arguments are those of `static_rnn`."""
    about_steps = map(tensor_or_none, (mask, resets))
    return run_traced(
        cell,
        tensors_of(cell),
        _static,
        (inputs, tensor_or_none(sequence_length), initial_state, *about_steps, constants),
        ("B", "B", "B", ".B", ".B", "B"),  # the number of steps is that of the list: a constant
        (".B", "B"),
        **options,
    )


def _static(
    cell: Any,
    tensors: dict[str, Tensor],
    inputs: Any,
    lengths: Any,
    state: Any,
    mask: Any,
    resets: Any,
    constants: Any,
    **options: Any,
) -> Any:
    options |= {"mask": mask, "resets": resets, "constants": constants}
    return with_tensors(cell, tensors, lambda: run_static(cell, inputs, lengths, state, **options))


def tensors_of(module: Any) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by their names; those of no module are none."""
    if not isinstance(module, nn.Module):  # the run will say what is wrong with it
        return {}
    return dict([*module.named_parameters(), *module.named_buffers()])


def tensor_or_none(value: Any) -> Tensor | None:
    """Return lengths or a mask as a tensor, unchecked, so that a trace can hand it on; None stays None."""
    return value if value is None or isinstance(value, Tensor) else torch.as_tensor(value)


def _call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args, **options)


outside: Any = torch.compiler.disable(
    _call,
    reason="a PackedSequence or a RaggedBatch has shapes that depend on its data; to have this run in the graph, make "
    "padded inputs and lengths of it (RaggedBatch.to_padded, pad_packed_sequence) outside of what is compiled",
)
"""Calls a function with arguments, outside of the graph, which breaks there."""

undisturbed: Any = torch.compiler.disable(_call)
"""Calls a function with arguments, and keeps the compiler from what it calls."""
