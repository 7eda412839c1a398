"""What a case is held against, and whether it keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.configurations import Case

NOISY = 1.5
"""A contender is noisy, and no target that involves it is judged, where its median is that many times its least."""

OUTSIDE = {"keras": "Keras", "tf1": "TensorFlow 1 dynamic_rnn", "jax": "lax.scan"}
"""Peers in processes of their own: by role, what they are called in tables."""

WORDS = {
    "ratio": "{:g}x",
    "peak": "{:.0%} of peak",
    "us_per_step": "{:g} µs a step",
    "over_builtin": "{:g}x the built-in's time",
    "memory": "{:g}x what must be kept",
    "first_call": "{:g} s",
    **{role: f"{{:g}}x {name}" for role, name in OUTSIDE.items()},
}
GROUPS = {
    "ratio": "against the best of PyTorch's paths, or an eager loop",
    "peak": "share of the measured peak",
    "us_per_step": "B = 1: time of a step",
    "over_builtin": "a user's LSTM against `us.LSTM`",
    "memory": "memory of a training step",
    "first_call": "first call of a new cell",
    **{role: f"training on ragged batches against {name}" for role, name in OUTSIDE.items()},
}
"""By quantity, what it is about."""


@dataclass(frozen=True)
class Target:
    """A floor (`at_least`) or a ceiling for one measured quantity.

    Attributes
    ----------
    quantity : str
        A key of `WORDS`.
    bound : float
    at_least : bool
    """

    quantity: str
    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Tell whether a value keeps the bound; one that is not a number does not.

        Parameters
        ----------
        value : float
        """
        return value >= self.bound if self.at_least else value <= self.bound

    def judged(self, value: float, noisy: bool = False) -> dict[str, Any]:
        """Return what goes into the JSON; `met` is None for noise.

        Parameters
        ----------
        value : float
        noisy : bool
        """
        return {
            "quantity": self.quantity, "text": str(self), "bound": self.bound, "at_least": self.at_least,
            "value": value, "met": None if noisy else self.met(value),
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {WORDS[self.quantity].format(self.bound)}"


FIRST_CALL = Target("first_call", 0.5, at_least=False)
MEMORY = Target("memory", 1.1, at_least=False)

TRAIN_RATIOS = {
    ("LSTM", "mnist"): (1.05, 1.7),
    ("LSTM", "imdb"): (1.6, 3.0),
    ("LSTM", "mid"): (1.05, 1.7),
    ("LSTM", "big"): (1.0, 1.6),
    ("GRU", "mnist"): (2.0, 3.0),
    ("GRU", "imdb"): (2.4, 4.0),
    ("GRU", "mid"): (1.6, 2.6),
    ("GRU", "big"): (1.4, 2.0),
    ("SimpleRNN", "mnist"): (1.5, 2.4),
    ("SimpleRNN", "imdb"): (2.0, 3.2),
    ("SimpleRNN", "mid"): (1.1, 2.0),
    ("SimpleRNN", "big"): (1.2, 1.8),
}
"""Floors for training against the better of torch padded and packed: (full, ragged)."""


def measures_memory(case: Case) -> bool:
    """Tell whether the memory of a case is measured; that of users' cells is on ragged batches only.

    Parameters
    ----------
    case : Case
    """
    return case.mode == "train" and case.shape.batch > 1 and (case.kind.is_builtin or case.lengths != "full")


def targets_of(case: Case) -> list[Target]:
    """Return what a case is held against.

    Parameters
    ----------
    case : Case
    """
    shape, kind, found = case.shape, case.kind, []
    uneven = case.lengths != "full"
    if measures_memory(case):
        found.append(MEMORY)
    if not kind.is_builtin:
        if case.mode == "train" and uneven and shape.steps >= 200:
            found.append(Target("ratio", 8.0))
        if kind.builtin is not None:
            found.append(Target("over_builtin", 1.25, at_least=False))
        return found
    if shape.batch == 1:
        if kind.gates > 1 and case.mode == "forward":
            found.append(Target("us_per_step", 60.0 if shape.steps == 1 else 15.0, at_least=False))
        return found
    if case.mode == "train":
        # Lengths of reviews are held against the floors of the same shape with lengths that are spread evenly.
        full, ragged = TRAIN_RATIOS[kind.name, shape.name.split("-")[0]]
        found.append(Target("ratio", ragged if uneven else full))
        found += [Target(role, 3.0) for role in OUTSIDE] if uneven else []
    else:
        found.append(Target("ratio", 1.6 if uneven else 1.0 if kind.name == "LSTM" else 1.5))
    if kind.gates > 1:
        found.append(Target("peak", 0.75 if case.mode == "forward" else 0.60))
    return found


def judge(case: Case, result: Mapping[str, Any], peak: float) -> dict[str, Any]:
    """Return a result with the share of the peak, and with the targets that could be measured.

    Parameters
    ----------
    case : Case
    result : dict
        As `measure_case` gives it.
    peak : float
        GFLOP/s.
    """
    if result["wrong"]:
        return {**result, "targets": []}
    values = {**result["values"], "peak": result["gflops"] / peak}
    noisy = {role for role, (median, least, *_) in result["times"].items() if median > NOISY * least}
    targets = [
        target.judged(values[target.quantity], bool(noisy & involved(target.quantity, result["times"])))
        for target in targets_of(case)
        if target.quantity in values
    ]
    return {**result, "values": values, "noisy": sorted(noisy), "targets": targets}


def involved(quantity: str, roles: Iterable[str]) -> set[str]:
    """Return the contenders whose times a quantity is made of.

    Parameters
    ----------
    quantity : str
    roles : iterable of str
        Those who took part.
    """
    parts = {
        "ratio": {"ours", "padded", "packed", "eager"}, "over_builtin": {"ours", "builtin"}, "memory": set(),
        "keras": {"ours", "keras"}, "jax": {"ours", "jax"}, "tf1": {"tf1", "before" if "before" in roles else "ours"},
    }  # fmt: skip
    return parts.get(quantity, {"ours"}) & set(roles)


def all_targets(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the targets of all cases and of first calls.

    Parameters
    ----------
    report : dict
    """
    return [target for entry in (*report["results"], *report["first_calls"]) for target in entry["targets"]]


def summary(targets: Iterable[Mapping[str, Any]]) -> str:
    """Return in one line how many targets are met.

    Parameters
    ----------
    targets : iterable of dict
    """
    verdicts = [target["met"] for target in targets]
    noisy = verdicts.count(None)
    return f"Targets: {verdicts.count(True)} of {len(verdicts) - noisy} met; {noisy} not judged because of noise."


def worst(targets: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the judged target whose value is furthest from its bound, as a share of it; None where there is none.

    Parameters
    ----------
    targets : iterable of dict
    """
    judged = [target for target in targets if target["met"] is not None]
    return max(judged, key=_distance, default=None)


def _distance(target: Mapping[str, Any]) -> float:
    """Return how many times a value is worse than its bound."""
    value = max(target["value"], 1e-9)
    return target["bound"] / value if target["at_least"] else value / target["bound"]
