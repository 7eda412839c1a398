"""Files in the `.tsf` format of the Monash forecasting archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unspool._reading import damage_as
from unspool.data._bytes import read_text
from unspool.data._errors import DataError
from unspool.data._sequences import Sequences
from unspool.data._times import TimeStep

_MICROSECONDS = {"weekly": 604800, "daily": 86400, "hourly": 3600, "half_hourly": 1800, "minutely": 60, "secondly": 1}
_MONTHS = {"monthly": 1, "quarterly": 3, "yearly": 12}


def read_tsf(path: str | Path) -> Sequences:
    """Read a ``.tsf`` file of the Monash forecasting archive: one series of numbers per line.

    Parameters
    ----------
    path : str or Path
        The file. A line has the attributes that the header lists (``@attribute NAME TYPE``), each followed by ``:``,
        and then the values, separated by ``,``; ``?`` stands for a missing one.

    Returns
    -------
    Sequences
        Of one feature called "value". The attribute ``series_name``, or else the first, names the sequences. With an
        attribute of the type ``date`` and a ``@frequency`` (yearly to secondly, or as 10_minutes) they have times.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not a series; the message gives the file and the line.
    """
    path = Path(path).expanduser()
    attributes: list[tuple[str, str]] = []
    step, in_data = None, False
    values: list[np.ndarray] = []
    ids: list[str] = []
    times: list[np.ndarray] = []
    for number, raw in enumerate(read_text(path).splitlines(), start=1):
        line, where = raw.strip(), f"{path}, line {number}"
        if not line or line.startswith("#"):
            continue
        if not in_data:
            words = line.split()
            if words[0].lower() == "@attribute" and len(words) == 3:
                attributes.append((words[1], words[2].lower()))
            if words[0].lower() == "@frequency":
                step = _step(words[-1].lower(), where)
            in_data = words[0].lower() == "@data"
            if not line.startswith("@"):
                raise DataError(f"{where}: {line[:40]!r}; expected a line that starts with @ or #")
            continue
        fields = line.split(":")
        if len(fields) != len(attributes) + 1:
            raise DataError(
                f"{where}: {len(fields)} fields; expected {len(attributes) + 1}, the header's attributes and the values"
            )
        with damage_as(DataError, f"{where}: no series", "expected numbers separated by commas"):
            series = [np.nan if value.strip() == "?" else float(value) for value in fields[-1].split(",")]
        named = {name: value for (name, _), value in zip(attributes, fields, strict=False)}
        ids.append(named.get("series_name", fields[0] if attributes else str(number)))
        values.append(np.array(series)[:, None])
        starts = [value for (_, kind), value in zip(attributes, fields, strict=False) if kind == "date"]
        if starts and step is not None:
            start = _start(starts[0], where)
            times.append(np.concatenate([[start], step.after(start, len(series) - 1)]))
    if not values:
        raise DataError(f"{path}: no series; expected at least one line after @data")
    return Sequences(values, ("value",), tuple(ids), times=times or None)


def _start(text: str, where: str) -> np.ndarray:
    date, _, clock = text.strip().partition(" ")
    with damage_as(DataError, f"{where}: {text!r} is no date", "expected one as 1979-01-01 00-00-00"):
        return np.array(f"{date}T{clock.replace('-', ':')}" if clock else date, "M8[us]")


def _step(words: str, where: str) -> TimeStep:
    count, _, unit = words.partition("_") if words[0].isdigit() else ("1", "", words)
    unit = {"minutes": "minutely", "seconds": "secondly", "hours": "hourly", "days": "daily"}.get(unit, unit)
    if unit in _MONTHS:
        return TimeStep(float(count) * _MONTHS[unit], "month")
    if unit in _MICROSECONDS:
        return TimeStep(float(count) * _MICROSECONDS[unit] * 1e6, "microsecond")
    raise DataError(
        f"{where}: the frequency {words!r}; expected one of {', '.join([*_MONTHS, *_MICROSECONDS])}, or as 10_minutes"
    )
