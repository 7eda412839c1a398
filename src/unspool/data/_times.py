"""Times of steps: numbers or dates, their order, and the step from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from unspool.data._errors import DataError
from unspool.data._sequences import Sequences

DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S%.f", "%Y/%m/%d %H:%M", "%Y.%m.%d", "%Y-%m", "%Y/%m",
)  # fmt: skip
"""Formats of dates that are read; those in which day and month may be mistaken for each other are not."""


@dataclass(frozen=True)
class TimeStep:
    """The time from one step to the next.

    Parameters
    ----------
    size : float
        How much of the unit it is.
    unit : {"number", "microsecond", "month"}
        What it is counted in.
    """

    size: float
    unit: str

    @classmethod
    def of(cls, times: Sequence[np.ndarray]) -> TimeStep:
        """Return the most frequent step of sequences.

        Parameters
        ----------
        times : sequence of ndarray of shape (T,)
            The times of each, ascending; numbers or datetime64.

        Raises
        ------
        DataError
            If no sequence has two steps.
        """
        unit = "number" if times[0].dtype.kind != "M" else "month" if _are_months(times) else "microsecond"
        steps = np.concatenate([np.diff(_counted(moments, unit)) for moments in times])
        if len(steps) == 0:
            raise DataError("no sequence has two steps; expected at least one that has, to know the time between steps")
        sizes, counts = np.unique(np.round(steps, 9), return_counts=True)
        return cls(float(sizes[counts.argmax()]), unit)

    def places(self, times: np.ndarray, called: str = "a sequence") -> np.ndarray:
        """Return the number of steps from the first time to each, int64 of shape (T,).

        Parameters
        ----------
        times : ndarray of shape (T,)
            The times of one sequence, ascending.
        called : str
            What errors call it.

        Raises
        ------
        DataError
            If they are not a whole number of steps apart.
        """
        exact = (_counted(times, self.unit) - _counted(times[:1], self.unit)) / self.size
        places = np.round(exact).astype(np.int64)
        wrong = np.flatnonzero((np.abs(exact - places) > 1e-3) | (np.diff(places, prepend=-1) < 1))
        if len(wrong):
            raise DataError(
                f"{called}: the time {times[wrong[0]]} is not a whole number of steps of {self} after {times[0]}; "
                "expected times at equal steps"
            )
        return places

    def after(self, time: np.ndarray, steps: int) -> np.ndarray:
        """Return the times of the next steps.

        Parameters
        ----------
        time : ndarray of shape ()
            The last time.
        steps : int
            How many to return.

        Returns
        -------
        ndarray of shape (steps,)
            Of the type of `time`.
        """
        ahead = np.arange(1, steps + 1)
        if self.unit == "number":
            return time + ahead * self.size
        if self.unit == "microsecond":
            return time + (ahead * self.size).round().astype(np.int64).astype("m8[us]")
        month = time.astype("M8[M]")
        months = month + (ahead * self.size).round().astype(np.int64).astype("m8[M]")
        if _ends_month(time[None]).all() and time.astype("M8[D]") != month.astype("M8[D]"):
            last = (months + 1).astype("M8[D]") - 1
            return last.astype("M8[us]") + (time - time.astype("M8[D]"))
        return months.astype("M8[us]") + (time - month)

    def __str__(self) -> str:
        if self.unit == "microsecond":
            return str(timedelta(microseconds=self.size))
        return f"{self.size:g}" if self.unit == "number" else f"{self.size:g} month{'s' if self.size > 1 else ''}"


def fill_gaps(sequences: Sequences) -> Sequences:
    """Return sequences at equal steps in time: where a step is missing, one without values is put in.

    Parameters
    ----------
    sequences : Sequences
        With times. The step is their most frequent one.

    Raises
    ------
    DataError
        If there are no times, or some are not a whole number of steps apart.
    """
    if sequences.times is None:
        raise DataError("the sequences have no times; expected those of their steps")
    step = TimeStep.of(sequences.times)
    places = [step.places(times, name) for name, times in zip(sequences.ids, sequences.times, strict=True)]
    if all(place[-1] == len(place) - 1 for place in places):
        return sequences
    # A category that is missing has the code 0.
    blank = np.where(np.isin(sequences.features, list(sequences.categories)), 0, np.nan)
    values, moments = [], []
    for array, times, place in zip(sequences.values, sequences.times, places, strict=True):
        filled = np.tile(blank.astype(array.dtype), (place[-1] + 1, 1))
        filled[place] = array
        values.append(filled)
        moments.append(np.concatenate([times[:1], step.after(times[0], int(place[-1]))]))
        moments[-1][place] = times
    targets = sequences.targets
    if isinstance(targets, list):
        targets = [_spread(target, place) for target, place in zip(targets, places, strict=True)]
    return replace(sequences, values=values, times=moments, targets=targets)


def check_regular(sequences: Sequences) -> TimeStep:
    """Return the time from step to step, which must be the same everywhere.

    Parameters
    ----------
    sequences : Sequences
        With times.

    Raises
    ------
    DataError
        If there are no times, or a step is missing between two others; the message says where.
    """
    if sequences.times is None:
        raise DataError("the sequences have no times; expected those of their steps")
    step = TimeStep.of(sequences.times)
    for name, times in zip(sequences.ids, sequences.times, strict=True):
        gaps = np.flatnonzero(np.diff(step.places(times, name)) > 1)
        if len(gaps):
            raise DataError(
                f"sequence {name!r}: nothing between the times {times[gaps[0]]} and {times[gaps[0] + 1]}; expected a "
                f"step every {step}. fill_gaps puts in steps without values"
            )
    return step


def _spread(targets: np.ndarray, places: np.ndarray) -> np.ndarray:
    blank = np.nan if targets.dtype.kind == "f" else -100
    filled = np.full((places[-1] + 1, *targets.shape[1:]), blank, targets.dtype)
    filled[places] = targets
    return filled


def _counted(times: np.ndarray, unit: str) -> np.ndarray:
    if unit == "number":
        return times.astype(np.float64)
    return times.astype("M8[us]" if unit == "microsecond" else "M8[M]").astype(np.int64)


def _are_months(times: Sequence[np.ndarray]) -> bool:
    """Tell whether every time is on the same day of its month, or its last, and no two are in one month."""
    for moments in times:
        months = moments.astype("M8[M]")
        days = moments - months
        if len(np.unique(months)) != len(months) or not (len(np.unique(days)) <= 1 or _ends_month(moments).all()):
            return False
    return True


def _ends_month(times: np.ndarray) -> np.ndarray:
    return (times.astype("M8[D]") + 1).astype("M8[M]") != times.astype("M8[M]")
