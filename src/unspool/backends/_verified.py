"""Checking fast runs while they happen: some sequences of each are run once more, step by step in Python.

Two identities stand around a run that is checked. The one behind it sees in the backward pass which gradients come in,
and takes the sampled sequences back through the loop; the one before it compares what the run has made of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from unspool._modes import autocast_dtype
from unspool._nest import Nest, flatten, leaves_of, named_leaves, unflatten
from unspool.backends._difference import Place, first_place, largest, rounding, rows_apart, shaken
from unspool.backends._sample import Sample
from unspool.backends.base import Backend, BackendError, Call, Refusal, Result, Run
from unspool.backends.reference import ReferenceBackend
from unspool.cells import Restart, WithStates, inside

TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-3}
"""How far a value may be from that of the loop, as a share of the largest one of its tensor."""

SHORT = 0.03
"""The same for shorter dtypes."""


class VerificationError(AssertionError):
    """Inside of `unspool.verified` a backend gave other numbers than the Python loop over the cell.

    The message names the first place: the tensor, the sequence, the step, both values and the tolerance. Until the
    cause is found, `backend="reference"` computes what the cell says.
    """


@dataclass(frozen=True)
class Scope:
    """What `verified` was asked for, and a source of sequences that nobody else draws from."""

    sequences: int
    tolerance: float | None
    draws: random.Random = field(default_factory=lambda: random.Random(0))


VERIFYING: ContextVar[Scope | None] = ContextVar("unspool_verified", default=None)
"""Set inside of `verified`, in this thread."""


@contextmanager
def verified(sequences: int = 4, *, tolerance: float | None = None) -> Iterator[None]:
    """Check every fast run inside of the `with` block against the Python loop over the cell.

    Of each run of the engine or of cuDNN some sequences, other ones each time, are run once more on the reference
    backend: outputs, final states and the states of all steps are compared at once. Where gradients are recorded,
    those of inputs, states and row inputs are compared in the backward pass, wherever that is called, and so are those
    of the parameters for the sampled sequences alone. The first place that differs raises. Random states stay
    untouched.

    Where a value differs, the loop is run once more with inputs and states that are off by a few units of the last
    place: what rounding alone makes of a cell (one in which differences grow from step to step, say) is no error.

    Blocks may be nested, and the innermost one counts; each holds for its own thread.

    Parameters
    ----------
    sequences : int
        How many of a batch are checked; all where there are fewer.
    tolerance : float, optional
        How far a value may be from that of the loop, as a share of the largest one of its tensor. By default 1e-3 in
        float32, 1e-7 in float64, 0.03 in shorter dtypes.

    Raises
    ------
    VerificationError
        Inside of the block, or in a backward pass of what was run there, if something differs.
    ValueError
        If `sequences` is no positive number, or `tolerance` is negative.

    Examples
    --------
    >>> with verified():
    ...     output, state = GRU(3, 5)(torch.randn(4, 2, 3))
    """
    if not isinstance(sequences, int) or sequences < 1:
        raise ValueError(f"sequences is {sequences!r}; expected how many of a batch to check, 1 or more.")
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance!r}; expected a share of the largest value, 0 or more.")
    token = VERIFYING.set(Scope(sequences, tolerance))
    try:
        yield
    finally:
        VERIFYING.reset(token)


def run_checked(backend: Backend, call: Call, run: Run) -> Result:
    """Run a call on a backend, and check what it gives, inside of `verified`.

    Parameters
    ----------
    backend : Backend
    call : Call
    run : callable
        What the backend has prepared.

    Returns
    -------
    Result

    Raises
    ------
    VerificationError
        If it is not what the loop gives.
    """
    scope = VERIFYING.get()
    if scope is None or backend.name == ReferenceBackend.name or not (call.schedule.batch and call.schedule.listed):
        return run()
    check = _Check(backend, call, scope)
    given, spec = flatten(_given(call))
    inputs, state, rows = unflatten(list(_Identity.apply(check.compare_gradients, False, *given)), spec)
    result = _run(backend, replace(call, inputs=inputs, initial_state=state, row_inputs=rows))
    check.compare_values(result)
    leaves, spec = flatten(tuple(result))
    # Copies, since users may write into results, and could not into views that come from here.
    return Result(*unflatten(list(_Identity.apply(check.run_backward, True, *leaves)), spec))


def _run(backend: Backend, call: Call) -> Result:
    """Run a call like one that the backend has just run."""
    run = backend.prepare(call)
    if isinstance(run, Refusal):
        raise BackendError(
            f"{backend.name} ran a call like {call} and cannot run this one: {next(iter(run.reasons))}. Leave this run "
            "out of `verified`."
        )
    return run()


def _given(call: Call) -> tuple[Nest, Nest, Nest]:
    return call.inputs, call.initial_state, call.row_inputs


def _named_given(call: Call) -> list[tuple[str, int]]:
    """Return for each leaf of `_given` what its gradient is called, and how many axes are steps and sequences."""
    named = [
        (call.inputs, "the gradient of the input", 2),
        (call.initial_state, "the gradient of the initial state", 1),
    ]
    rows = call.row_inputs
    if isinstance(rows, Restart):
        x, resets, *given = call.inputs
        named[:1] = [(x, "the gradient of the input", 2), (resets, "the resets", 2)]
        named[2:2] = [(states, "the gradient of the states given at resets", 2) for states in given]
        named.append((rows.start, "the gradient of the state after a reset", 1))
        rows = rows.inside[0] if rows.inside else ()
    named.append((rows, "the gradient of the row input", 1))
    return [(path, axes) for tree, what, axes in named for path, _ in named_leaves(tree, what)]


def _named_outputs(call: Call, outputs: Nest) -> list[tuple[str, Tensor]]:
    """Return the leaves of outputs with what they are called; among them are states, if the run gives all."""
    if not isinstance(call.cell, WithStates):
        return named_leaves(outputs, "the output")
    output, states = outputs
    return [*named_leaves(output, "the output"), *named_leaves(states, "the state after each step")]


class _Identity(torch.autograd.Function):
    """Gives tensors on as they are, and shows their gradients to a function."""

    @staticmethod
    def forward(ctx: Any, watch: Callable[[Sequence[Tensor | None]], None], copy: bool, *things: Any) -> Any:
        ctx.watch = watch
        ctx.set_materialize_grads(False)
        passed = [t if not isinstance(t, Tensor) else t.clone() if copy else t.view_as(t) for t in things]
        needed = ctx.needs_input_grad[2:]
        ctx.mark_non_differentiable(
            *(p for p, need in zip(passed, needed, strict=True) if isinstance(p, Tensor) and not need)
        )
        return tuple(passed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # type: ignore[override]
        ctx.watch(grads)
        return (None, None, *grads)


class _Check:
    """One run, and some of its sequences once more."""

    def __init__(self, backend: Backend, call: Call, scope: Scope) -> None:
        self._backend, self._call, self._tolerance = backend, call, scope.tolerance
        batch = call.schedule.batch
        self._rows = sorted(scope.draws.sample(range(batch), min(batch, scope.sequences)))
        self._sample = Sample(call.schedule, self._rows)
        self._autocast = _autocast_as_now(call)
        self._parameters: list[tuple[str, Tensor]] = []
        self._again: Result | None = None
        self._expected: list[Tensor | None] = []
        self._expected_shaken: Callable[[], list[Tensor | None]] = list

    def compare_values(self, result: Result) -> None:
        """Run the sample on the reference backend, and compare all that is known without gradients."""
        with _unnoticed():
            self._small = self._sample.of(self._call)
            self._loop = ReferenceBackend().run(self._small)
            if torch.is_grad_enabled():
                # One that has hooks would call them.
                named = [(n, p) for n, p in inside(self._call.cell).named_parameters() if not p._backward_hooks]
                self._parameters = [(n, p) for n, p in named if p.requires_grad]
                self._again = self._run_again() if self._parameters else None
        floor = rounding([self._loop.outputs, self._loop.final_state])
        for name, named, axes in (
            ("outputs", _named_outputs(self._call, result.outputs), 2),
            ("final_state", named_leaves(result.final_state, "the final state"), 1),
        ):
            want = leaves_of(getattr(self._loop, name))
            off = lambda i, name=name: leaves_of(getattr(self._shaken[1], name))[i]  # noqa: E731
            self._report(
                [self._compare(path, got, want[i], partial(off, i), axes, floor) for i, (path, got) in enumerate(named)]
            )

    @cached_property
    def _shaken(self) -> tuple[Call, Result]:
        """The sample once more in the loop, with inputs and states off by a few units of the last place."""
        with _unnoticed(), self._autocast(), torch.set_grad_enabled(_has_graph(self._loop)):
            small = shaken(self._small)
            return small, ReferenceBackend().run(small)

    def _lost(self) -> Tensor:
        """Return the sequences whose states rounding has taken elsewhere: they have gradients of another course."""
        return rows_apart(self._shaken[1].outputs, self._loop.outputs, self._share)

    def _share(self, want: Tensor) -> float:
        share = TOLERANCES.get(want.dtype, SHORT) if self._tolerance is None else self._tolerance
        return share * largest(want)

    def _run_again(self) -> Result:
        """Run the sample on the backend that is checked, for the gradients of parameters: sums over sequences."""
        return _run(self._backend, self._sample.of(self._call))

    def run_backward(self, grads: Sequence[Tensor | None]) -> None:
        """Take the sample back with the gradients that its sequences have got; compare those of parameters."""
        coming = self._sample.of_results(
            grads, len(leaves_of(self._loop.outputs)), len(leaves_of(self._loop.final_state))
        )
        parameters = [p for _, p in self._parameters]

        def back(small: Call, loop: Result) -> tuple[list[Tensor | None], list[Tensor]]:
            given = leaves_of(_given(small))
            wanted = [t for t in given if isinstance(t, Tensor) and t.requires_grad]
            with _unnoticed():
                found = iter(_gradients(loop, coming, [*wanted, *parameters]))
            of_given = [next(found) if isinstance(t, Tensor) and t.requires_grad else None for t in given]
            return of_given, list(found)

        @cache
        def back_shaken() -> tuple[list[Tensor | None], list[Tensor]]:
            return back(*self._shaken)

        self._expected, want = back(self._small, self._loop)
        self._expected_shaken = lambda: back_shaken()[0]
        if self._again is None:
            return
        with _unnoticed():
            got = _gradients(self._again, coming, parameters)
        tokens = max(1, int(self._small.schedule.lengths.sum()))  # of so many terms these gradients are sums
        for i, (name, _) in enumerate(self._parameters):
            off = lambda i=i: back_shaken()[1][i]  # noqa: E731
            self._report(
                [self._compare(f"the gradient of {name}", got[i], want[i], off, 0, tokens * rounding(coming), True)]
            )

    def compare_gradients(self, grads: Sequence[Tensor | None]) -> None:
        """Compare the gradients that the run has made, those of the sampled sequences."""
        floor, named = rounding(self._expected), _named_given(self._call)
        places = {0: [], 1: [], 2: []}
        for i, ((path, axes), got, want) in enumerate(zip(named, grads, self._expected, strict=True)):
            if want is not None:
                off: Any = lambda i=i: self._expected_shaken()[i]  # noqa: E731
                places[axes].append(self._compare(path, got, want, off, axes, floor, backward=True))
        self._report(places[2])
        self._report(places[1])

    def _compare(
        self,
        what: str,
        got: Tensor | None,
        want: Tensor,
        off: Callable[[], Tensor],
        axes: int,
        floor: float,
        backward: bool = False,
    ) -> Place | None:
        """Compare one tensor of the run with that of the sample: per valid step, per sequence, or of all together."""
        took = {2: self._sample.take, 1: self._sample.take_rows, 0: torch.Tensor.detach}[axes]
        real = self._sample.real if axes == 2 else torch.Tensor.detach
        return first_place(
            what,
            torch.zeros_like(want) if got is None else took(got),
            real(want),
            lambda: real(off()),
            axes,
            max(self._share(want), floor),
            self._rows,
            latest=backward != self._call.schedule.reverse,
            lost=self._lost if backward else None,
        )

    def _report(self, places: Sequence[Place | None]) -> None:
        """Raise the first of some places."""
        first = min((place for place in places if place is not None), key=lambda place: place.order, default=None)
        if first is not None:
            raise VerificationError(
                f"{self._backend.name} ran {self._call}, and {first.text}. Until this is mended, backend='reference' "
                "computes what the cell says; please report it with the cell."
            )


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Leave random states as they are, and keep what is saved here from hooks on saved tensors (of checkpoints)."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices), saved_tensors_hooks(lambda saved: saved, lambda kept: kept):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _gradients(result: Result, coming: Sequence[Tensor | None], wanted: Sequence[Tensor]) -> list[Tensor]:
    leaves = leaves_of(tuple(result))
    ends = [(r, g) for r, g in zip(leaves, coming, strict=True) if g is not None and r.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if ends and wanted:
        results, grads = zip(*ends, strict=True)
        found = torch.autograd.grad(results, wanted, grads, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


def _has_graph(result: Result) -> bool:
    return any(t.requires_grad for t in leaves_of((result.outputs, result.final_state)))


def _autocast_as_now(call: Call) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes a context with the autocast of now, for the backward pass, which has none."""
    kind = call.schedule.device.type
    dtype = autocast_dtype(kind)
    return nullcontext if dtype is None else partial(torch.autocast, kind, dtype=dtype)
