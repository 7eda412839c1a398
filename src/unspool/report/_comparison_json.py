"""The form of a comparison's JSON, checked before anything is drawn from it."""

import json
from pathlib import Path
from types import NoneType
from typing import Any

from unspool.training.errors import RunError

FORMAT = 1
_TEXT, _WHOLE, _NUMBER = (str,), (int,), (int, float)
_MAYBE_TEXT, _MAYBE_WHOLE, _MAYBE_NUMBER = (*_TEXT, NoneType), (*_WHOLE, NoneType), (*_NUMBER, NoneType)

Fields = dict[str, tuple[type, ...]]
_TOP: Fields = {
    "command": _TEXT, "created": _TEXT, "seconds": _NUMBER, "machine": (dict,), "versions": (dict,),
    "settings": (dict,), "contenders": (list,), "scaling": (list,), "longer": (list,), "batching": (dict, NoneType),
}  # fmt: skip
_SETTINGS: Fields = {
    "batch": _WHOLE, "input_size": _WHOLE, "hidden_size": _WHOLE, "cell": _TEXT, "steps": (list,), "limit_s": _NUMBER,
}  # fmt: skip
_CONTENDER: Fields = {
    "name": _TEXT, "kind": _TEXT, "library": _TEXT, "status": _TEXT, "reason": _MAYBE_TEXT,
}  # fmt: skip
_CASE: Fields = {
    "contender": _TEXT, "steps": _WHOLE, "status": _TEXT, "reason": _MAYBE_TEXT, "build_s": _MAYBE_NUMBER,
    "first_call_s": _MAYBE_NUMBER, "step_s": _MAYBE_NUMBER, "step_low_s": _MAYBE_NUMBER, "step_high_s": _MAYBE_NUMBER,
    "peak_mb": _MAYBE_NUMBER, "graph_nodes": _MAYBE_WHOLE, "max_error": _MAYBE_NUMBER,
}  # fmt: skip
_LONGER: Fields = {
    "contender": _TEXT, "built_for": _WHOLE, "given": _WHOLE, "outcome": _TEXT, "seconds": _MAYBE_NUMBER,
    "message": _MAYBE_TEXT,
}  # fmt: skip
_BATCHING: Fields = {"source": _TEXT, "rows": _WHOLE, "maxlen": _WHOLE, "modes": (list,)}
_MODE: Fields = {
    "mode": _TEXT, "contender": _TEXT, "epoch_s": _NUMBER, "batches": _WHOLE, "measured_batches": _WHOLE,
    "real_share": _NUMBER,
}  # fmt: skip


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
        comparison = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise RunError(
            f"{path}: no comparison, or a damaged one ({error}); write it anew with `unspool compare`"
        ) from error
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
    if not isinstance(comparison, dict) or "format" not in comparison:
        raise RunError("received no comparison: no field format; expected what `unspool compare` writes as JSON")
    if comparison["format"] != FORMAT:
        raise RunError(
            f"received a comparison of format {comparison['format']!r}; this version of unspool reads format "
            f"{FORMAT}. Write it anew with `unspool compare`"
        )
    _check("", comparison, _TOP)
    _check("settings.", comparison["settings"], _SETTINGS)
    for name, fields in (("contenders", _CONTENDER), ("scaling", _CASE), ("longer", _LONGER)):
        _check_rows(name, comparison[name], fields)
    if comparison["batching"] is not None:
        _check("batching.", comparison["batching"], _BATCHING)
        _check_rows("batching.modes", comparison["batching"]["modes"], _MODE)


def _check_rows(name: str, rows: list[Any], fields: Fields) -> None:
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RunError(f"received a comparison whose {name}[{index}] is {row!r}; expected an object")
        _check(f"{name}[{index}].", row, fields)


def _check(where: str, row: dict[str, Any], fields: Fields) -> None:
    for name, kinds in fields.items():
        if name not in row or not isinstance(row[name], kinds):
            received = f"is {row[name]!r}" if name in row else "is absent"
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            raise RunError(
                f"received a comparison whose {where}{name} {received}; expected {expected}, as `unspool compare` "
                "writes it"
            )
