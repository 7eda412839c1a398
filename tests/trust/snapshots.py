"""Everything that can be reached from an object, as one flat table, so that two objects can be compared.

Objects count by their attributes, functions by what they close over and their defaults, classes of the tests by their
attributes, sources of random numbers by their state. What is reached twice is named by where it was reached first, so
that two things that are one and two that are equal differ.
"""

from __future__ import annotations

import collections
import functools
import itertools
import random
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

Snapshot = dict[str, Any]
"""By path, `.act.slope` say: a plain value, or a tensor."""

PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type(...),
    range,
    slice,
    torch.dtype,
    torch.device,
    torch.Size,
)
OWN = ("tests.", "trust_", "fuzz_", "__main__")
"""What classes, functions and modules are looked into begins with one of these: those that the tests have written."""


def snapshot(root: Any) -> Snapshot:
    """Return what can be reached from an object."""
    found: Snapshot = {}
    seen: dict[int, str] = {}
    kept: list[Any] = []  # so that no address is used twice meanwhile
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, PLAIN) and not isinstance(value, torch.Size):
            found[path] = (type(value).__name__, value)
            continue
        if id(value) in seen:
            found[path] = f"the same as {seen[id(value)]}"
            continue
        seen[id(value)] = path
        kept.append(value)
        found[path] = type(value).__qualname__
        waiting += [(path + key, part) for key, part in _parts(value, path, found)][::-1]
    return found


def global_randomness() -> Snapshot:
    """Return the states of everybody's sources of random numbers."""
    states = {"random": repr(random.getstate()), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002
    return snapshot(states)


def _parts(value: Any, path: str, found: Snapshot) -> Iterator[tuple[str, Any]]:
    """Yield what a value consists of."""
    if isinstance(value, Tensor):
        found[path] = value.detach().to_dense().clone()
        yield ".requires_grad", value.requires_grad
        if value.is_leaf:
            yield ".grad", value.grad
        yield from _attributes(value)
    elif isinstance(value, np.ndarray):
        yield ".values", torch.from_numpy(value.copy()) if value.dtype.kind in "fiub" else value.tolist()
    elif isinstance(value, torch.Generator):
        yield ".state", value.get_state()
    elif isinstance(value, random.Random):
        yield ".state", repr(value.getstate())  # one text: as numbers it would be 625 parts
    elif isinstance(value, np.random.Generator):
        yield ".state", value.bit_generator.state
    elif isinstance(value, dict):
        for i, (key, item) in enumerate(value.items()):
            # Hooks are numbered over the whole process.
            yield f"[{i if 'hooks' in path else repr(key)}]", item
        if type(value) not in (dict, collections.OrderedDict):
            yield from _attributes(value)
    elif isinstance(value, list | tuple | collections.deque):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield "{}", sorted(map(repr, value))
    else:
        yield from _parts_of_code(value)


def _parts_of_code(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, types.FunctionType):
        yield ".__name__", value.__qualname__
        if _is_own(value):
            yield ".__defaults__", value.__defaults__
            yield ".__kwdefaults__", value.__kwdefaults__
            yield ".__dict__", vars(value)
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                yield f"<{name}>", cell.cell_contents if _filled(cell) else "nothing yet"
    elif isinstance(value, functools.partial):
        yield from ((f".{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    elif isinstance(value, functools._lru_cache_wrapper):
        yield ".cache_info", tuple(value.cache_info())
        yield ".__wrapped__", value.__wrapped__
    elif isinstance(value, itertools.count):
        yield ".repr", repr(value)
    elif isinstance(value, weakref.ref):
        yield "()", value()
    elif isinstance(value, type):
        yield ".__name__", value.__qualname__
        if _is_own(value):
            names = [name for name in vars(value) if not name.startswith(("__", "_abc_"))]
            yield from ((f".{name}", vars(value)[name]) for name in names)
    elif isinstance(value, types.ModuleType):
        if value.__name__.startswith(OWN):
            yield from ((f".{name}", v) for name, v in vars(value).items() if not name.startswith("__"))
    else:
        yield ".__class__", type(value)
        yield from _attributes(value)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    # Not by getattr, which may run what the tests have put in its way.
    for name, part in getattr(value, "__dict__", {}).items():
        if not name.startswith("_dynamo_"):  # by which PyTorch's compiler knows parameters again
            yield f".{name}", part
    for kind in type(value).__mro__:
        if _is_own(kind):
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    yield f".{name}", getattr(value, name)


def _is_own(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith(OWN)


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def differences(got: Snapshot, want: Snapshot, floor: float = 1e-6, relative: float = 1e-4) -> list[str]:
    """Say where two snapshots differ.

    Parameters
    ----------
    got, want : Snapshot
    floor : float
        Tensors may differ by this,
    relative : float
        or by this share of the largest value of the wanted one.
    """
    close: Callable[[Any, Any], str] = functools.partial(_difference, floor=floor, relative=relative)
    missing = [f"{path}: absent, expected {_shown(want[path])}" for path in want if path not in got]
    extra = [f"{path}: {_shown(got[path])}, expected nothing" for path in got if path not in want]
    both = [f"{path}: {text}" for path in want if path in got for text in [close(got[path], want[path])] if text]
    return missing + extra + both


def _difference(got: Any, want: Any, floor: float, relative: float) -> str:
    if not (isinstance(got, Tensor) and isinstance(want, Tensor)):
        same = type(got) is type(want) and (got == want or (got != got and want != want))
        return "" if same else f"{_shown(got)}, expected {_shown(want)}"
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{_shown(got)}, expected {_shown(want)}"
    if not want.is_floating_point():
        return "" if torch.equal(got, want) else f"{_shown(got)}, expected {_shown(want)}"
    finite = want.nan_to_num(0.0, 0.0, 0.0)
    largest = float(finite.abs().max()) if want.numel() else 0.0
    if torch.allclose(got, want, rtol=0.0, atol=floor + relative * largest, equal_nan=True):
        return ""
    return f"differs by {float((got - want).abs().max()):.2g}, where the largest is {largest:.2g}"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}" + (f" {value.tolist()}" if value.numel() < 8 else "")
    return repr(value)[:100]
