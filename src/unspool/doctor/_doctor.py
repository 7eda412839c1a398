"""Running a model once, and telling what was seen."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from unspool.doctor._diagnosis import Diagnosis, Timing
from unspool.doctor._findings import finding_of, kind_of
from unspool.doctor._observer import Observer, Seen, role_of
from unspool.doctor._sample import SampleError
from unspool.doctor._torch_layers import time_layer
from unspool.execution import dynamic_rnn
from unspool.layers import is_scripted
from unspool.program.untouched import untouched


def doctor(model: nn.Module, *args: Any, measure: bool = False, **kwargs: Any) -> Diagnosis:
    """Tell of every recurrent part of a model what runs it, why nothing faster does, and what one line would change.

    The model is run once on the sample, in the mode that it is in: in training mode ready for gradients, of which none
    is taken. The random state and the model's buffers are afterwards what they were. Layers of `torch.nn` are run a
    second time, as if they were accelerated, so that what is said of them is what happens.

    Parameters
    ----------
    model : Module, or cell
        A cell is run by `dynamic_rnn`.
    *args, **kwargs
        A sample batch: what the model is called with. For a cell, the arguments of `dynamic_rnn`; `lengths` may be
        written for `sequence_length`.
    measure : bool
        Time each layer of `torch.nn` alone on its part of the sample, as it is and changed.

    Returns
    -------
    Diagnosis
        Prints as a table.

    Raises
    ------
    TypeError
        If the model is no module.
    SampleError
        If the model fails on the sample; what it raised is the cause.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 5))
    >>> doctor(model, torch.randn(4, 2, 2)).changes
    ('model = unspool.accelerate(model)',)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {type(model).__name__}; expected a torch.nn.Module, and after it what the model is called with."
        )
    call: Any = model
    if role_of(model) == "cell":
        if "lengths" in kwargs:
            kwargs["sequence_length"] = kwargs.pop("lengths")
        args = (model, *args)
        call = dynamic_rnn

    observer = Observer(model)
    with _untouched(model):
        with torch.set_grad_enabled(model.training and torch.is_grad_enabled()), observer.watching():
            try:
                call(*args, **kwargs)
            except Exception as error:
                raise SampleError.of(error, args, kwargs) from error
        findings = tuple(finding_of(model, seen, _timing(seen) if measure else None) for seen in observer.seen.values())
    return Diagnosis(findings, tuple(_not_called(model, observer)))


def _timing(seen: Seen) -> Timing | None:
    found = seen.examined
    return None if found is None or found.refusal else time_layer(seen.module, found.args, found.kwargs)


def _not_called(model: nn.Module, observer: Observer) -> Iterator[str]:
    """Yield a sentence on each recurrent module, outside of others, that was not seen."""
    met = {id(part) for seen in observer.seen.values() for part in seen.module.modules()}
    for path, module in model.named_modules():
        name = f"{path or 'the model'} ({kind_of(module)})"
        if is_scripted(module):
            yield f"{name} is inside of scripted code, where nothing is seen"
        elif id(module) not in met and role_of(module):
            met |= {id(part) for part in module.modules()}
            yield f"{name} was not called"


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Undo what a forward pass does to the random state and to buffers; let nothing be compiled meanwhile."""
    buffers = [(module, name, b) for module in model.modules() for name, b in module._buffers.items() if b is not None]
    values = [buffer.clone() for _, _, buffer in buffers]
    with ExitStack() as stack:
        stack.enter_context(untouched(model))
        if "torch._dynamo" in sys.modules:  # what is compiled hides its modules
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Using `torch.compile.*global hooks")  # ours are for the modules inside
        try:
            yield
        finally:
            with torch.no_grad():
                for (module, name, buffer), value in zip(buffers, values, strict=True):
                    module._buffers[name] = buffer.copy_(value)
