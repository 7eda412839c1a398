"""The tables of a report, as text in cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.targets import GROUPS, OUTSIDE, all_targets, worst

CASE = ("config", "cell", "lengths", "mode")
TEXT = (*CASE, "target", "met?", "targets", "furthest off", "first call of a new cell")
"""Columns of text; numbers are aligned to the right."""

INSIDE = {"padded": "torch padded", "packed": "torch packed", "eager": "eager loop"}
MAIN = (*CASE, "ours ms", "static ms", "GFLOP/s", "% peak", *INSIDE.values(), "ratio", "target", "met?")
PEERS = (*CASE, "ours ms", "reset before ms", "Keras", "TF1", "lax.scan", "Keras/", "TF1/", "scan/", "target", "met?")
MEMORY = (*CASE[:3], "kept MiB", "results MiB", "ours MiB", "padded MiB", "packed MiB", "over kept", "target", "met?")
FIRST = ("first call of a new cell", "first ms", "second ms", "reading, checking, planning ms", "target", "met?")
SHOWN = ("ratio", "peak", *OUTSIDE, "memory")
"""Quantities that have columns of their own."""


@dataclass(frozen=True)
class Found:
    """A table.

    Attributes
    ----------
    title : str
    headers : tuple of str
    rows : list of list of str
    """

    title: str
    headers: tuple[str, ...]
    rows: list[list[str]]

    @property
    def left(self) -> list[bool]:
        """Return which columns are aligned to the left."""
        return [name in TEXT for name in self.headers]

    def markdown(self) -> Iterator[str]:
        """Yield the lines."""
        yield from ("", f"### {self.title}", "", f"| {' | '.join(self.headers)} |")
        yield f"| {' | '.join('---' if left else '---:' for left in self.left)} |"
        yield from (f"| {' | '.join(row)} |" for row in self.rows)


def tables(report: Mapping[str, Any]) -> list[Found]:
    """Return all tables of a report that have rows.

    Parameters
    ----------
    report : dict
    """
    results = report["results"]
    right = [result for result in results if not result["wrong"]]
    found = [
        Found("Speed", MAIN, [main_row(result) for result in results]),
        Found("Peers", PEERS, [peer_row(result) for result in right if OUTSIDE.keys() & result["times"].keys()]),
        Found("Memory of a training step", MEMORY, [memory_row(result) for result in right if "memory" in result]),
        Found("First calls", FIRST, [first_row(entry) for entry in report["first_calls"]]),
        Found("Targets", ("targets", "met", "judged", "noisy", "furthest off"), list(_groups(report))),
    ]
    return [table for table in found if table.rows]


def main_row(result: Mapping[str, Any]) -> list[str]:
    """Return the cells of a result's row, in the order of `MAIN`.

    Parameters
    ----------
    result : dict
        Judged.
    """
    head = [result[name] for name in CASE]
    if result["wrong"]:
        return [*head, *["-"] * 8, "equal numbers", f"WRONG: {result['wrong']}"]
    ours = _ms(result, "ours") + ("" if result["backend"] == "native" else f" ({result['backend']})")
    values = result["values"]
    return [
        *head, ours, _ms(result, "static"), f"{result['gflops']:.0f}", f"{values['peak']:.0%}",
        *(_ms(result, role) for role in INSIDE), f"{values['ratio']:.2f}",
        *_verdicts(result, "ratio", "peak", "us_per_step", "over_builtin"),
    ]  # fmt: skip


def peer_row(result: Mapping[str, Any]) -> list[str]:
    """Return the cells of a result's row, in the order of `PEERS`.

    Parameters
    ----------
    result : dict
        Judged.
    """
    values = result["values"]
    ratios = [f"{values[role]:.2f}" if role in values else "" for role in OUTSIDE]
    times = [_ms(result, role) for role in ("ours", "before", *OUTSIDE)]
    return [*(result[name] for name in CASE), *times, *ratios, *_verdicts(result, *OUTSIDE)]


def memory_row(result: Mapping[str, Any]) -> list[str]:
    """Return the cells of a result's row, in the order of `MEMORY`.

    Parameters
    ----------
    result : dict
        Judged.
    """
    sizes = [
        number(result["memory"][name]) if name in result["memory"] else ""
        for name in ("kept", "results", "ours", "padded", "packed")
    ]
    over = f"{result['values']['memory']:.2f}" if "memory" in result["values"] else "-"
    return [*(result[name] for name in CASE[:3]), *sizes, over, *_verdicts(result, "memory")]


def first_row(entry: Mapping[str, Any]) -> list[str]:
    """Return the cells of a first call's row, in the order of `FIRST`.

    Parameters
    ----------
    entry : dict
    """
    medians = [number(entry[name][0]) for name in ("first", "second", "extra")]
    return [f"T = {entry['steps']:,}", *medians, *_verdicts(entry, "first_call")]


def number(value: float) -> str:
    """Return a number with the three digits that mean something.

    Parameters
    ----------
    value : float
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _ms(result: Mapping[str, Any], role: str) -> str:
    """Return a contender's median, marked if it is noisy."""
    if role not in result["times"]:
        return ""
    return number(result["times"][role][0]) + ("~" if role in result["noisy"] else "")


def _verdicts(entry: Mapping[str, Any], *quantities: str) -> list[str]:
    """Return the targets of these quantities and whether they are met, with the value where no column shows it."""
    chosen = [target for target in entry["targets"] if target["quantity"] in quantities]
    words = []
    for target in chosen:
        word = {True: "yes", False: "no", None: "noisy"}[target["met"]]
        words.append(word if target["quantity"] in SHOWN else f"{word} ({target['value']:.3g})")
    return [", ".join(target["text"] for target in chosen), ", ".join(words)]


def _groups(report: Mapping[str, Any]) -> Iterator[list[str]]:
    everything = all_targets(report)
    for quantity, words in GROUPS.items():
        targets = [target for target in everything if target["quantity"] == quantity]
        verdicts = [target["met"] for target in targets]
        noisy = verdicts.count(None)
        if targets:
            off = worst(targets)
            shown = "" if off is None else f"{off['value']:.3g} ({off['text']})"
            yield [words, str(verdicts.count(True)), str(len(targets) - noisy), str(noisy), shown]
