"""Columns of scanned tables as numbers, categories, times and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unspool.data._collate import UNLABELLED
from unspool.data._errors import DataError
from unspool.data._labelled_texts import class_names_of
from unspool.data._sequences import listed
from unspool.data._table_scan import library
from unspool.data._times import DATE_FORMATS

if TYPE_CHECKING:
    import polars as pl

MISSING = ("", "NA", "N/A", "na", "n/a", "NaN", "nan", "NAN", "NULL", "null", "None", "?")
"""What stands for a missing value in text."""
MOST_CATEGORIES = 1000


def time_of(name: str, dtype: Any) -> pl.Expr:
    """Return a column of times as text, as `parsed` takes it; of a time zone, in UTC.

    Parameters
    ----------
    name : str
        The column.
    dtype : polars.DataType
        Its type.
    """
    lib = library()
    time = lib.col(name)
    if isinstance(dtype, lib.Datetime) and dtype.time_zone is not None:
        time = time.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return time.cast(lib.String)


def text_of(name: str) -> pl.Expr:
    """Return a column as text, without blanks around it; null where there is none.

    Parameters
    ----------
    name : str
        The column.
    """
    lib = library()
    text = lib.col(name).cast(lib.String).str.strip_chars()
    return lib.when(text != "").then(text)


def known_of(name: str) -> pl.Expr:
    """Return a column as text, null where it stands for a missing value.

    Parameters
    ----------
    name : str
        The column.
    """
    lib = library()
    text = lib.col(name).cast(lib.String).str.strip_chars()
    return lib.when(~text.is_in(list(MISSING))).then(text)


def number_of(name: str, dtype: Any) -> pl.Expr:
    """Return a column as numbers, of 32 bits where these hold all of it; text that is no number becomes null.

    Parameters
    ----------
    name : str
        The column.
    dtype : polars.DataType
        Its type.
    """
    lib = library()
    if dtype in (lib.Float32, lib.Int8, lib.Int16, lib.UInt8, lib.UInt16, lib.Boolean):
        return lib.col(name).cast(lib.Float32)
    if dtype.is_numeric():
        return lib.col(name).cast(lib.Float64)
    return known_of(name).cast(lib.Float64, strict=False)


def codes_of(column: pl.Series, known: Sequence[str] | None) -> tuple[pl.Series, tuple[str, ...]]:
    """Return the codes of categories, from 1, and the categories.

    Parameters
    ----------
    column : Series of str
        The category of each row; 0 stands for null, and for what is not known.
    known : sequence of str, optional
        The categories; by default all that occur, sorted.

    Raises
    ------
    DataError
        If more than `MOST_CATEGORIES` occur.
    """
    lib = library()
    names = tuple(sorted(column.drop_nulls().unique().to_list()) if known is None else known)
    if known is None and len(names) > MOST_CATEGORIES:
        raise DataError(
            f"the column {column.name!r} holds {len(names):,} different texts, such as {listed(names, 2)}; expected at "
            f"most {MOST_CATEGORIES:,} categories, or numbers with a decimal point"
        )
    codes = {name: code for code, name in enumerate(names, start=1)}
    return column.replace_strict(codes, default=0, return_dtype=lib.Float32).fill_null(0), names


def parsed(column: pl.Series, name: str, place: Callable[[int], str]) -> np.ndarray:
    """Return times of text as float64 or datetime64.

    Parameters
    ----------
    column : Series of str
        The times.
    name : str
        What errors call the column.
    place : callable
        Says where a row is.

    Raises
    ------
    DataError
        If one is missing, or they are neither numbers nor dates of one form.
    """
    lib = library()
    if column.null_count():
        raise DataError(f"{place(column.is_null().arg_max() or 0)}: no time in the column {name!r}")
    column = column.str.strip_chars()
    numbers = column.cast(lib.Float64, strict=False)
    best = numbers.is_finite().fill_null(value=False)
    if best.all():
        return numbers.to_numpy()
    for pattern in DATE_FORMATS:
        dates = column.str.to_datetime(pattern, strict=False, time_unit="us")
        if not dates.null_count():
            return dates.to_numpy()
        if dates.is_not_null().sum() > best.sum():
            best = dates.is_not_null()
    wrong = (~best).arg_max() or 0
    raise DataError(
        f"{place(wrong)}: {column[wrong]!r} in the column {name!r}; expected a number or a date such as 2024-05-31 or "
        "2024-05-31T12:00:00, in one form for all rows"
    )


def parsed_times(times: Sequence[Sequence[str]], where: object) -> list[np.ndarray]:
    """Return times of text, which must ascend, as numbers or dates.

    Parameters
    ----------
    times : sequence of sequences of str
        Those of the steps of each sequence.
    where : object
        What errors call the file.

    Raises
    ------
    DataError
        If one is neither a number nor a date, polars is not installed, or times do not ascend.
    """
    lengths = [len(moments) for moments in times]
    column = library().Series([moment for moments in times for moment in moments])
    parts = np.split(parsed(column, "time", lambda _: str(where)), np.cumsum(lengths)[:-1])
    for number, part in enumerate(parts, start=1):
        if len(part) > 1 and np.diff(part).min() <= np.diff(part).dtype.type(0):
            raise DataError(f"{where}: the times of series {number} do not ascend")
    return parts


def numbered(
    labels: Sequence[str | None], class_names: Sequence[str] | None, where: object, column: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the numbers of classes, and their names.

    Parameters
    ----------
    labels : sequence of str or None
        The class of each sequence or step; None where there is none.
    class_names : sequence of str, optional
        The allowed classes; by default all that occur, sorted, as numbers if all are.
    where, column : object
        What errors call the source and the place of the labels.

    Raises
    ------
    DataError
        If a label is none of the classes, or there are not two.
    """
    distinct = {label for label in labels if label is not None}
    if not distinct and class_names is None:
        raise DataError(f"{where}: no class at all in the column {column!r}; expected at least two")
    names = class_names_of(distinct, where, column) if class_names is None else tuple(class_names)
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted(distinct - set(numbers))
    if unknown:
        raise DataError(
            f"{where}: the class {unknown[0]!r} in the column {column!r}; expected one of {listed(names)}, "
            "those of the training data"
        )
    return np.array([UNLABELLED if label is None else numbers[label] for label in labels], np.int64), names
