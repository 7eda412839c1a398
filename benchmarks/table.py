"""Tables from a results file: on the terminal, and in the documentation between two marker comments.

`python -m benchmarks.table benchmarks/results/NAME.json` writes them into `docs/benchmarks.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- tables: begin (made by benchmarks.table; do not edit) -->"
END = "<!-- tables: end -->"
COLUMNS = (
    "config", "cell", "lengths", "mode", "ours ms", "GFLOP/s", "% peak", "torch padded", "torch packed", "eager loop",
    "ratio", "target", "met",
)  # fmt: skip
LEFT_ALIGNED = ("config", "cell", "lengths", "mode", "target", "met")


def row_of(result: dict[str, Any]) -> list[str]:
    """Return the cells of a result's row, in the order of `COLUMNS`."""
    head = [result["config"], result["cell"], result["lengths"], result["mode"]]
    if result["wrong"]:
        return [*head, *["-"] * 7, "equal numbers", f"WRONG: {result['wrong']}"]
    times = result["times"]

    def ms(role: str) -> str:
        return milliseconds(times[role]["median"]) if role in times else ""

    targets = result["targets"]
    met = "noisy" if result["noisy"] else ", ".join(_verdict(target) for target in targets)
    ours = ms("ours") if result["backend"] == "native" else f"{ms('ours')} ({result['backend']})"
    return [
        *head, ours, f"{result['gflops']:.0f}", f"{result['peak']:.0%}", ms("padded"), ms("packed"), ms("eager"),
        f"{result['ratio']:.2f}", ", ".join(target["text"] for target in targets), met,
    ]  # fmt: skip


def milliseconds(value: float) -> str:
    """Return a time with three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _verdict(target: dict[str, Any]) -> str:
    """Return yes or no, with the value where no column shows it."""
    word = "yes" if target["met"] else "no"
    return word if target["quantity"] in ("ratio", "peak") else f"{word} ({target['value']:.3g})"


def markdown(report: dict[str, Any]) -> str:
    """Return all tables of a report."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    machine, peak = report["machine"], report["peak_gflops"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    yield (
        f"{report['date'][:10]}, {machine['cpu']}, {machine['threads']} threads, {machine['instruction_set']}, "
        f"measured peak {peak['median']:.0f} GFLOP/s ({peak['least']:.0f} to {peak['most']:.0f} during the run); "
        f"{versions}. Made by `{report['command']}`. Times are medians in ms."
    )
    if machine["load"] and machine["load"][0] > machine["cores"] / 2:
        yield from ("", f"**The machine was busy (load {machine['load'][0]}): these ratios show nothing.**")
    yield from ("", f"| {' | '.join(COLUMNS)} |")
    yield f"| {' | '.join('---' if name in LEFT_ALIGNED else '---:' for name in COLUMNS)} |"
    yield from (f"| {' | '.join(row_of(result))} |" for result in report["results"])
    if report["first_calls"]:
        yield from ("", "| first call of a new cell | first ms | second ms | reading, checking, planning ms |")
        yield "| --- | ---: | ---: | ---: |"
        for entry in report["first_calls"]:
            medians = " | ".join(milliseconds(entry[name]["median"]) for name in ("first", "second", "extra"))
            yield f"| T = {entry['steps']:,} | {medians} |"


def insert(text: str, tables: str) -> str:
    """Put tables between the markers of a document.

    Raises
    ------
    ValueError
        If the document does not have both markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN!r} or, after it, {END!r}; add them where the tables belong.")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main(
    results: Annotated[Path, typer.Argument(help="A results file of benchmarks.run.")],
    document: Annotated[Path, typer.Option(help="The document to write into.")] = DOCUMENT,
) -> None:
    """Write the tables of a results file into the documentation."""
    report = json.loads(results.read_text(encoding="utf-8"))
    document.write_text(insert(document.read_text(encoding="utf-8"), markdown(report)), encoding="utf-8")
    typer.echo(f"wrote {document}")


if __name__ == "__main__":
    typer.run(main)
