"""The report of a comparison of static and dynamic runs."""

from pathlib import Path
from typing import Any

from unspool.report._batching import batching_figures, batching_table
from unspool.report._blocks import Facts, Figure, Folded, Note, Table, Text
from unspool.report._comparison_json import check_comparison
from unspool.report._figures import significant
from unspool.report._page import Page, Section, write_page
from unspool.report._scaling import MEASURES, scaling_figure, scaling_table
from unspool.report._style import Style, contender_styles

_OUTCOMES = {"runs": "runs on", "rebuilds": "is built again", "refused": "refuses", "failed": "fails"}


def write_comparison_report(comparison: dict[str, Any], output: str | Path) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    comparison : dict
        What ``unspool compare`` writes as JSON.
    output : str or Path
        The file; a former one is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If `comparison` is of another form, the report cannot be written, or Plotly is absent.
    """
    return write_page(output, comparison_page(comparison))


def comparison_figures(comparison: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of what grows with the number of steps, by the names of their fields.

    Parameters
    ----------
    comparison : dict
        What ``unspool compare`` writes as JSON.

    Returns
    -------
    dict
        Under "step_s", "build_s", "first_call_s", "peak_mb" and "graph_nodes"; what nobody measured is left out.

    Raises
    ------
    RunError
        If `comparison` is of another form, or Plotly is absent.
    """
    check_comparison(comparison)
    cases, limit = comparison["scaling"], comparison["settings"]["limit_s"]
    styles = _styles(comparison)
    drawn = {measure.field: scaling_figure(measure, cases, styles, limit) for measure in MEASURES}
    return {field: figure for field, figure in drawn.items() if figure is not None}


def comparison_page(comparison: dict[str, Any]) -> Page:
    """Return the report of a comparison, which a notebook shows.

    Parameters
    ----------
    comparison : dict
        What ``unspool compare`` writes as JSON.

    Raises
    ------
    RunError
        If `comparison` is of another form, or Plotly is absent.
    """
    sections = [_scaling(comparison)]
    settings = comparison["settings"]
    if comparison["longer"]:
        sections.append(_longer(comparison["longer"]))
    if comparison["batching"] is not None:
        sections.append(_batching(comparison["batching"], _styles(comparison)))
    sections += [_contenders(comparison["contenders"]), _circumstances(comparison)]
    facts = Facts(
        [
            ("cell", str(settings["cell"]).upper()),
            ("rows in a batch", f"{settings['batch']:,}"),
            ("inputs", f"{settings['input_size']:,}"),
            ("units", f"{settings['hidden_size']:,}"),
            ("limit", f"{settings['limit_s']:g} s"),
        ]
    )
    lead = (
        "One recurrent layer, looped over the steps that there are (dynamic) or unrolled to a fixed number (static): "
        "what each costs, and what it can do. A training step is forward and backward."
    )
    skipped = sum(contender["status"] == "skipped" for contender in comparison["contenders"])
    note = (
        [Note(f"{skipped} of {len(comparison['contenders'])} contenders were skipped; below is why.")]
        if skipped
        else []
    )
    return Page("Static or dynamic?", lead, [facts, *note], sections)


def _styles(comparison: dict[str, Any]) -> dict[str, Style]:
    """Give a style to every contender, and to those that occur only in the rows."""
    known = [(row["name"], row["library"], row["kind"]) for row in comparison["contenders"]]
    libraries = {name.split()[0]: library for name, library, _ in known if name}
    rows = [*comparison["scaling"], *((comparison["batching"] or {}).get("modes", ()))]
    others = [(row["contender"], libraries.get(row["contender"].partition(" ")[0], ""), "dynamic") for row in rows]
    return contender_styles([*known, *others])


def _scaling(comparison: dict[str, Any]) -> Section:
    text = (
        "Each case ran in a process of its own. Solid lines are dynamic, dashed ones static; a click on a name hides "
        "its line, a double click all others."
    )
    figures = comparison_figures(comparison).values()
    table = scaling_table(comparison["scaling"], comparison["settings"]["limit_s"])
    return Section("As sequences grow", [Text(text), *figures, Folded("All numbers", [table])])


def _longer(rows: list[dict[str, Any]]) -> Section:
    cells = [
        (
            row["contender"],
            f"{row['built_for']:,}",
            f"{row['given']:,}",
            str(_OUTCOMES.get(row["outcome"], row["outcome"])),
            significant(row["seconds"]),
            row["message"] or "",
        )
        for row in rows
    ]
    header = ("contender", "built for", "given", "outcome", "seconds", "message")
    text = "A contender that was built for a number of steps gets a longer sequence."
    return Section("When a longer sequence comes", [Text(text), Table(cells, header, numbers=(1, 2, 4))])


def _batching(batching: dict[str, Any], styles: dict[str, Style]) -> Section:
    modes = batching["modes"]
    text = (
        f"Sequences: {batching['source']}; {batching['rows']:,} rows of at most {batching['maxlen']:,} steps. "
        "An epoch's seconds are scaled up from batches that were drawn evenly from it."
    )
    return Section(
        "Batches", [Text(text), *batching_figures(modes, styles), Folded("All numbers", [batching_table(modes)])]
    )


def _contenders(contenders: list[dict[str, Any]]) -> Section:
    rows = [
        (
            contender["name"],
            contender["library"],
            contender["kind"],
            contender["status"] + (f": {contender['reason']}" if contender["reason"] else ""),
        )
        for contender in contenders
    ]
    return Section("Contenders", [Table(rows, ("contender", "library", "kind", "status"))])


def _circumstances(comparison: dict[str, Any]) -> Section:
    rows = [
        ("command", comparison["command"]),
        ("begun", comparison["created"]),
        ("took", f"{comparison['seconds']:,.0f} s"),
        *((name, str(value)) for name, value in comparison["machine"].items()),
        *((f"version of {name}", str(value)) for name, value in comparison["versions"].items()),
        *((f"setting {name}", str(value)) for name, value in comparison["settings"].items()),
    ]
    return Section("Machine, versions, command", [Table(rows)])
