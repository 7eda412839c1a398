"""What the fields of a recipe may be, where it comes from a file."""

import sys
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unspool._reading import brief
from unspool.training.errors import RunError

_MOST = 2**31 - 1
_LEAST = {
    **dict.fromkeys(("hidden_size", "input_size", "embedding_size", "num_classes", "num_steps", "batch_size"), 1),
    **dict.fromkeys(("checkpoint_every", "log_every", "threads", "limit_train", "patience"), 1),
}
"""Of all other numbers it is 0."""
_SHARES = ("input_dropout", "recurrent_dropout", "dropout_after", "embedding_dropout")


def check_fields(kind: type, values: Any) -> None:
    """Refuse values that are no fields of a class, or out of range.

    Parameters
    ----------
    kind : type
        A dataclass whose fields are numbers, texts, names out of a Literal, dicts of plain values, or None.
    values : object
        Should be a mapping of the fields that there are.

    Raises
    ------
    RunError
        With the name of the field, what was received and what is expected.
    """
    if not isinstance(values, Mapping):
        raise RunError(f"received {type(values).__name__}; expected the fields of a {kind.__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(map(repr, values.keys() - hints.keys()))
    if unknown:
        raise RunError(f"{kind.__name__} has no field {', '.join(unknown):.80}")
    for name, value in values.items():
        if name == "layers":
            continue  # a list of other fields
        alternatives = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        if not any(_is(value, alternative) for alternative in alternatives):
            raise RunError(f"{name} is {brief(value)}; expected {_words(alternatives)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_range(name, value)


def check_list(name: str, values: Mapping[str, Any]) -> Sequence[Any]:
    """Return a field that is a list of other fields, which must have something in it.

    Parameters
    ----------
    name : str
    values : mapping
        The fields that there are.

    Raises
    ------
    RunError
        If it is another thing.
    """
    value = values.get(name)
    if not isinstance(value, list | tuple) or not value:
        raise RunError(f"{name} is {brief(value)}; expected a list with something in it")
    return value


def _is(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_is(part, get_args(hint)[0]) for part in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _is_plain(value: Any) -> bool:
    """Tell whether a value is one that a command line gives: a text, a number, or a list of texts."""
    if isinstance(value, list | tuple):
        return all(type(part) is str for part in value)
    return type(value) in (str, int, float, bool, NoneType)


def _check_range(name: str, value: float) -> None:
    least = _LEAST.get(name, 0)
    most = 1 if name in _SHARES else _MOST if type(value) is int and name != "seed" else sys.float_info.max
    if not least <= value <= most:
        raise RunError(f"{name} is {brief(value)}; expected a number from {least} to {most}")


def _words(alternatives: tuple[Any, ...]) -> str:
    names = []
    for hint in alternatives:
        if get_origin(hint) is Literal:
            names += map(repr, get_args(hint))
        else:
            names.append("None" if hint is NoneType else getattr(get_origin(hint) or hint, "__name__", str(hint)))
    return " or ".join(names)
