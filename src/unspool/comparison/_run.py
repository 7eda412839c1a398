"""What the command does: compare, print, write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unspool.comparison._compare import compare
from unspool.comparison._errors import ComparisonError
from unspool.comparison._results import Comparison
from unspool.comparison._settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def run_compare(
    console: Console, settings: Settings, output: Path | None = None, *, arguments: Sequence[str] | None = None
) -> Comparison:
    """Compare, print tables, and write a file if one is named.

    Parameters
    ----------
    console : Console
    settings : Settings
    output : Path, optional
        A JSON file.
    arguments : sequence of str, optional
        See `compare`.

    Returns
    -------
    Comparison

    Raises
    ------
    ComparisonError, DataError
        See `compare`; also if the file cannot be written, which is found out before anything is measured.
    """
    from unspool.comparison._tables import print_comparison

    if output is not None:
        _check_output(output)
    with console.status("starting") as status:

        def report(line: str) -> None:
            status.update(line)
            if not console.is_terminal:
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        comparison = compare(settings, report, arguments=arguments)
    print_comparison(console, comparison)
    if output is not None:
        _write(output, comparison.to_json())
        console.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    return comparison


def _write(output: Path, text: str) -> None:
    part = output.with_name(f"{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(output)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ComparisonError(f"cannot write {output}: {error.strerror}") from error


def _check_output(output: Path) -> None:
    if output.suffix != ".json" or output.is_dir():
        raise ComparisonError(f"received --output {output}; expected the name of a file that ends in .json")
    folder = output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ComparisonError(f"received --output {output}; expected a directory that is there and can be written to")
