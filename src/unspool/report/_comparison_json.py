"""A comparison's JSON, checked before anything is drawn from it."""

from pathlib import Path
from typing import Any

from unspool._reading import damage_as, parsed_json
from unspool.comparison import faults_of_form
from unspool.training.errors import RunError


def read_comparison(path: str | Path) -> dict[str, Any]:
    """Read a file that ``unspool compare`` has written.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    RunError
        If there is no such file, or it holds something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    with damage_as(RunError, f"{path}: no comparison, or a damaged one", "write it anew with `unspool compare`"):
        comparison = parsed_json(content.decode())
    check_comparison(comparison)
    return comparison


def check_comparison(comparison: Any) -> None:
    """Raise unless `comparison` has the form that ``unspool compare`` writes.

    Parameters
    ----------
    comparison : object
        What was read from a JSON file.

    Raises
    ------
    RunError
        If a field is absent or of another type; it is named.
    """
    fault = next(faults_of_form(comparison), None)
    if fault is not None:
        raise RunError(fault)
