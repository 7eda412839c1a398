"""The form of a comparison's JSON: that of the classes that are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from unspool.comparison._results import FORMAT, Comparison


def faults_of_form(comparison: Any) -> Iterator[str]:
    """Tell in what a comparison has not the form that `Comparison.to_json` writes.

    Parameters
    ----------
    comparison : object
        What was read from a JSON file.

    Yields
    ------
    str
        A message for each field that is absent or of another type.
    """
    if not isinstance(comparison, dict) or "format" not in comparison:
        yield "received no comparison: no field format; expected what `unspool compare` writes as JSON"
    elif comparison["format"] != FORMAT:
        yield (
            f"received a comparison of format {comparison['format']!r}; this version of unspool reads format "
            f"{FORMAT}. Write it anew with `unspool compare`"
        )
    else:
        yield from _faults("", comparison, Comparison)


def _faults(where: str, row: dict[str, Any], form: type) -> Iterator[str]:
    for field, annotation in get_type_hints(form).items():
        name, types = where + field, _types(annotation)
        if field not in row or not isinstance(row[field], types):
            received = f"is {row[field]!r}" if field in row else "is absent"
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in types)
            yield f"received a comparison whose {name} {received}; expected {expected}, as `unspool compare` writes it"
            continue
        for part in filter(_has_fields, (annotation, *get_args(annotation))):
            yield from _faults_of_parts(name, row[field], part)


def _faults_of_parts(name: str, value: Any, form: type) -> Iterator[str]:
    """Look into an object with fields, or a list of them; where there is None there is no fault."""
    if isinstance(value, dict):
        yield from _faults(f"{name}.", value, form)
    for index, row in enumerate(value if isinstance(value, list) else ()):
        if isinstance(row, dict):
            yield from _faults(f"{name}[{index}].", row, form)
        else:
            yield f"received a comparison whose {name}[{index}] is {row!r}; expected an object"


def _has_fields(annotation: Any) -> bool:
    return is_dataclass(annotation) or is_typeddict(annotation)


def _types(annotation: Any) -> tuple[type, ...]:
    """Return the types of which a value with this annotation can be when it comes from JSON."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _types(part))
    if origin is Literal:
        return (str,)
    if annotation is float:
        return (int, float)
    return (dict,) if _has_fields(annotation) else (origin or annotation,)
