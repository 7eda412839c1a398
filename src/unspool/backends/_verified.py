"""Checking fast runs while they happen: some sequences of each are run once more, step by step in Python.

Two identities stand around a run that is checked. The one behind it sees in the backward pass which gradients come in,
and takes the sampled sequences back through the loop; the one before it compares what the run has made of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from unspool._nest import Nest, flatten, leaves_of, named_leaves, unflatten
from unspool.backends._sample import Sample
from unspool.backends.base import Backend, BackendError, Call, Result
from unspool.backends.reference import ReferenceBackend

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
    """What `verified` was asked for, and a source of rows that nobody else draws from."""

    sequences: int
    tolerance: float | None
    draws: random.Random = field(default_factory=lambda: random.Random(0))


_scope: ContextVar[Scope | None] = ContextVar("unspool_verified", default=None)


@contextmanager
def verified(sequences: int = 4, *, tolerance: float | None = None) -> Iterator[None]:
    """Check every fast run inside of the `with` block against the Python loop over the cell.

    Of each run of the engine or of cuDNN some sequences, other ones each time, are run once more on the reference
    backend: outputs, final states and the states of all steps are compared at once. Where gradients are recorded,
    those of inputs, states and row inputs are compared in the backward pass, wherever that is called, and so are those
    of the parameters for the sampled sequences alone. The first place that differs raises. Random states stay
    untouched.

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
    token = _scope.set(Scope(sequences, tolerance))
    try:
        yield
    finally:
        _scope.reset(token)


def run_checked(backend: Backend, call: Call) -> Result:
    """Run a call on a backend, and check what it gives where `verified` asks for that.

    Parameters
    ----------
    backend : Backend
    call : Call

    Returns
    -------
    Result

    Raises
    ------
    VerificationError
        If it is not what the loop gives.
    """
    scope = _scope.get()
    if scope is None or backend.name == ReferenceBackend.name or not call.schedule.batch:
        return backend.run(call)
    check = _Check(backend, call, scope)
    given, spec = flatten(_given(call))
    inputs, state, fresh, rows = unflatten(list(_Identity.apply(check.compare_gradients, False, *given)), spec)
    result = backend.run(replace(call, inputs=inputs, initial_state=state, reset_state=fresh, row_inputs=rows))
    check.compare_values(result)
    leaves, spec = flatten((result.outputs, result.final_state, result.all_states))
    # Copies, since users may write into results, and could not into views that come from here.
    return Result(*unflatten(list(_Identity.apply(check.run_backward, True, *leaves)), spec))


def _given(call: Call) -> tuple[Nest, Nest, Nest, Nest]:
    return call.inputs, call.initial_state, call.reset_state, call.row_inputs


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
        self._loop: tuple[Call, Result] | None = None
        self._parameters: list[tuple[str, Tensor]] = []
        self._again: Result | None = None
        self._expected: list[Tensor | None] = []

    def compare_values(self, result: Result) -> None:
        """Run the sample on the reference backend, and compare all that is known without gradients."""
        with _unnoticed():
            small = self._sample.of(self._call)
            loop = ReferenceBackend().run(small)
            if torch.is_grad_enabled():
                self._loop = small, loop
                # One that has hooks would call them.
                named = [(n, p) for n, p in self._call.cell.named_parameters() if not p._backward_hooks]
                self._parameters = [(n, p) for n, p in named if p.requires_grad]
                self._again = self._run_again() if self._parameters else None
        floor = _floor([loop.outputs, loop.final_state])
        over_time = [*_pairs("the output", result.outputs, loop.outputs)]
        if self._call.all_states:
            over_time += _pairs("the state after each step", result.all_states, loop.all_states)
        first = [self._over_time(path, a, b, floor, earliest=True) for path, a, b in over_time]
        finals = _pairs("the final state", result.final_state, loop.final_state)
        self._report(first, [self._per_row(path, a, b, floor) for path, a, b in finals])

    def _run_again(self) -> Result:
        """Run the sample on the backend that is checked: for the gradients of parameters, which are sums over rows."""
        small = self._sample.of(self._call)
        reason = next(iter(self._backend.reasons(small)), None)
        if reason is not None:
            raise BackendError(
                f"{self._backend.name} ran {self._call} and cannot run {len(self._rows)} sequences of it: {reason}. "
                "Leave this run out of `verified`."
            )
        return self._backend.run(small)

    def run_backward(self, grads: Sequence[Tensor | None]) -> None:
        """Take the sample back with the gradients that its sequences have got; compare those of parameters."""
        if self._loop is None:
            return
        small, loop = self._loop
        given = leaves_of(_given(small))
        wanted = [t for t in given if isinstance(t, Tensor) and t.requires_grad]
        coming = self._sample.of_results(grads, len(leaves_of(loop.outputs)), len(leaves_of(loop.final_state)))
        floor = _floor(coming)
        with _unnoticed():
            parameters = [p for _, p in self._parameters]
            found = _gradients(loop, coming, [*wanted, *parameters])
            again = [] if self._again is None else _gradients(self._again, coming, parameters)
        expected = iter(found)
        self._expected = [next(expected) if isinstance(t, Tensor) and t.requires_grad else None for t in given]
        tokens = max(1, int(small.schedule.lengths.sum()))  # of so many terms are the gradients of parameters sums
        for (name, _), got, want in zip(self._parameters, again, expected, strict=True):
            wrong = _differing(got, want, allowed := self._allowed(want, tokens * floor))
            if wrong is not None:
                where = f"sequences {self._rows} together"
                self._report([_Place.of(f"the gradient of {name}", where, got, want, wrong, allowed)])

    def compare_gradients(self, grads: Sequence[Tensor | None]) -> None:
        """Compare the gradients that the run has made, those of the sampled sequences."""
        call, expected, floor = self._call, self._expected, _floor(self._expected)
        named = [
            *((path, True) for path, _ in named_leaves(call.inputs, "the gradient of the input")),
            *((path, False) for path, _ in named_leaves(call.initial_state, "the gradient of the initial state")),
            *((path, False) for path, _ in named_leaves(call.reset_state, "the gradient of the state after a reset")),
            *((path, False) for path, _ in named_leaves(call.row_inputs, "the gradient of the row input")),
        ]
        first: list[_Place | None] = []
        others: list[_Place | None] = []
        for (path, has_time), got, want in zip(named, grads, expected, strict=True):
            if want is not None and has_time:
                first.append(self._over_time(path, got, want, floor, earliest=False))
            elif want is not None:
                others.append(self._per_row(path, got, want, floor))
        self._report(first, others)

    def _allowed(self, want: Tensor, floor: float) -> float:
        share = TOLERANCES.get(want.dtype, SHORT) if self._tolerance is None else self._tolerance
        return max(share * _largest(want), floor)

    def _over_time(self, what: str, got: Tensor | None, want: Tensor, floor: float, *, earliest: bool) -> _Place | None:
        """Return where `got`, an array of the run, differs from `want` `[T, n, ...]`: first in the order of work."""
        got = torch.zeros_like(want) if got is None else self._sample.take(got)
        allowed = self._allowed(want := self._sample.real(want), floor)
        wrong = _differing(got, want, allowed)
        if wrong is None:
            return None
        by_step = wrong.reshape(*wrong.shape[:2], -1).any(2)
        steps = by_step.any(1).nonzero().flatten().tolist()
        step = steps[0 if earliest != self._call.schedule.reverse else -1]
        row = int(by_step[step].nonzero()[0])
        where = f"sequence {self._rows[row]} at step {step}"
        return _Place.of(what, where, got[step, row], want[step, row], wrong[step, row], allowed, steps.index(step))

    def _per_row(self, what: str, got: Tensor | None, want: Tensor, floor: float) -> _Place | None:
        got = torch.zeros_like(want) if got is None else self._sample.take_rows(got)
        wrong = _differing(got, want, allowed := self._allowed(want, floor))
        if wrong is None:
            return None
        row = int(wrong.reshape(len(wrong), -1).any(1).nonzero()[0])
        return _Place.of(what, f"sequence {self._rows[row]}", got[row], want[row], wrong[row], allowed)

    def _report(self, *groups: Sequence[_Place | None]) -> None:
        """Raise the first place of the first group that has one."""
        for group in groups:
            places = [place for place in group if place is not None]
            if places:
                first = min(places, key=lambda place: place.order)
                name, call = self._backend.name, self._call
                raise VerificationError(
                    f"{name} ran {call}, and {first.text}. Until this is mended, backend='reference' computes what the "
                    "cell says; please report it with the cell."
                )


@dataclass(frozen=True)
class _Place:
    """Where two tensors differ, and how early in the work."""

    text: str
    order: int

    @staticmethod
    def of(what: str, where: str, got: Tensor, want: Tensor, wrong: Tensor, allowed: float, order: int = 0) -> _Place:
        """Describe the first place in tensors that belong to one place in time."""
        index = tuple(wrong.nonzero()[0].tolist())
        element = f", element {list(index)}" if index else ""
        values = f"{got[index].item():.7g} instead of {want[index].item():.7g}, which the Python loop gives"
        return _Place(f"{what} of {where}{element} is {values} (they may differ by {allowed:.2g})", order)


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


def _pairs(what: str, got: Nest, want: Nest) -> list[tuple[str, Tensor, Tensor]]:
    return [(path, a, b) for (path, a), b in zip(named_leaves(got, what), leaves_of(want), strict=True)]


def _gradients(result: Result, coming: Sequence[Tensor | None], wanted: Sequence[Tensor]) -> list[Tensor]:
    leaves = leaves_of((result.outputs, result.final_state, result.all_states))
    ends = [(r, g) for r, g in zip(leaves, coming, strict=True) if g is not None and r.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if ends and wanted:
        results, grads = zip(*ends, strict=True)
        found = torch.autograd.grad(results, wanted, grads, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


def _differing(got: Tensor, want: Tensor, allowed: float) -> Tensor | None:
    """Return where two tensors differ by more than is allowed, or None."""
    wrong = ~torch.isclose(got.detach(), want.detach(), rtol=0.0, atol=allowed, equal_nan=True)
    return wrong if bool(wrong.any()) else None


def _largest(tensor: Tensor) -> float:
    return float(tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


def _floor(trees: Sequence[Nest]) -> float:
    """Return what rounding alone may do where values of this size were added: sums that should be zero are not."""
    leaves = [t for t in leaves_of(list(trees)) if isinstance(t, Tensor) and t.is_floating_point()]
    return max((100 * torch.finfo(t.dtype).eps * _largest(t) for t in leaves), default=0.0)
