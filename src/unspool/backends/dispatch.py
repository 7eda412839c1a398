"""Choosing who runs a call: the first backend without a reason against it, or the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch

from unspool._modes import is_inference, is_ordinary
from unspool.backends._repeat import Repeatable
from unspool.backends._schedule import Schedule
from unspool.backends._verified import VERIFYING, run_checked
from unspool.backends.base import Backend, BackendError, Call, Refusal, Result, Run
from unspool.backends.cudnn import CudnnBackend
from unspool.backends.masked import MaskedBackend
from unspool.backends.native import NativeBackend
from unspool.backends.reference import ReferenceBackend
from unspool.program.rehearse import rehearsed

BACKENDS: tuple[Backend, ...] = (CudnnBackend(), NativeBackend(), ReferenceBackend(), MaskedBackend())
"""All backends in the order of preference."""

TORCH = "torch.nn"


@dataclass(frozen=True)
class Decision:
    """What was decided for one call.

    Attributes
    ----------
    call : str
        The cell, its inputs and the mode in words.
    chosen : str
        Name of the backend that runs the call; `TORCH` where an accelerated module leaves it to PyTorch's own kernel.
    reasons : dict of str to list of str
        For each backend why it cannot run the call; empty lists for those that can.
    asked : str
        `"auto"`, or the name of the backend that was asked for.
    """

    call: str
    chosen: str
    reasons: dict[str, list[str]]
    asked: str = "auto"


Watch: TypeAlias = Callable[[Call], AbstractContextManager[object]]

_recorder: ContextVar[tuple[list[Decision], Watch] | None] = ContextVar("unspool_decisions", default=None)


def _unwatched(call: Call) -> AbstractContextManager[None]:
    del call
    return nullcontext()


@contextmanager
def recording(watch: Watch = _unwatched) -> Iterator[list[Decision]]:
    """Collect the decisions that are taken inside the `with` block, in this thread.

    Parameters
    ----------
    watch : callable
        `watch(call)` gives a context in which the decision about a call is taken and the call is run.
    """
    decisions: list[Decision] = []
    token = _recorder.set((decisions, watch))
    try:
        yield decisions
    finally:
        _recorder.reset(token)


def is_recording() -> bool:
    """Tell whether the calls of this thread are being explained."""
    return _recorder.get() is not None


def note(decision: Decision) -> None:
    """Add a decision to those that are being collected in this thread, if they are.

    Parameters
    ----------
    decision : Decision
    """
    recorder = _recorder.get()
    if recorder is not None:
        recorder[0].append(decision)


def check_backend(name: str) -> None:
    """Refuse the name of a backend that does not exist.

    Raises
    ------
    ValueError
        If it does not.
    """
    _candidates(name)


def run(call: Call, backend: str = "auto") -> Result:
    """Run a call on the backend of that name, or on the first one that can.

    Parameters
    ----------
    call : Call
    backend : str
        `"auto"` or the name of a backend.

    Returns
    -------
    Result

    Raises
    ------
    BackendError
        If a backend was asked for by name and cannot run the call.
    ValueError
        If there is no backend of that name.
    """
    candidates, recorder = _candidates(backend), _recorder.get()
    if recorder is None:
        return _choose(call, backend, candidates)()
    _, watch = recorder
    with watch(call):
        prepared = {one.name: one.prepare(call) for one in BACKENDS}
        reasons = {name: _reasons(found) for name, found in prepared.items()}
        chosen = next((one for one in candidates if not reasons[one.name]), None)
        note(Decision(str(call), "none" if chosen is None else chosen.name, reasons, backend))
        if chosen is None:
            raise _refused(call, backend, candidates, prepared)
        # Nobody who asks who runs a cell wants its steps to have happened; a program has no effects.
        with nullcontext() if chosen.name == "native" else rehearsed(call.cell):
            return _checked(chosen, call, prepared[chosen.name])()


def repeatable(cell: Any, schedule: Schedule, backend: str) -> Repeatable | None:
    """Return how the last run of a cell over a schedule can be repeated, if this backend has run it and it can.

    Parameters
    ----------
    cell, schedule
        See `Call`.
    backend : str
        See `run`.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    device = schedule.device.type
    for candidate in _candidates(backend):
        if candidate.device in (None, device):
            return candidate.repeatable(cell, schedule) if isinstance(candidate, NativeBackend) else None
    return None


def surroundings_now() -> tuple[Any, ...]:
    """Return what a run depends on beside the call: backends, threads, the default dtype, inference mode.

    What is made in inference mode is of no use outside of it.
    """
    return BACKENDS, torch.get_num_threads(), torch.get_default_dtype(), is_inference()


def may_repeat(then: tuple[Any, ...]) -> bool:
    """Tell whether a run may be repeated as it was in other surroundings: where they are the same, and nobody looks on,
    checks the run or changes what PyTorch does.

    Parameters
    ----------
    then : tuple
        What `surroundings_now` has said.
    """
    backends, threads, default, inference = then
    return (
        BACKENDS is backends
        and _recorder.get() is None
        and VERIFYING.get() is None
        and torch.get_num_threads() == threads
        and torch.get_default_dtype() == default
        and is_inference() == inference
        and is_ordinary()
    )


def _candidates(name: str) -> tuple[Backend, ...]:
    """Return the backends among which a run may choose, the preferred ones first."""
    if name == "auto":
        return BACKENDS
    for backend in BACKENDS:
        if backend.name == name:
            return (backend,)
    names = ", ".join(repr(known) for known in ("auto", *(backend.name for backend in BACKENDS)))
    raise ValueError(f"backend is {name!r}; expected one of {names}.")


def _choose(call: Call, name: str, candidates: tuple[Backend, ...]) -> Run:
    """Return what the first backend has prepared that can run a call."""
    device = call.schedule.device.type
    for backend in candidates:
        if backend.device in (None, device):
            prepared = backend.prepare(call)
            if not isinstance(prepared, Refusal):
                return prepared if VERIFYING.get() is None else _checked(backend, call, prepared)
    raise _refused(call, name, candidates, {backend.name: backend.prepare(call) for backend in candidates})


def _checked(backend: Backend, call: Call, prepared: Run | Refusal) -> Run:
    """Return a run that is compared with the Python loop inside of `verified`."""
    assert not isinstance(prepared, Refusal), "a backend that cannot run was chosen"
    return partial(run_checked, backend, call, prepared)


def _refused(
    call: Call, name: str, candidates: tuple[Backend, ...], prepared: dict[str, Run | Refusal]
) -> BackendError:
    refused = [f"{backend.name}: {reason}" for backend in candidates for reason in _reasons(prepared[backend.name])]
    return BackendError(
        f"backend {name!r} cannot run {call}: {'; '.join(refused)}. Use backend='auto', or remove the reasons."
    )


def _reasons(prepared: Run | Refusal) -> list[str]:
    if not isinstance(prepared, Refusal):
        return []
    return prepared.all
