"""Choosing who runs a call: the first backend without a reason against it, or the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from unspool.backends._traced_schedule import TracedSchedule
from unspool.backends._verified import run_checked
from unspool.backends.base import Backend, BackendError, Call, Result
from unspool.backends.cudnn import CudnnBackend
from unspool.backends.masked import MaskedBackend
from unspool.backends.native import NativeBackend
from unspool.backends.reference import ReferenceBackend
from unspool.program.rehearse import rehearsed

BACKENDS: tuple[Backend, ...] = (CudnnBackend(), NativeBackend(), ReferenceBackend())
"""All backends in the order of preference."""

MASKED: Backend = MaskedBackend()
"""Runs the calls whose lengths, masks or resets have no values that could be asked for; the others cannot."""

UNKNOWN = "lengths, mask or resets have no values here: the run is exported, or vmap gives each sample its own"


@dataclass(frozen=True)
class Decision:
    """What was decided for one call.

    Attributes
    ----------
    call : str
        The cell, its inputs and the mode in words.
    chosen : str
        Name of the backend that runs the call.
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
    names = ["auto", *(backend.name for backend in BACKENDS)]
    if name not in names:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(map(repr, names))}.")


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
    check_backend(backend)
    candidates = [b for b in BACKENDS if backend in ("auto", b.name)]
    if isinstance(call.schedule, TracedSchedule) and backend == "auto":
        candidates = [MASKED]
    recorder = _recorder.get()
    if recorder is None:
        return _run_on_first(call, backend, candidates)
    _, watch = recorder
    with watch(call):
        decision = _decision(call, backend, candidates)
        note(decision)
        # Nobody who asks who runs a cell wants its steps to have happened; a program has no effects.
        with nullcontext() if decision.chosen == "native" else rehearsed(call.cell):
            return _run_on_first(call, backend, candidates)


def _run_on_first(call: Call, backend: str, candidates: list[Backend]) -> Result:
    for candidate in candidates:
        if next(iter(_reasons(candidate, call)), None) is None:
            return run_checked(candidate, call)
    refusals = [f"{candidate.name}: {reason}" for candidate in candidates for reason in _reasons(candidate, call)]
    raise BackendError(
        f"backend {backend!r} cannot run {call}: "
        + "; ".join(refusals)
        + ". Use backend='auto', or remove the reasons."
    )


def _decision(call: Call, asked: str, candidates: list[Backend]) -> Decision:
    backends = (MASKED, *BACKENDS) if isinstance(call.schedule, TracedSchedule) else BACKENDS
    reasons = {backend.name: list(_reasons(backend, call)) for backend in backends}
    chosen = next((backend.name for backend in candidates if not reasons[backend.name]), "none")
    return Decision(str(call), chosen, reasons, asked)


def _reasons(backend: Backend, call: Call) -> Iterable[str]:
    known = backend is MASKED or not isinstance(call.schedule, TracedSchedule)
    return backend.reasons(call) if known else [UNKNOWN]
