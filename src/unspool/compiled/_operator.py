"""Runs as operators of PyTorch: what `torch.compile` sees of a layer or of a cell over time.

The graph of a compiled model holds one call of `unspool::run` for a whole run. It names a *plan*, the Python side of
the run, and takes all tensors that the run reads. When it is executed, the ordinary way of a call begins: checks,
schedule, dispatch. Where gradients are wanted, the operator keeps the autograd graph that was made on that way and
returns a *ticket* for it, a tensor whose memory owns the graph; `unspool::run_backward` takes the ticket and runs the
graph. So a graph lives exactly as long as PyTorch keeps the ticket for a backward pass that may come.

What operators without data must know, the forms of results, stands in their arguments and not in the plan: compiled
code is kept on disk by its text, and plans are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from unspool._nest import Spec, flatten
from unspool.backends import call_with
from unspool.compiled._plans import PLANS, Forms, Plan


@dataclass(frozen=True)
class Kept:
    """An autograd graph that waits for its backward pass."""

    results: tuple[Tensor, ...]
    sources: tuple[Tensor, ...]


class _Ticket(np.ndarray):
    """An array whose memory owns a graph."""

    kept: Kept


_tickets: WeakValueDictionary[int, _Ticket] = WeakValueDictionary()
"""By address: a copy of a ticket is none."""


def _issue(kept: Kept) -> Tensor:
    """Return a ticket for a graph: it lives as long as the memory of this tensor."""
    array = np.zeros(1, dtype=np.int64).view(_Ticket)
    array.kept = kept
    ticket = torch.from_numpy(array)
    _tickets[ticket.data_ptr()] = array
    return ticket


_swapping = threading.RLock()


def with_tensors(module: nn.Module, tensors: dict[str, Tensor], function: Callable[[], Any]) -> Any:
    """Do what `call_with` does, whatever other threads do with the module.

    Parameters
    ----------
    module, tensors, function
        See `unspool.backends.call_with`.
    """
    own = dict([*module.named_parameters(), *module.named_buffers()])
    same = own.keys() == tensors.keys() and all(
        not t.requires_grad and t.data_ptr() == own[name].data_ptr() and t.stride() == own[name].stride()
        for name, t in tensors.items()
    )
    if same and not torch.is_grad_enabled():  # nothing to put in place: threads may run the module side by side
        return function()
    with _swapping:
        return call_with(module, tensors, function)


torch.library.define(
    "unspool::run",
    # The first tensor stands alone, since that is where activation checkpointing looks for the device.
    "(Tensor first, Tensor[] others, str plan, str forms, int[] wanted) -> Tensor[]",
    # Whether a run draws random numbers is known to the cell alone, so each may.
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded),
)
torch.library.define(
    "unspool::run_backward",
    "(Tensor ticket, Tensor?[] grads, SymInt[] sizes, str plan, str forms, int[] wanted) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl("unspool::run", "CompositeExplicitAutograd")
def _run(first: Tensor, others: list[Tensor], plan: str, forms: str, wanted: list[int]) -> list[Tensor]:
    known: Plan | None = getattr(PLANS, plan, None)
    if known is None:
        raise RuntimeError(
            f"there is no run named {plan!r} in this process: the cell or layer that it was compiled or exported from "
            "is gone, or was in another process. Compile or export the model again, in the process that runs it."
        )
    tensors, expected = [first, *others], Forms.read(forms)
    # Operators are called below autograd; this leads back above it, whether gradients are wanted or not.
    with torch.inference_mode(False), torch.set_grad_enabled(bool(wanted)):
        # Compiled code uses the memory of what it passes and receives again, knowing nothing of a graph that is kept.
        sources = [t.detach().clone() if wanted and not isinstance(t, nn.Parameter) else t.detach() for t in tensors]
        for i in wanted:
            sources[i].requires_grad_()
        versions = _versions(sources)
        results, structure = flatten(known.run(sources))
        _check_results(known, results, structure, expected, expected.sizes(tensors))
        if versions != _versions(sources):
            raise RuntimeError(
                f"{known.title} writes into its parameters, buffers or inputs; expected a step without side effects, "
                "the only kind that torch.compile can run. Put what changes into the state."
            )
        fresh = _fresh(results, [form.order for form in expected.results], tensors, copy=bool(wanted))
        return [*fresh, _issue(Kept(tuple(results), tuple(sources[i] for i in wanted)))] if wanted else fresh


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    """Return how often each tensor has been written to; inference tensors do not count."""
    return [0 if t.is_inference() else t._version for t in tensors]


def _check_results(plan: Plan, results: list[Tensor], structure: Spec, forms: Forms, sizes: dict[str, int]) -> None:
    shapes = [tuple(sizes[d] if isinstance(d, str) else d for d in form.dims) for form in forms.results]
    dtypes = [form.dtype for form in forms.results]
    if (
        structure != plan.structure
        or [tuple(r.shape) for r in results] != shapes
        or [str(r.dtype).removeprefix("torch.") for r in results] != dtypes
    ):
        found = ", ".join(f"{list(r.shape)} {r.dtype}" for r in results)
        known = ", ".join(f"{list(shape)} {dtype}" for shape, dtype in zip(shapes, dtypes, strict=True))
        raise RuntimeError(
            f"{plan.title} gave {found}; expected {known}, as when it was compiled. "
            "Let shapes depend on the numbers of steps and rows alone, and compile again after changing the cell."
        )


def _fresh(
    values: Sequence[Tensor], orders: Sequence[list[int]], others: Sequence[Tensor], copy: bool = False
) -> list[Tensor]:
    """Return values without their graph, each in memory of its own, with the axes in the given order."""
    taken = {t.untyped_storage().data_ptr() for t in others}
    found = []
    for value, order in zip(values, orders, strict=True):
        memory = value.detach().permute(order)
        copied = copy or value.untyped_storage().data_ptr() in taken
        memory = memory.clone(memory_format=torch.contiguous_format) if copied else memory.contiguous()
        taken.add(memory.untyped_storage().data_ptr())
        found.append(memory.permute([order.index(axis) for axis in range(len(order))]))
    return found


@torch.library.register_fake("unspool::run")
def _run_fake(first: Tensor, others: list[Tensor], plan: str, forms: str, wanted: list[int]) -> list[Tensor]:
    del plan
    known = Forms.read(forms)
    sizes = known.sizes([first, *others])
    results = [f.empty([sizes[d] if isinstance(d, str) else d for d in f.dims]) for f in known.results]
    return [*results, torch.empty(1, dtype=torch.long, device="cpu")] if wanted else results


@torch.library.impl("unspool::run_backward", "CompositeExplicitAutograd")
def _run_backward(
    ticket: Tensor, grads: list[Tensor | None], sizes: list[int], plan: str, forms: str, wanted: list[int]
) -> list[Tensor]:
    del sizes
    holder = _tickets.get(ticket.data_ptr())
    if holder is None:
        raise RuntimeError(
            f"the graph of {plan} is gone: what was saved for the backward pass has been copied or moved (by hooks on "
            "saved tensors, say), and a graph cannot be. Run this model without them, or without torch.compile."
        )
    kept, known = holder.kept, Forms.read(forms)
    ends = [(r, g) for r, g in zip(kept.results, grads, strict=True) if g is not None and r.requires_grad]
    with torch.inference_mode(False):
        found: Sequence[Tensor | None] = [None] * len(kept.sources)
        if ends:
            # The graph stays for whoever goes backward twice; it goes with the ticket.
            found = torch.autograd.grad(
                [r for r, _ in ends], kept.sources, [g for _, g in ends], retain_graph=True, allow_unused=True
            )
        found = [torch.zeros_like(s) if g is None else g for s, g in zip(kept.sources, found, strict=True)]
        orders = [known.given[i].order for i in wanted]
        return _fresh(found, orders, [ticket, *(g for g in grads if g is not None)])


@torch.library.register_fake("unspool::run_backward")
def _run_backward_fake(
    ticket: Tensor, grads: list[Tensor | None], sizes: list[int], plan: str, forms: str, wanted: list[int]
) -> list[Tensor]:
    del ticket, grads, plan
    known, start, found = Forms.read(forms), 0, []
    for i in wanted:
        form = known.given[i]
        found.append(form.empty(sizes[start : start + len(form.dims)]))
        start += len(form.dims)
    return found


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    first, others, *ctx.names = inputs
    tensors, wanted = [first, *others], ctx.names[-1]
    if not wanted:  # traced where there were no gradients, and called where there are
        ctx.mark_non_differentiable(*output)
        return
    ctx.set_materialize_grads(False)
    ctx.count = len(tensors)
    ctx.sizes = [size for i in wanted for size in tensors[i].shape]
    ctx.save_for_backward(output[-1])


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if torch.is_grad_enabled():
        raise _double_backward()
    plan, forms, wanted = ctx.names
    (ticket,) = ctx.saved_tensors
    made = torch.ops.unspool.run_backward(ticket, list(grads[:-1]), ctx.sizes, plan, forms, wanted)
    found: list[Tensor | None] = [None] * ctx.count
    for i, grad in zip(wanted, made, strict=True):
        found[i] = grad
    return found[0], found[1:], None, None, None


def _refuse(ctx: Any, *grads: Any) -> None:
    del ctx, grads
    raise _double_backward()


def _double_backward() -> RuntimeError:
    return RuntimeError(
        "derivatives of derivatives were asked for (create_graph=True) of a run inside torch.compile, which has "
        "first derivatives only. Run this part of the model without torch.compile."
    )


torch.library.register_autograd("unspool::run", _backward, setup_context=_setup_context)
torch.library.register_autograd("unspool::run_backward", _refuse)
