"""Tables from a results file: on the terminal, and in the documentation between two marker comments.

`python -m benchmarks.table benchmarks/results/NAME.json` writes them into `docs/benchmarks.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.rows import tables
from benchmarks.targets import OUTSIDE, all_targets, summary
from unspool.comparison import busy

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- tables: begin (made by benchmarks.table; do not edit) -->"
END = "<!-- tables: end -->"


def markdown(report: Mapping[str, Any]) -> str:
    """Return what a report says, with all tables.

    Parameters
    ----------
    report : dict
    """
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    machine, (peak, least, most) = report["machine"], report["peak_gflops"]
    threading = (
        ", ".join(f"{name}={value}" for name, value in machine["threading"].items()) or "no variables for threads"
    )
    yield (
        f"{report['date'][:10]}, {machine['cpu']}, {machine['threads']} threads ({threading}), "
        f"{machine['instruction_set']}, measured peak {peak:.0f} GFLOP/s ({least:.0f} to {most:.0f} during the run); "
        f"{_versions(machine['versions'])}. Made by `{report['command']}` in {report['seconds'] / 60:.0f} minutes. "
        "Times are medians in ms; ~ marks noisy ones."
    )
    if machine["load"] and busy(machine):
        yield from ("", f"**{busy(machine)}**")
    yield from ("", summary(all_targets(report)))
    for name, versions in report["peers"].items():
        yield from ("", f"{OUTSIDE[name]}: {_versions(versions)}.")
    for word in ("skipped", "failed"):
        for name, why in report[word].items():
            yield from ("", f"{OUTSIDE.get(name, name)}: {word}, {why}.")
    shares = {result["config"]: result["real"] for result in report["results"] if result["lengths"] != "full"}
    if shares:
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        yield from ("", f"Share of real tokens where lengths are not full: {listed}.")
    for table in reversed(tables(report)):  # what is short comes first
        yield from table.markdown()


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in versions.items())


def insert(text: str, made: str) -> str:
    """Put tables between the markers of a document.

    Parameters
    ----------
    text : str
        The document.
    made : str
        The tables.

    Raises
    ------
    ValueError
        If the document does not have both markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN!r} or, after it, {END!r}; add them where the tables belong.")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


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
