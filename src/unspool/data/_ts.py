"""Files in the `.ts` format of the UEA, UCR and Monash archives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unspool.data._bytes import read_text
from unspool.data._errors import DataError

_PAIR = re.compile(r"\(([^(),]*),([^()]*)\)")
_BETWEEN_CHANNELS = re.compile(r"(?<=\))\s*:\s*(?=\()")
_BEFORE_LABEL = re.compile(r"(?<=\))\s*:\s*(?=[^()]*$)")


class TsFile(NamedTuple):
    """``values`` (T, C) float64 of each series, NaN where missing, and their ``labels``, or None.

    ``numbers`` is whether labels are numbers (``@targetlabel``) rather than classes; ``times`` (T,) of each series are
    text, or None.
    """

    values: list[np.ndarray]
    labels: list[str] | None
    numbers: bool
    times: list[list[str]] | None


def read_ts(path: str | Path) -> tuple[list[np.ndarray], list[str] | None]:
    """Read a ``.ts`` file of the UEA, UCR and Monash archives: one multivariate series per line.

    Parameters
    ----------
    path : str or Path
        The file. Channels of a line are separated by ``:``, the values of one by ``,``; ``?`` stands for a missing
        value. A class label, or a number to predict, ends the line where the header says ``@classLabel true`` or
        ``@targetLabel true``. With ``@timeStamps true``, values come as ``(time,value)``; the times are left out.
        `read_source` reads them too.

    Returns
    -------
    sequences : list of ndarray of shape (T, C), float64
        The series, time first; NaN where a value is missing.
    labels : list of str, or None
        Their labels, if the file has them.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not a series; the message gives the file and the line.
    """
    found = parse_ts(Path(path))
    return found.values, found.labels


def parse_ts(path: Path) -> TsFile:
    """Return all that a ``.ts`` file has.

    Parameters
    ----------
    path : Path
        The file, as for `read_ts`.

    Raises
    ------
    DataError
        As `read_ts` does.
    """
    said = {"@classlabel": False, "@targetlabel": False, "@timestamps": False}
    in_data = False
    found = TsFile([], [], False, [])
    for number, raw in enumerate(read_text(path).splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if in_data:
            with_label = said["@classlabel"] or said["@targetlabel"]
            _add(found, line, with_label, said["@timestamps"], f"{path}, line {number}")
            continue
        words = line.lower().split()
        if words[0] in said:
            said[words[0]] = words[1:2] == ["true"]
        in_data = words[0] == "@data"
        if not in_data and not line.startswith("@"):
            raise DataError(f"{path}, line {number}: {line[:40]!r}; expected a line that starts with @ or #")
    if not found.values:
        raise DataError(f"{path}: no series; expected at least one line after @data")
    return TsFile(found.values, found.labels or None, said["@targetlabel"], found.times or None)


def _add(found: TsFile, line: str, with_label: bool, with_times: bool, where: str) -> None:
    assert found.labels is not None
    assert found.times is not None
    if with_times:
        line, *label = _BEFORE_LABEL.split(line) if with_label else [line]
        fields = _BETWEEN_CHANNELS.split(line)
    else:
        fields = line.split(":")
        label = [fields.pop().strip()] if with_label else []
    if len(label) != with_label or not fields:
        raise DataError(f"{where}: no label at the end; the header says that there is one")
    if with_label:
        found.labels.append(label[0].strip())
    if with_times:
        times, values = _timed(fields, where)
        found.times.append(times)
    else:
        values = _series(fields, where)
    found.values.append(values)


def _series(fields: list[str], where: str) -> np.ndarray:
    channels = [_numbers(field.split(","), where) for field in fields]
    if len({len(channel) for channel in channels}) != 1:
        counts = ", ".join(str(len(channel)) for channel in channels)
        raise DataError(f"{where}: channels of {counts} values; expected equally many in each")
    return np.array(channels).T


def _timed(fields: list[str], where: str) -> tuple[list[str], np.ndarray]:
    """Return the times that any channel has, in their order, and the values; NaN where a channel has none."""
    pairs = [_PAIR.findall(field) for field in fields]
    times = list(dict.fromkeys(time.strip() for channel in pairs for time, _ in channel))
    if not times:
        raise DataError(f"{where}: no (time,value) in {fields[0][:40]!r}; the header says that there are time stamps")
    places = {time: place for place, time in enumerate(times)}
    values = np.full((len(times), len(pairs)), np.nan)
    for column, channel in enumerate(pairs):
        rows = [places[time.strip()] for time, _ in channel]
        values[rows, column] = _numbers([value for _, value in channel], where)
    return times, values


def _numbers(fields: list[str], where: str) -> np.ndarray:
    try:
        return np.array([np.nan if field.strip() == "?" else float(field) for field in fields])
    except ValueError as error:
        raise DataError(f"{where}: {error}; expected numbers separated by commas, or ? where one is missing") from error
