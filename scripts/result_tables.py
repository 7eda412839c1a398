"""Write the tables of results into README.md and docs/: docs/results/*.json between two comments.

    python scripts/result_tables.py

A table stands between ``<!-- results NAME NAME ... -->`` and ``<!-- end -->``; a name is that of a JSON file, which
`scripts/experiments.py` has written. Between ``<!-- comparison FIGURE -->`` and ``<!-- end -->`` stands one of the
tables that `unspool compare` prints, of docs/results/comparison.json. Between ``<!-- examples -->`` or
``<!-- foreign cells -->`` and ``<!-- end -->`` stands what the file of that name in benchmarks/results says.
"""

import io
import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

from rich import box
from rich.console import Console

from unspool.comparison import Comparison, busy
from unspool.comparison._tables import comparison_tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
MEASURED = ROOT / "benchmarks" / "results"
_KINDS = "results|comparison|examples|foreign cells"
_MARKED = re.compile(rf"(<!-- ({_KINDS})(?: ([^>]+?))? -->\n).*?<!-- end -->", re.DOTALL)


def pages() -> list[Path]:
    """Return the files that may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def with_tables(text: str, results: Path = RESULTS) -> str:
    """Return a page with its tables made anew.

    Parameters
    ----------
    text : str
        The page.
    results : Path
        Where the JSON files are.
    """

    def made(match: re.Match[str]) -> str:
        begin, kind, names = match.groups()
        if kind == "results":
            tables = table([_read(results / f"{name}.json") for name in names.split()])
        elif kind == "comparison":
            tables = comparison_table(names, results)
        elif kind == "examples":
            tables = examples_table(_read(MEASURED / "examples.json"))
        else:
            tables = foreign_cells_table(_read(MEASURED / "foreign_cells.json"))
        return f"{begin}{tables}\n<!-- end -->"

    return _MARKED.sub(made, text)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _markdown(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Return a table whose first columns, so many, are aligned to the left, and the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def foreign_cells_table(report: dict[str, Any]) -> str:
    """Return the table of the cells of other packages: a row for each.

    Parameters
    ----------
    report : dict
        What `scripts/foreign_cells.py` writes.
    """
    head = ["cell", "runs on", "own loop, ms", "unspool, ms", "times faster"]
    return _markdown(head, [_foreign_cell(row) for row in report["cells"]], left=2)


def _foreign_cell(row: dict[str, Any]) -> list[str]:
    own, ours = row.get("own_ms"), row.get("unspool_ms")
    times = [f"{own:.3g}", f"{ours:.3g}", f"{own / ours:.1f}"] if own else [""] * 3
    return [row["name"], row["backend"], *times]


def examples_table(report: dict[str, Any]) -> str:
    """Return the table of training steps before and after `accelerate`, and what it was made on.

    Parameters
    ----------
    report : dict
        What `python -m benchmarks.examples` writes.
    """
    head = ["model", "threads", "B", "real tokens", "before, ms", "after, ms", "ratio", "losses differ by"]
    return _markdown(head, [_example(result) for result in report["results"]]) + "\n\n" + _made(report)


def _made(report: dict[str, Any]) -> str:
    """Return how and on what the models' steps were measured."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    warning = f"**{busy(machine)}** " if busy(machine) else ""
    return (
        f"{warning}{report['date'][:10]}, {machine['cpu']}, {machine['instruction_set']}; {versions}. Made by "
        f"`{report['command']}`; data: {report['data']}. Times are medians with the least and the most; ratios are "
        "those of the medians, with the quartiles over the steps."
    )


def _example(result: dict[str, Any]) -> list[str]:
    case = [result["example"], str(result["threads"]), str(result["batch"]), f"{result['real']:.0%}"]
    if result["wrong"]:
        return [*case, "-", "-", "-", f"WRONG: {result['wrong']}"]
    times = [
        f"{median:.1f} ({least:.1f} to {most:.1f})" for median, least, most, _ in (result["before"], result["after"])
    ]
    low, high = result["ratio_quartiles"]
    return [*case, *times, f"{result['ratio']:.2f} ({low:.2f} to {high:.2f})", f"{result['apart']:.1e}"]


def comparison_table(figure: str, results: Path = RESULTS) -> str:
    """Return one of the tables that `unspool compare` prints.

    Parameters
    ----------
    figure : str
        What is measured, as `comparison_tables` names it.
    results : Path
        Where comparison.json is.
    """
    found = Comparison.from_json((results / "comparison.json").read_text(encoding="utf-8"))
    drawn = comparison_tables(found, ", ")[figure]
    drawn.box, drawn.title = box.MARKDOWN, None
    for column in drawn.columns:
        column.no_wrap = True
    told = io.StringIO()
    Console(file=told, width=10_000).print(drawn)
    lines = [line.strip() for line in told.getvalue().splitlines()]
    return "\n".join(re.sub(r" +", " ", line) for line in lines if line)


def table(experiments: list[dict[str, Any]]) -> str:
    """Return a table with a row for each experiment; what was published stands beside what was reached.

    Parameters
    ----------
    experiments : list of dict
        What `scripts/experiments.py` writes.
    """
    published = any(experiment["published"] for experiment in experiments)
    head = ["experiment", "parameters", "test accuracy", "test loss", "seconds per epoch"]
    if published:
        head[3:3] = ["published"]
        head.append("published")
    return _markdown(head, [_row(experiment, published) for experiment in experiments])


def _row(experiment: dict[str, Any], published: bool) -> list[str]:
    theirs = experiment["published"] or {}
    cells = [
        experiment["name"],
        f"{experiment['parameters']:,}",
        _spread(experiment, "test_accuracy", ".4f"),
        _spread(experiment, "test_loss", ".3f"),
        f"{mean(run['seconds_per_epoch'] for run in experiment['runs']):.3g}",
    ]
    if published:
        cells[3:3] = [f"{theirs['test_accuracy']:.4f}" if "test_accuracy" in theirs else ""]
        cells.append(f"{theirs['seconds_per_epoch']:g}" if "seconds_per_epoch" in theirs else "")
    return cells


def _spread(experiment: dict[str, Any], figure: str, form: str) -> str:
    """Return the mean over the seeds, with the smallest and the largest."""
    values = [run[figure] for run in experiment["runs"]]
    if len(values) == 1:
        return format(values[0], form)
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Write all tables."""
    for path in pages():
        old = path.read_text(encoding="utf-8")
        new = with_tables(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
