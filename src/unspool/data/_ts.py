"""Files in the `.ts` format of the UEA and UCR archives."""

from pathlib import Path

import numpy as np

from unspool.data._bytes import read_text
from unspool.data._errors import DataError


def read_ts(path: str | Path) -> tuple[list[np.ndarray], list[str] | None]:
    """Read a ``.ts`` file of the UEA and UCR archives: one multivariate series per line.

    Parameters
    ----------
    path : str or Path
        The file. Channels of a line are separated by ``:``, the values of one by ``,``; a class label ends the
        line where the header says ``@classLabel true``. Time stamps and missing values are not read.

    Returns
    -------
    sequences : list of ndarray of shape (T, C), float64
        The series, time first.
    labels : list of str, or None
        Their class labels, if the file has them.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is not a series; the message gives the file and the line.
    """
    path = Path(path)
    labelled = False
    in_data = False
    sequences: list[np.ndarray] = []
    labels: list[str] = []
    for number, raw in enumerate(read_text(path).splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not in_data:
            words = line.lower().split()
            if words[:2] == ["@timestamps", "true"]:
                raise DataError(f"{path}, line {number}: series with time stamps; expected values only")
            if words[0] == "@classlabel":
                labelled = words[1:2] == ["true"]
            in_data = words[0] == "@data"
            if not in_data and not line.startswith("@"):
                raise DataError(f"{path}, line {number}: {line[:40]!r}; expected a line that starts with @ or #")
            continue
        fields = line.split(":")
        if labelled:
            labels.append(fields.pop().strip())
        sequences.append(_series(fields, path, number))
    if not sequences:
        raise DataError(f"{path}: no series; expected at least one line after @data")
    return sequences, labels if labelled else None


def _series(fields: list[str], path: Path, number: int) -> np.ndarray:
    try:
        channels = [[float(value) for value in field.split(",")] for field in fields]
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}; expected numbers separated by commas") from error
    if len({len(channel) for channel in channels}) != 1:
        counts = ", ".join(str(len(channel)) for channel in channels)
        raise DataError(f"{path}, line {number}: channels of {counts} values; expected equally many in each")
    return np.array(channels).T
