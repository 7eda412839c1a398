"""Sequences from tables: a row per step, or a column per sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unspool.data._collate import UNLABELLED
from unspool.data._errors import DataError
from unspool.data._labelled_texts import class_names_of
from unspool.data._sequences import Sequences, listed
from unspool.data._table_scan import FILE, ROW, check_columns, collected, library, scan
from unspool.data._times import DATE_FORMATS

if TYPE_CHECKING:
    import polars as pl

TargetKind = Literal["classes", "numbers"]
MISSING = ("", "NA", "N/A", "na", "n/a", "NaN", "nan", "NAN", "NULL", "null", "None", "?")
"""What stands for a missing value in text."""
_SEQUENCE, _TIME, _TARGET, _GROUP = "\0sequence", "\0time", "\0target", "\0group"


def read_table(
    paths: str | Path | Sequence[str | Path],
    *,
    sequence_column: str | None = None,
    time_column: str | None = None,
    features: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | None = None,
    target: str | Sequence[str] | None = None,
    target_kind: TargetKind | None = None,
    per_step: bool = False,
    class_names: Sequence[str] | None = None,
    group_column: str | None = None,
    sort: bool = False,
    wide: bool = False,
    encoding: str = "utf-8",
) -> Sequences:
    """Read sequences from tables, in the format given by the ending of their names.

    Parameters
    ----------
    paths : str or Path, or sequence of them
        ``.csv``, ``.tsv``, ``.jsonl`` (an object a line), all of them also with ``.gz`` or ``.xz`` behind it, or
        ``.parquet``. Several must have the same columns.
    sequence_column : str, optional
        The column that says which sequence a row belongs to. By default, every file is one sequence.
    time_column : str, optional
        The column of times, numbers or dates as 2024-05-31, which must ascend within a sequence. By default, steps are
        in the order of the rows.
    features : sequence of str, optional
        The columns of the features. By default all columns of numbers that have no other meaning.
    categorical : sequence of str
        Those of the features that are categories though they look like numbers. Features of text are categories.
    categories : mapping of str to sequence of str, optional
        The categories of features, in the order of their codes: pass those of the training data when reading others.
        By default all that occur, sorted.
    target : str or sequence of str, optional
        The column of what is to be predicted; several if they are numbers.
    target_kind : {"classes", "numbers"}, optional
        What the target is. By default numbers if all of its values are, else classes.
    per_step : bool
        Whether there is a target for every row, rather than one for every sequence.
    class_names : sequence of str, optional
        The classes, in the order of their numbers: pass those of the training data when reading others. By default all
        that occur, sorted.
    group_column : str, optional
        The column that says what a sequence belongs to: `Sequences.groups`.
    sort : bool
        Whether to sort the steps of a sequence by time. By default, times that do not ascend are refused.
    wide : bool
        Whether each column of `features` is a sequence of its own, of one feature called "value"; steps before its
        first and after its last value are left out.
    encoding : str
        The character encoding of text.

    Returns
    -------
    Sequences
        In the order of their first rows. Missing values (empty, NA, NaN, null, None, ?) are NaN, or 0 in categories.

    Raises
    ------
    DataError
        If a table cannot be read, a column is missing, a value is not what its column has, times do not ascend or occur
        twice, or there is nothing to learn from; the message says where, and what was expected.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [Path(path).expanduser() for path in several]
    if not files:
        raise DataError("received no files; expected at least one table")
    reading = _Reading(files, scan(files, encoding))
    targets = [target] if isinstance(target, str) else list(target or ())
    others = [name for name in (sequence_column, time_column, group_column, *targets) if name is not None]
    check_columns([*others, *(features or ()), *categorical, *(categories or ())], reading.columns, reading.where)
    if wide:
        if sequence_column or targets or group_column or categorical or categories:
            raise DataError("received wide=True and columns of a long table; expected time_column and features alone")
        if len(files) > 1:
            raise DataError(f"received wide=True and {len(files)} files; expected one")
    wanted = [name for name in reading.columns if name not in others] if features is None else list(features)
    coded = dict.fromkeys([*categorical, *(categories or ())])
    numeric, text = reading.kinds([name for name in wanted if name not in coded], explicit=features is not None)
    codes = {name: (categories or {}).get(name) for name in [*coded, *text]}
    chosen = [name for name in wanted if name in numeric or name in codes]
    if not chosen:
        raise DataError(f"{reading.where}: no column of numbers among {listed(wanted)}; name the features")
    if wide and text:
        raise DataError(f"{reading.where}: the column {text[0]!r} holds text; expected numbers in every column")
    kind = target_kind
    if targets and kind is None:
        kind = "numbers" if not reading.kinds(targets, explicit=True)[1] else "classes"
    if kind == "classes" and len(targets) > 1:
        raise DataError(f"received the targets {listed(targets)}; expected one column of classes")

    lib = library()
    table = reading.collect(
        [
            lib.col(ROW),
            (lib.col(FILE) if sequence_column is None else lib.col(sequence_column).cast(lib.String)).alias(_SEQUENCE),
            *(lib.col(name).cast(lib.String).alias(key) for name, key in _named(time_column, _TIME)),
            *(lib.col(name).cast(lib.String).alias(key) for name, key in _named(group_column, _GROUP)),
            *(_number(name, reading.schema[name]).alias(name) for name in chosen if name in numeric),
            *(_known(name).alias(name) for name in chosen if name in codes),
            *(
                (_number(name, reading.schema[name]) if kind == "numbers" else _text(name)).alias(f"{_TARGET}{place}")
                for place, name in enumerate(targets)
            ),
        ]
    )
    if len(table) == 0:
        raise DataError(f"{reading.where}: no rows; expected a row per step")
    reading.check_numbers(table, [name for name in chosen if name in numeric], chosen)
    if kind == "numbers":
        reading.check_numbers(table, [f"{_TARGET}{place}" for place in range(len(targets))], targets)
        for place, name in enumerate(targets):
            reading.check_text(name, table[f"{_TARGET}{place}"])
    table = _sorted_sequences(table, reading, sequence_column)
    times = None
    if time_column is not None:
        moments = reading.times(table[_TIME], time_column, table[ROW])
        if sort:
            order = np.lexsort((moments, table["\0code"].to_numpy()))
            table, moments = table[order], moments[order]
        times = moments
    bounds = np.flatnonzero(np.diff(table["\0code"].to_numpy(), prepend=-1, append=len(table)))
    spans = list(pairwise(bounds.tolist()))
    ids = tuple(table[_SEQUENCE][bounds[:-1]].to_list())
    if sequence_column is None:
        ids = _names_of(ids)
    if times is not None:
        reading.check_order(times, table, spans, ids)
    found = {name: _codes(table[name], known) for name, known in codes.items() if name in chosen}
    columns = [found[name][0] if name in found else table[name] for name in chosen]
    narrow = all(column.dtype == lib.Float32 for column in columns)
    values = np.empty((len(table), len(chosen)), np.float32 if narrow else np.float64)
    for place, column in enumerate(columns):
        values[:, place] = column.to_numpy()
    if wide:
        return _wide(values, chosen, times)
    groups = None
    if group_column is not None:
        groups = tuple(reading.one_each(table[_GROUP], table, spans, ids, group_column))
    labels, names = None, ()
    if targets:
        held = [table[f"{_TARGET}{place}"] for place in range(len(targets))]
        labels, names = _targets(held, targets, kind, per_step, class_names, (reading, table, spans, ids))
    return Sequences(
        [values[start:stop] for start, stop in spans],
        tuple(chosen),
        ids,
        {name: known for name, (_, known) in found.items()},
        None if times is None else [times[start:stop] for start, stop in spans],
        labels,
        tuple(targets),
        names,
        groups,
    )


class _Reading:
    """Tables that are read, and what their columns hold."""

    def __init__(self, files: list[Path], frame: pl.LazyFrame) -> None:
        self.files = files
        self.where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        self._frame = frame
        empty = collected(frame.head(0), files)
        self.schema = dict(zip(empty.columns, empty.dtypes, strict=True))
        self.columns = [name for name in self.schema if name not in (FILE, ROW)]

    def collect(self, expressions: list[pl.Expr]) -> pl.DataFrame:
        return collected(self._frame.select(expressions), self.files)

    def place(self, row: int) -> str:
        """Return the file and the row of a number of `ROW`."""
        lib = library()
        at = collected(self._frame.filter(lib.col(ROW) == row).select(FILE), self.files).item()
        first = collected(self._frame.filter(lib.col(FILE) == at).select(lib.col(ROW).min()), self.files).item()
        return f"{at}, row {row - first + 1}"

    def kinds(self, names: list[str], *, explicit: bool) -> tuple[list[str], list[str]]:
        """Return which columns are numbers and which are text; others are refused if asked for, else left out."""
        lib = library()
        numeric = [name for name in names if self.schema[name].is_numeric() or self.schema[name] == lib.Boolean]
        texts = [name for name in names if self.schema[name] in (lib.String, lib.Categorical, lib.Enum)]
        odd = [name for name in names if name not in numeric and name not in texts and self.schema[name] != lib.Null]
        if explicit and odd:
            raise DataError(
                f"{self.where}: the column {odd[0]!r} holds {self.schema[odd[0]]}; expected numbers or text"
            )
        if not texts:
            return numeric, []
        counts = self.collect(
            [_known(name).count().alias(f"known {name}") for name in texts]
            + [_known(name).cast(lib.Float64, strict=False).count().alias(name) for name in texts]
        )
        words = []
        for name in texts:
            known, numbers = counts[f"known {name}"].item(), counts[name].item()
            if numbers == known:
                numeric.append(name)
            elif 2 * numbers >= known:
                self.check_text(name, None)
            elif explicit:
                words.append(name)
        return numeric, words

    def check_text(self, name: str, numbers: pl.Series | None) -> None:
        """Refuse a column of numbers of which a value is none."""
        lib = library()
        if self.schema[name] != lib.String:
            return
        if numbers is not None and numbers.null_count() == 0 and not numbers.is_nan().any():
            return
        wrong = self._frame.filter(_known(name).is_not_null() & _known(name).cast(lib.Float64, strict=False).is_null())
        first = collected(wrong.select(ROW, name).head(1), self.files)
        if len(first):
            raise DataError(
                f"{self.place(first[ROW].item())}: {first[name].item()!r} in the column {name!r}; expected a number. "
                "If it means that a value is missing, write nothing; if the column holds categories, name it as "
                "categorical"
            )

    def check_numbers(self, table: pl.DataFrame, keys: list[str], names: list[str]) -> None:
        named = dict(zip(keys, names, strict=True)) if keys and keys[0].startswith(_TARGET) else {}
        for key in keys:
            infinite = table[key].is_infinite()
            if infinite.any():
                row = table.filter(infinite.fill_null(value=False))[ROW][0]
                raise DataError(
                    f"{self.place(row)}: an infinite number in the column {named.get(key, key)!r}; expected a finite "
                    "one, or nothing where it is missing"
                )

    def times(self, column: pl.Series, name: str, rows: pl.Series) -> np.ndarray:
        """Return times of text as float64 or datetime64."""
        lib = library()
        if column.null_count():
            raise DataError(f"{self.place(rows[column.is_null().arg_max() or 0])}: no time in the column {name!r}")
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
            f"{self.place(rows[wrong])}: {column[wrong]!r} in the column {name!r}; expected a number or a date such as "
            "2024-05-31 or 2024-05-31T12:00:00, in one form for all rows"
        )

    def check_order(
        self, times: np.ndarray, table: pl.DataFrame, spans: list[tuple[int, int]], ids: Sequence[str]
    ) -> None:
        steps = np.diff(times)
        within = np.ones(len(times), bool)
        within[[start for start, _ in spans]] = False
        wrong = np.flatnonzero(within[1:] & (steps <= steps.dtype.type(0)))
        if len(wrong):
            at = int(wrong[0]) + 1
            name = next(name for name, (start, stop) in zip(ids, spans, strict=True) if start <= at < stop)
            if times[at] == times[at - 1]:
                raise DataError(
                    f"{self.place(table[ROW][at])}: the time {times[at]} a second time in sequence {name!r}; expected "
                    "one row for each time. Remove one, or name the column that says which sequence a row belongs to"
                )
            raise DataError(
                f"{self.place(table[ROW][at])}: the time {times[at]} after {times[at - 1]} in sequence {name!r}; "
                "expected ascending times. Sort the rows, or have them sorted (sort=True, --sort)"
            )

    def one_each(
        self, column: pl.Series, table: pl.DataFrame, spans: list[tuple[int, int]], ids: Sequence[str], name: str
    ) -> list[Any]:
        """Return the value that all rows of a sequence have, for each sequence."""
        found = []
        for called, (start, stop) in zip(ids, spans, strict=True):
            values = column[start:stop].fill_nan(None) if column.dtype.is_float() else column[start:stop]
            distinct = values.drop_nulls().unique(maintain_order=True)
            if len(distinct) == 0:
                raise DataError(
                    f"{self.place(table[ROW][start])}: sequence {called!r} has nothing in the column {name!r}; fill it "
                    "in, or remove the sequence"
                )
            if len(distinct) > 1:
                other = int((values == distinct[1]).fill_null(value=False).arg_max() or 0)
                raise DataError(
                    f"{self.place(table[ROW][start + other])}: {distinct[1]!r} in the column {name!r} of sequence "
                    f"{called!r}, which had {distinct[0]!r} before; expected one for all of its rows. If there is one "
                    "for every step, say so (per_step=True)"
                )
            found.append(distinct[0])
        return found


def _named(name: str | None, key: str) -> list[tuple[str, str]]:
    return [] if name is None else [(name, key)]


def _text(name: str) -> pl.Expr:
    lib = library()
    text = lib.col(name).cast(lib.String).str.strip_chars()
    return lib.when(text != "").then(text)


def _known(name: str) -> pl.Expr:
    lib = library()
    text = lib.col(name).cast(lib.String).str.strip_chars()
    return lib.when(~text.is_in(list(MISSING))).then(text)


def _number(name: str, dtype: Any) -> pl.Expr:
    """Return a column as numbers, of 32 bits where these hold all of it."""
    lib = library()
    if dtype in (lib.Float32, lib.Int8, lib.Int16, lib.UInt8, lib.UInt16, lib.Boolean):
        return lib.col(name).cast(lib.Float32)
    if dtype.is_numeric():
        return lib.col(name).cast(lib.Float64)
    return _known(name).cast(lib.Float64, strict=False)


def _sorted_sequences(table: pl.DataFrame, reading: _Reading, column: str | None) -> pl.DataFrame:
    """Return the rows sequence after sequence, those of one in their order, with a number for each."""
    lib = library()
    if table[_SEQUENCE].null_count():
        row = table.filter(lib.col(_SEQUENCE).is_null())[ROW][0]
        raise DataError(f"{reading.place(row)}: no sequence in the column {column!r}; fill it in or remove the row")
    numbers = table.select(lib.col(_SEQUENCE).unique(maintain_order=True)).with_row_index("\0code")
    table = table.join(numbers, on=_SEQUENCE, how="left", maintain_order="left")
    table = table.with_columns(lib.col("\0code").cast(lib.Int64))
    return table if table["\0code"].is_sorted() else table.sort("\0code", maintain_order=True)


def _codes(column: pl.Series, known: Sequence[str] | None) -> tuple[pl.Series, tuple[str, ...]]:
    lib = library()
    names = tuple(sorted(column.drop_nulls().unique().to_list()) if known is None else known)
    codes = {name: code for code, name in enumerate(names, start=1)}
    return column.replace_strict(codes, default=0, return_dtype=lib.Float32).fill_null(0), names


def _targets(
    held: list[pl.Series],
    names: list[str],
    kind: TargetKind | None,
    per_step: bool,
    class_names: Sequence[str] | None,
    at: tuple[_Reading, pl.DataFrame, list[tuple[int, int]], Sequence[str]],
) -> tuple[np.ndarray | list[np.ndarray], tuple[str, ...]]:
    reading, table, spans, ids = at
    if kind == "numbers":
        if per_step:
            columns = [column.cast(library().Float64).to_numpy() for column in held]
            whole = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
            return [whole[start:stop] for start, stop in spans], ()
        each = [reading.one_each(column, table, spans, ids, name) for column, name in zip(held, names, strict=True)]
        numbers = np.array(each, np.float64).T
        return (numbers[:, 0] if len(names) == 1 else numbers), ()
    labels = held[0].to_list() if per_step else reading.one_each(held[0], table, spans, ids, names[0])
    numbers, classes = numbered(labels, class_names, reading.where, names[0])
    return ([numbers[start:stop] for start, stop in spans] if per_step else numbers), classes


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


def _names_of(paths: Iterable[str]) -> tuple[str, ...]:
    """Return what files are called: their paths, without the folder that all are in."""
    every = [Path(path) for path in paths]
    common = every[0].parent
    while not all(path.is_relative_to(common) for path in every):
        common = common.parent
    return tuple(path.relative_to(common).as_posix() for path in every)


def _wide(values: np.ndarray, names: Sequence[str], times: np.ndarray | None) -> Sequences:
    arrays, moments, ids = [], [], []
    for place, name in enumerate(names):
        there = np.flatnonzero(~np.isnan(values[:, place]))
        if len(there) == 0:
            raise DataError(f"the column {name!r} has no value at all. Leave it out")
        span = slice(there[0], there[-1] + 1)
        arrays.append(values[span, place : place + 1])
        ids.append(name)
        if times is not None:
            moments.append(times[span])
    return Sequences(arrays, ("value",), tuple(ids), times=moments if times is not None else None)
