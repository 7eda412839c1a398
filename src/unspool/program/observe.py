"""Watching which code a step runs, and stopping it before it does what a program cannot repeat.

Python tells a profiler of every function that is about to be called. So what draws a number, asks the clock, reads a
file or advances an iterator is refused before it happens.
"""

from __future__ import annotations

import builtins
import contextvars
import gc
import sys
import threading
import types
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NoReturn

import torch

from unspool._reason import Reason
from unspool.program.code import owner_of, reads_of
from unspool.program.objects import DRAWN_FROM, MISSING, is_atom, is_closed, is_generator, is_users
from unspool.program.source import DRAWS, IN_STATE, TraceError, here, line_of
from unspool.program.untouched import Snapshot

_PURE = frozenset(
    "abs all any ascii bin callable chr delattr dir divmod format getattr hasattr hash hex isinstance issubclass iter "
    "len max min next oct ord pow repr round setattr sorted sum vars __build_class__".split()
)
"""Python's own functions that only look at what they are given, or write into what `Snapshot` watches."""

_BY_NAME = frozenset({builtins.getattr, builtins.hasattr, builtins.vars, builtins.dir})
"""Functions by which attributes are read whose names do not stand in the code."""

_NAMING = frozenset(
    "__dict__ __getattribute__ __getattr__ __getstate__ __dir__ attrgetter methodcaller format format_map".split()
)
"""What stands in code that reads attributes in the same way."""

_PURE_MODULES = frozenset(
    "math cmath _operator itertools _functools _collections _struct _abc _typing _bisect _heapq _statistics "
    "unicodedata binascii copyreg _weakref torch numpy".split()
)
_IMPURE_MODULES = frozenset(
    "time posix nt _io io _warnings _socket _random random secrets _thread select _posixsubprocess _winapi _signal "
    "_asyncio _datetime marshal mmap fcntl resource".split()
)
"""What may give another answer at the next call; functions of Python's library are let through but for these."""

_PURE_CLASSES = frozenset("builtins torch numpy collections abc enum typing".split())

_FUNCTION_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]

_GLOBAL_STATE = frozenset({torch.is_grad_enabled, torch.is_inference_mode_enabled})
"""Functions that ask whether gradients are wanted."""

_SETTINGS = frozenset(
    getattr(function, "__code__", function)
    for function in (
        *(
            getattr(torch, name)
            for name in "get_num_threads set_num_threads get_num_interop_threads set_num_interop_threads "
            "are_deterministic_algorithms_enabled use_deterministic_algorithms get_deterministic_debug_mode "
            "set_deterministic_debug_mode is_deterministic_algorithms_warn_only_enabled get_float32_matmul_precision "
            "set_float32_matmul_precision get_default_device set_default_device set_default_dtype "
            "set_default_tensor_type set_flush_denormal is_anomaly_enabled".split()
        ),
        torch.backends.ContextProp.__get__,
        torch.backends.ContextProp.__set__,
    )
)
"""Functions that ask for one of PyTorch's settings, or change it."""

_UNDOING = frozenset({"__exit__", "release"})
"""Functions that end what others have begun. A step that is stopped before one of them would leave its lock held."""

_DRAWING = ("numpy.random",)
"""Its functions are of a kind that no profiler is told of."""

_OUTSIDE = "call it outside of the step, and keep what it gives in an attribute of the cell"


class Stopped(BaseException):
    """Leaves a step that must not go on, past any handler of `Exception` in it."""


class Observer:
    """Watches one thread while a step runs in it.

    Parameters
    ----------
    snapshot : Snapshot
        Extended by what the code is about to reach.

    Attributes
    ----------
    codes : dict of code to (dict, str)
        The code that was run, with its globals, and whose it is; `"library"` is Python's, called by the user's.
    by_name : bool
        Whether attributes were read by names that do not stand in the code.
    asks_for_gradients : Reason
        Where the step has asked whether gradients are wanted, or "".
    refusal : Reason
        Why the step was stopped, or "".
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.codes: dict[CodeType, tuple[dict[str, Any], str]] = {}
        self.by_name = False
        self.asks_for_gradients = Reason()
        self.refusal = Reason()
        self._met: dict[int, tuple[CodeType, str]] = {}  # by its address, since to hash code takes long

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function under watch.

        Raises
        ------
        TraceError
            If it does what a program cannot repeat, whatever it has made of being stopped.
        """
        before, collecting = sys.getprofile(), gc.isenabled()
        gc.disable()  # what a collection calls is not the step's
        sys.setprofile(self._watch)
        try:
            result = function()
        except Stopped:
            raise TraceError(self.refusal) from None
        finally:
            sys.setprofile(before)
            if collecting:
                gc.enable()
        if self.refusal:
            raise TraceError(self.refusal)
        return result

    @staticmethod
    def aside(function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the reader's own in the midst of a step, and look away."""
        before = sys.getprofile()
        sys.setprofile(None)
        try:
            return function(*args)
        finally:
            sys.setprofile(before)

    def refuse(self, reason: Reason) -> NoReturn:
        """Stop the step."""
        self.refusal = self.refusal or reason
        raise Stopped(reason)

    def _watch(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self._enter(frame)
        elif event == "c_call":
            self._call(frame, arg)

    def _enter(self, frame: FrameType) -> None:
        code = frame.f_code
        met = self._met.get(id(code))
        if met is not None and met[1] != "user":
            return
        if code is _FUNCTION_APPLY:
            what = Reason.ending(
                "is a torch.autograd.Function, whose backward pass a program cannot read",
                "write it in PyTorch's own functions (x + (y - x).detach() for a straight-through estimate)",
            )
            self.refuse(here(frame.f_locals["cls"].__name__, what, frame=frame))
        whose = owner_of(code, frame.f_globals)
        if code in _SETTINGS:
            self._refuse_setting(code.co_qualname, frame)
        elif not code.co_filename.startswith("<"):  # else its globals count, which may be others the next time
            self._met[id(code)] = code, whose
        if whose != "user":
            if whose == "python" and _asked_by(frame) == "user":
                whose = "library"
            self.codes.setdefault(code, (frame.f_globals, whose))
            return
        variables = frame.f_locals if code.co_freevars else {}
        for name in code.co_freevars:
            self._reach(variables.get(name), name, f"{name} of an outer function", frame)
        if code in self.codes:
            return
        self.codes[code] = frame.f_globals, whose
        reads = reads_of(code)
        if reads.written:
            what = Reason(f"writes the global {reads.written[0]}", IN_STATE)
            self.refuse(what.about(code.co_qualname, line_of(frame)))
        self.by_name |= reads.by_pattern or not _NAMING.isdisjoint(reads.attributes | reads.globals)
        for name in reads.attributes & self.snapshot.closed.keys():
            self._refuse_reading(self.snapshot.closed[name], frame)
        for name in reads.globals:
            self._reach(frame.f_globals.get(name), name, name, frame)
        for name in reads.globals:
            module = frame.f_globals.get(name)
            if isinstance(module, types.ModuleType):
                if module.__name__ in _DRAWING:
                    self._refuse_reading(DRAWN_FROM.about(f"{name},"), frame)
                for attribute in reads.attributes & vars(module).keys():
                    path = f"{name}.{attribute}"
                    self._reach(vars(module)[attribute], attribute, path, frame)

    def _reach(self, thing: Any, name: str, path: str, frame: FrameType) -> None:
        """Remember what code is about to read from outside of the cell."""
        if thing is None or is_atom(thing):
            return
        if isinstance(thing, types.ModuleType | type | types.FunctionType) and not _holds_variables(thing):
            return
        closed = is_closed(thing)
        if not closed and (getattr(thing, "__module__", None) or getattr(thing, "__name__", "")).startswith(_DRAWING):
            closed = DRAWN_FROM
        if closed:
            self._refuse_reading(closed.about(f"{path},"), frame)
        self.snapshot.add(thing, path, name)
        if name in self.snapshot.closed:
            self._refuse_reading(self.snapshot.closed[name], frame)

    def _refuse_reading(self, what: Reason, frame: FrameType) -> NoReturn:
        self.refuse(what.about("reads").about(frame.f_code.co_qualname, line_of(frame)))

    def _call(self, frame: FrameType, function: Any) -> None:
        met = self._met.get(id(frame.f_code))
        whose = owner_of(frame.f_code, frame.f_globals) if met is None else met[1]
        if whose in ("torch", "unspool") or (whose != "user" and _asked_by(frame) != "user"):
            return
        of = getattr(function, "__self__", None)
        name = getattr(function, "__name__", repr(function))
        if is_generator(of):
            self.refuse(here(f"{name} of {type(of).__name__}", DRAWS, frame=frame))
        module = of.__name__ if isinstance(of, types.ModuleType) else getattr(function, "__module__", None) or ""
        kind = type(of).__module__ if not isinstance(of, types.ModuleType | type(None) | types.GeneratorType) else ""
        if {module.split(".")[0], kind} & _IMPURE_MODULES or module.startswith("numpy.random"):
            module = module or type(of).__qualname__
            reason = here(f"{module}.{name}", "may give another answer at the next call", _OUTSIDE, frame=frame)
            if name not in _UNDOING:
                self.refuse(reason)
            self.refusal = self.refusal or reason
        self.by_name |= function in _BY_NAME
        if whose != "user" or function in _BY_NAME:
            return
        if function in _SETTINGS:
            self._refuse_setting(name, frame)
        if function in _GLOBAL_STATE:
            line = line_of(frame)
            self.asks_for_gradients = self.asks_for_gradients or Reason(f"{name} ({line})", where=line)
        elif not self._is_pure(of, module, name):
            which = f"{module}.{name}" if module else f"{name} of {type(of).__name__}"
            what = Reason("may read or change what a program does not see", _OUTSIDE)
            reason = what.about(which, line_of(frame))
            if name not in _UNDOING:
                self.refuse(reason)
            self.refusal = self.refusal or reason

    def _refuse_setting(self, name: str, frame: FrameType) -> None:
        if _asked_by(frame.f_back if frame.f_code in _SETTINGS else frame) == "user":
            what = Reason.ending(
                "asks for a setting of PyTorch, or changes it", "keep what depends on it in an attribute of the cell"
            )
            self.refuse(here(name, what, frame=frame))

    @staticmethod
    def _is_pure(of: Any, module: str, name: str) -> bool:
        """Tell whether a function in C gives the same for the same arguments, and writes only into what is watched."""
        root = module.split(".")[0]
        if isinstance(of, type):
            return is_users(of) or of.__module__.split(".")[0] in _PURE_CLASSES
        if root == "builtins":
            return name in _PURE
        if root in _PURE_MODULES:
            return True
        if of is None or isinstance(of, types.ModuleType):
            return False
        return isinstance(of, types.GeneratorType) or not is_closed(of)


def _asked_by(frame: FrameType | None) -> str:
    """Return whose code has called into Python's library or NumPy."""
    caller = frame
    while caller is not None and owner_of(caller.f_code, caller.f_globals) in ("python", "numpy"):
        caller = caller.f_back
    return "" if caller is None else owner_of(caller.f_code, caller.f_globals)


def _holds_variables(thing: Any) -> bool:
    """Tell whether a function or class of the user's may hold what changes: in closures, defaults or attributes."""
    if isinstance(thing, types.FunctionType):
        return bool(thing.__closure__ or thing.__defaults__ or thing.__kwdefaults__ or thing.__dict__)
    return isinstance(thing, type)


def apart(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own and return what it returns, or raise what it raises.

    What PyTorch is told to do differently is told per thread: gradients off, inference mode, autocast, hooks on saved
    tensors, transforms, default devices, profilers. None of it is on in a new thread.
    """
    found: list[Any] = [MISSING, None]
    context = contextvars.copy_context()

    def work() -> None:
        try:
            found[0] = context.run(function)
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that asked
            found[1] = error

    thread = threading.Thread(target=work, name="unspool-reading", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        thread.join()  # interrupted: what is being looked at has to be put back first
        raise
    if found[1] is not None:
        raise found[1]
    return found[0]
