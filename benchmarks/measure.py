"""How long does it take? Contenders take turns, so that a noisy moment hits all of them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import unspool as us
from benchmarks.cells import LayerNormLSTMCell
from benchmarks.configurations import Case
from benchmarks.contenders import Contender, prepare
from benchmarks.memory import measure_memory
from benchmarks.peers import Peer, Peers
from benchmarks.targets import FIRST_CALL, measures_memory
from benchmarks.verify import verify, verify_contenders
from unspool import _engine
from unspool.comparison._process import PeerError
from unspool.comparison.peers.protocol import timed


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
    slow: int = 7
    slow_seconds: float = 2.0
    seconds: float = 0.3


QUICK = Effort(least=5, most=15, slow=1, seconds=0.2)

Timing = list[float]
"""Milliseconds of one contender: median, least, most; and how often it ran."""


def timing(seconds: Sequence[float]) -> Timing:
    """Sum up measured seconds.

    Parameters
    ----------
    seconds : sequence of float
    """
    ms = [1e3 * s for s in seconds]
    return [statistics.median(ms), min(ms), max(ms), len(ms)]


def measure_case(case: Case, effort: Effort, peers: Peers, memory: bool = True) -> dict[str, Any]:
    """Check a case, then time it, then measure its memory.

    A peer that fails takes no part any more, and the case is measured again.

    Parameters
    ----------
    case : Case
    effort : Effort
    peers : Peers
        Those in processes of their own that take part.
    memory : bool
        Whether to measure memory.

    Returns
    -------
    dict
        What goes into the JSON. A case whose numbers are wrong has `wrong` and no times.
    """
    while True:
        # Peers have the built-in cells, and rows that can be ragged are what they are compared on.
        some = peers.running if case.kind.is_builtin and case.shape.batch > 1 else []
        try:
            return _measure_case(case, effort, some, memory)
        except PeerError as error:
            peers.drop(error)


def _measure_case(case: Case, effort: Effort, peers: Sequence[Peer], memory: bool) -> dict[str, Any]:
    shape = case.shape
    result: dict[str, Any] = {
        "config": shape.name, "shape": [shape.batch, shape.steps, shape.inputs, shape.hidden], "cell": case.kind.name,
        "lengths": case.lengths, "mode": case.mode, "tokens": case.tokens, "real": case.share, "gflop": case.gflop,
        "times": {},
    }  # fmt: skip
    wrong, first, contenders = verify(case), {}, []
    if not wrong:
        contenders, result["backend"] = prepare(case, peers)
        wrong, first = verify_contenders(contenders)
    result["wrong"] = wrong
    if wrong:
        return result
    result["times"] = times = {
        role: timing(seconds) for role, seconds in _interleaved(contenders, first, effort).items()
    }
    medians = {role: median for role, (median, *_) in times.items()}
    ours = medians["ours"]
    result["gflops"] = case.gflop / ours * 1e3
    result["values"] = values = {
        "ratio": min(medians[role] for role in ("padded", "packed", "eager") if role in medians) / ours,
        "us_per_step": 1e3 * ours / int(shape.lengths(case.lengths).max(1).values.sum()),
    }
    outside = {peer.role for peer in peers}
    values |= {c.role: medians[c.role] / medians[c.against] for c in contenders if c.role in outside}
    if "builtin" in medians:
        values["over_builtin"] = ours / medians["builtin"]
    if memory and measures_memory(case):
        result["memory"] = sizes = measure_memory(case)
        if "ours" in sizes:
            values["memory"] = (sizes["ours"] - sizes["results"]) / sizes["kept"]
    return result


def measure_peak() -> float:
    """Measure what the machine's cores can do at most, in GFLOP/s: that of one core times the threads in use."""
    return _engine.measure_peak_gflops(0.2) * torch.get_num_threads()


def first_calls(repetitions: int = 3) -> list[dict[str, Any]]:
    """Time the first call of a cell that was never seen before, at T = 10 and T = 10,000, against its second call.

    The difference is what reading, checking and planning the step costs.

    Parameters
    ----------
    repetitions : int
        With a new cell each.
    """
    found = []
    for steps in (10, 10_000):
        first, second = [], []
        x = torch.randn(steps, 4, 32)
        for _ in range(repetitions):
            run = partial(us.RNN(LayerNormLSTMCell(32, 64)), x)
            with torch.no_grad():
                first.append(timed(run)[0])
                second.append(timed(run)[0])
        extra = [a - b for a, b in zip(first, second, strict=True)]
        found.append({
            "steps": steps, "first": timing(first), "second": timing(second), "extra": timing(extra),
            "targets": [FIRST_CALL.judged(statistics.median(extra))],
        })  # fmt: skip
    return found


def _interleaved(contenders: Sequence[Contender], first: dict[str, float], effort: Effort) -> dict[str, list[float]]:
    """Time the contenders round by round; each round begins with another one. `first` is what their first run took."""
    rounds = {}
    for contender in contenders:
        few = contender.slow or first[contender.role] > effort.slow_seconds
        once = contender.seconds()
        wished = min(max(round(effort.seconds / max(once, 1e-9)), effort.least), effort.most)
        rounds[contender.role] = effort.slow if few and once > effort.seconds / effort.least else wished
    times: dict[str, list[float]] = {contender.role: [] for contender in contenders}
    gc.collect()
    for turn in range(max(rounds.values())):
        shift = turn % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            if len(times[contender.role]) < rounds[contender.role]:
                times[contender.role].append(contender.seconds())
    return times
