"""Where a run over time meets `torch.compile`.

Letters: B batch, T steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from unspool._modes import is_compiling

Run = TypeVar("Run", bound=Callable[..., Any])


class Layout(NamedTuple):
    """What a trace must know of a run beyond its arguments.

    The axes of a tensor are a word: `T` for time, `B` for the batch, a dot for one that is neither; further axes are
    features. `None` among the arguments has any axes.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The parameters and buffers that the run reads, unless the call hands it others.
    inputs, state, results
        Axes of the inputs, of initial states, and of each element of the tuple that the run returns.
    steps : str
        Axes of a mask, of resets and, before those of a state, of the states given at resets.
    sequences : str
        Axes of lengths and constants.
    settings : tuple
        What the run reads from its module. A trace is made anew when it changes.
    """

    tensors: dict[str, Tensor]
    inputs: str
    state: str
    results: tuple[str, ...]
    steps: str
    sequences: str = "B"
    settings: tuple[Any, ...] = ()


def in_graphs(layout: Callable[..., Layout]) -> Callable[[Run], Run]:
    """Let a run be one operator of a graph wherever `torch.compile` traces it.

    Parameters
    ----------
    layout : callable
        `layout(module, inputs, **options)` describes a run of these arguments. It is traced.

    Returns
    -------
    callable
        Decorates a function at the top of its module, or a method:
        `run(module, tensors, inputs, state, (lengths, mask, resets, reset_states), constants, **options)`, which runs a
        cell or a layer over time with these tensors by their names in place of its own, or with its own where `tensors`
        is None.
    """

    def decorate(run: Run) -> Run:
        @wraps(run)
        def door(module: Any, tensors: dict[str, Tensor] | None, inputs: Any, *arguments: Any, **options: Any) -> Any:
            if not is_compiling():
                return run(module, tensors, inputs, *arguments, **options)
            # Not imported with the library: its decorators import the compiler, which takes seconds.
            from unspool.compiled._tracing import trace

            found = layout(module, inputs, **options)
            found = found if tensors is None else found._replace(tensors=tensors)
            return trace(run, found, module, inputs, *arguments, **options)

        return door  # type: ignore[return-value]

    return decorate


def undisturbed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function and keep the compiler, if there is one, from what it calls.

    Parameters
    ----------
    function : callable
    *arguments
    """
    if is_compiling() or "torch._dynamo" not in sys.modules:
        return function(*arguments)
    from unspool.compiled._tracing import uncompiled

    return uncompiled(function, *arguments)


def tensors_of(module: Any) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by their names; those of no module are none.

    Parameters
    ----------
    module : Module, or what a user has passed for one
    """
    if not isinstance(module, nn.Module):  # the run will say what is wrong with it
        return {}
    return dict([*module.named_parameters(), *module.named_buffers()])
