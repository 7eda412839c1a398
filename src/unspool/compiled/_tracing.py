"""What `torch.compile` traces of a run: one call of the operator `unspool::run`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import guard_scalar
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import autocast_dtype, is_exporting, is_transformed, unobserved
from unspool._nest import Nest, flatten, leaves_of, map_leaves, unflatten
from unspool._ragged import RaggedBatch
from unspool.backends import recording
from unspool.compiled._door import Layout
from unspool.compiled._plans import PLANS, TENSOR, Failure, Form, Forms, Plan, Runner
from unspool.program.rehearse import rehearsed

SAMPLE = {"T": 1, "B": 2}
"""Steps and sequences of the run that shows the forms of results: any layer takes one step."""


TRANSFORMED = (
    "a torch.func transform (vmap, grad, ...) was called inside of what torch.compile compiles, around a run over "
    "time; expected it outside. Leave the function that calls the transform uncompiled."
)


def trace(
    run: Runner,
    layout: Layout,
    module: nn.Module,
    inputs: Any,
    state: Nest | None,
    steps: tuple[Any, Any, Any, Nest | None],
    constants: Nest | None,
    **options: Any,
) -> Any:
    """Put a run over time into the graph that is being traced.

    Parameters
    ----------
    run : callable
        See `in_graphs`.
    layout : Layout
        Of this run.
    module, inputs, state, steps, constants, **options
        What the run takes.

    Returns
    -------
    tuple of nesting of Tensor
        What the run returns.
    """
    if isinstance(inputs, PackedSequence | RaggedBatch):
        return _outside(run, module, layout.tensors, inputs, state, steps, constants, **options)
    if is_exporting():
        return strictly()
    *flags, reset_states = steps
    steps = type(steps)(*(None if value is None else _as_tensor(value) for value in flags), reset_states)  # type: ignore[arg-type]
    arguments = (inputs, state, steps, constants)
    given: list[Tensor] = []
    forms: list[Any] = []
    about_steps = zip(steps, (layout.sequences, layout.steps, layout.steps, layout.steps), strict=True)
    for argument, axes in [
        (inputs, layout.inputs),
        (state, layout.state),
        *about_steps,
        (constants, layout.sequences),
    ]:
        for leaf in leaves_of(argument):
            if isinstance(leaf, Tensor):
                given.append(leaf)
                forms.append(_form(leaf, axes))
            else:
                forms.append(leaf)
    for tensor in layout.tensors.values():
        given.append(tensor)
        forms.append(_form(tensor, ""))
    device = given[0].device.type if given else "cpu"
    wanted = [i for i, tensor in enumerate(given) if tensor.requires_grad] if torch.is_grad_enabled() else []
    name = plan_run(
        module,
        run,
        map_leaves(_nothing, arguments),
        tuple(forms),
        tuple(layout.tensors),
        layout.results,
        tuple(options.items()),
        layout.settings,
        (device, autocast_dtype(device)),
        torch.is_grad_enabled(),
    )
    plan: Plan | Failure = getattr(PLANS, name)
    if isinstance(plan, Failure):
        return plan.fail()
    results = torch.ops.unspool.run(given[0], given[1:], name, plan.forms, wanted)
    return unflatten(list(results[: plan.count]), plan.structure)  # type: ignore[arg-type]


def _as_tensor(value: Any) -> Tensor:
    """Return lengths or a mask as a tensor, unchecked."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


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
    settings: tuple[Any, ...],
    autocast: tuple[str, torch.dtype | None],
    training: bool,
) -> str:
    """Make the plan of a run and return its name in `PLANS`; of a `Failure` where the run raises.

    This function is not traced. The trace takes its result as a constant, guarded by the identity of the module, so
    each trace of each run gets a plan of its own; no two runs in a graph can be taken for the same.

    Parameters
    ----------
    module : cell or layer
    runner : callable
        See `in_graphs`.
    skeleton : nesting
        The arguments, with anything in place of their leaves.
    forms : tuple
        Dtype, device and dims of the tensors among the leaves, constants for other leaves; then the module's tensors.
    names : tuple of str
        Names of these.
    result_axes, settings : tuple
        See `Layout`.
    options : tuple of (str, object)
    autocast : (str, dtype or None)
        A device type and the dtype of `torch.autocast` there; None where it is off.
    training : bool
        Whether gradients may be wanted.
    """
    del settings  # being an argument is enough for the trace to be made anew
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
    if is_transformed():
        return PLANS.add(module, Failure(_failing(RuntimeError(TRANSFORMED))))
    try:
        with unobserved():
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
    """Run a plan on few sequences and one step, and return what comes out. Nobody notices but the cell itself."""
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


def _call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args, **options)


_outside: Any = torch.compiler.disable(
    _call,
    reason="a PackedSequence or a RaggedBatch has shapes that depend on its data; to have this run in the graph, make "
    "padded inputs and lengths of it (RaggedBatch.to_padded, pad_packed_sequence) outside of what is compiled",
)
"""Calls a function with arguments, outside of the graph, which breaks there."""

uncompiled: Any = torch.compiler.disable(_call)
"""Calls a function with arguments, and keeps the compiler from what it calls."""
