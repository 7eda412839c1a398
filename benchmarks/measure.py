"""How long does it take? Contenders take turns, so that a noisy moment hits all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

import unspool as us
from benchmarks.cells import LayerNormLSTMCell
from benchmarks.configurations import Case
from benchmarks.contenders import Contender, prepare
from benchmarks.verify import verify, verify_contenders
from unspool import _engine


@dataclass(frozen=True)
class Effort:
    """How often to measure.

    Attributes
    ----------
    least, most : int
        Repetitions of a contender.
    slow : int
        Repetitions of one that takes more than `slow_seconds`, and of Python loops.
    slow_seconds : float
    seconds : float
        Fast contenders are repeated until they have taken that long, within `least` and `most`.
    """

    least: int = 7
    most: int = 51
    slow: int = 3
    slow_seconds: float = 2.0
    seconds: float = 1.0


QUICK = Effort(least=5, most=15, slow=1, seconds=0.2)


NOISY = 1.5
"""A case is noisy, and no target is judged, where a median is more than that many times the least."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one contender: median, least, most, and how often it ran."""

    median: float
    least: float
    most: float
    repetitions: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Sum up measured seconds."""
        ms = [1e3 * s for s in seconds]
        return cls(statistics.median(ms), min(ms), max(ms), len(ms))


def measure_case(case: Case, effort: Effort) -> dict[str, Any]:
    """Check a case, then time it.

    Returns
    -------
    dict
        What goes into the JSON. A case whose numbers are wrong has `wrong` and no times.
    """
    result: dict[str, Any] = {
        "config": case.shape.name, "shape": asdict(case.shape), "cell": case.kind.name, "lengths": case.lengths,
        "mode": case.mode, "tokens": case.tokens, "gflop": case.gflop, "wrong": "", "times": {},
    }  # fmt: skip
    wrong = verify(case)
    prepared = prepare(case)
    result["backend"] = prepared.backend
    if wrong:
        return {**result, "wrong": wrong}
    wrong, first = verify_contenders(prepared.contenders)
    if wrong:
        return {**result, "wrong": wrong}
    taken = _interleaved(prepared.contenders, first, effort)
    times = {role: Timing.of(seconds) for role, seconds in taken.items()}
    ours = times["ours"].median
    result["times"] = {role: asdict(timing) for role, timing in times.items()}
    result["gflops"] = case.gflop / ours * 1e3
    result["us_per_step"] = 1e3 * ours / case.shape.steps
    peers = [times[role].median for role in ("padded", "packed", "eager") if role in times]
    result["ratio"] = min(peers) / ours
    result["noisy"] = any(timing.median > NOISY * timing.least for timing in times.values())
    if "builtin" in times:
        result["over_builtin"] = ours / times["builtin"].median
    return result


def judge(case: Case, result: dict[str, Any], peak: float) -> dict[str, Any]:
    """Add the share of the peak, and which targets are met."""
    if result["wrong"]:
        return {**result, "targets": []}
    result = {**result, "peak": result["gflops"] / peak}
    targets = [
        {"quantity": t.quantity, "text": str(t), "value": result[t.quantity], "met": t.met(result[t.quantity])}
        for t in case.targets
    ]
    return {**result, "targets": targets}


def measure_peak() -> float:
    """Measure what the machine's cores can do at most, in GFLOP/s: that of one core times the threads in use."""
    return _engine.measure_peak_gflops(0.2) * torch.get_num_threads()


def first_calls(repetitions: int = 3) -> list[dict[str, Any]]:
    """Time the first call of a cell that was never seen before, at T = 10 and T = 10,000, against its second call.

    The difference is what reading, checking and planning the step costs.
    """
    found = []
    for steps in (10, 10_000):
        first, second = [], []
        x = torch.randn(steps, 4, 32)
        for _ in range(repetitions):
            run = partial(us.RNN(LayerNormLSTMCell(32, 64)), x)
            with torch.no_grad():
                first.append(_seconds(run))
                second.append(_seconds(run))
        extra = [a - b for a, b in zip(first, second, strict=True)]
        found.append(
            {"steps": steps} | {
                name: asdict(Timing.of(seconds))
                for name, seconds in (("first", first), ("second", second), ("extra", extra))
            }
        )  # fmt: skip
    return found


def _interleaved(contenders: Sequence[Contender], first: dict[str, float], effort: Effort) -> dict[str, list[float]]:
    """Time the contenders round by round; each round begins with another one. `first` is what their first run took."""
    rounds = {}
    for contender in contenders:
        few = contender.slow or first[contender.role] > effort.slow_seconds
        once = first[contender.role] if few else _seconds(contender.run)
        wished = min(max(round(effort.seconds / max(once, 1e-9)), effort.least), effort.most)
        rounds[contender.role] = effort.slow if few else wished
    times: dict[str, list[float]] = {contender.role: [] for contender in contenders}
    gc.collect()
    for turn in range(max(rounds.values())):
        shift = turn % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            if len(times[contender.role]) < rounds[contender.role]:
                times[contender.role].append(_seconds(contender.run))
    return times


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
