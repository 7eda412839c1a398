"""Sequences from tables: a row per step, or a column per sequence."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
MOST_CATEGORIES = 1000
_SEQUENCE, _CODE, _TIME, _GROUP = "\0sequence", "\0code", "\0time", "\0group"


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
        By default all that occur, sorted. If they are given, all other features must be numbers.
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
    unused = [name for name in coded if name not in wanted]
    if unused:
        raise DataError(f"received the category {unused[0]!r}, which is none of the features {listed(wanted)}")
    numeric, text = reading.kinds([name for name in wanted if name not in coded], explicit=features is not None)
    codes = {name: (categories or {}).get(name) for name in [*coded, *text]}
    chosen = [name for name in wanted if name in numeric or name in codes]
    if not chosen:
        raise DataError(f"{reading.where}: no column of numbers among {listed(wanted)}; name the features")
    if text and (wide or categories is not None):
        reading.check_text(text[0], None)
    kind = reading.kind_of(targets, target_kind)
    lib = library()
    rows = _Rows.gathered(
        reading,
        sequence_column,
        [
            *(_time(name, reading.schema[name]).alias(_TIME) for name in [time_column] if name is not None),
            *_label_columns(reading, targets, kind, group_column),
            *(_number(name, reading.schema[name]).alias(name) for name in chosen if name in numeric),
            *(_known(name).alias(name) for name in chosen if name in codes),
        ],
    )
    reading.check_finite(rows.table, {name: name for name in chosen if name in numeric})
    times = None
    if time_column is not None:
        times = _parsed(rows.table[_TIME], time_column, rows.place)
        if sort:
            order = np.lexsort((times, rows.table[_CODE].to_numpy()))
            rows, times = rows._replace(table=rows.table[order]), times[order]
        rows.check_order(times)
    coded_columns = {name: _codes(rows.table[name], known) for name, known in codes.items() if name in chosen}
    columns = [coded_columns[name][0] if name in coded_columns else rows.table[name] for name in chosen]
    narrow = all(column.dtype == lib.Float32 for column in columns)
    values = np.empty((len(rows.table), len(chosen)), np.float32 if narrow else np.float64)
    for place, column in enumerate(columns):
        values[:, place] = column.to_numpy()
    if wide:
        return _wide(values, chosen, times)
    labels, names = rows.targets(targets, kind, per_step, class_names)
    return Sequences(
        [values[start:stop] for start, stop in rows.spans],
        tuple(chosen),
        common_names(rows.ids) if sequence_column is None else rows.ids,
        {name: known for name, (_, known) in coded_columns.items()},
        None if times is None else [times[start:stop] for start, stop in rows.spans],
        labels,
        tuple(targets),
        names,
        rows.groups(group_column),
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
        plain = (lib.Boolean, lib.Null) if explicit else (lib.Boolean,)  # a column without any value has no type
        numeric = [name for name in names if self.schema[name].is_numeric() or self.schema[name] in plain]
        texts = [name for name in names if self.schema[name] in (lib.String, lib.Categorical, lib.Enum)]
        odd = [name for name in names if name not in numeric and name not in texts]
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

    def check_finite(self, table: pl.DataFrame, named: Mapping[str, str]) -> None:
        """Refuse infinite numbers; `named` has the columns of the source by those of `table`."""
        for key, name in named.items():
            infinite = table[key].is_infinite().fill_null(value=False)
            if infinite.any():
                raise DataError(
                    f"{self.place(table.filter(infinite)[ROW][0])}: an infinite number in the column {name!r}; "
                    "expected a finite one, or nothing where it is missing"
                )

    def kind_of(self, targets: list[str], kind: TargetKind | None) -> TargetKind:
        """Return what targets are."""
        if kind is None:
            kind = "classes" if self.kinds(targets, explicit=True)[1] else "numbers"
        if kind == "classes" and len(targets) > 1:
            raise DataError(f"received the targets {listed(targets)}; expected one column of classes")
        return kind


class _Rows(NamedTuple):
    """The rows of tables, sequence after sequence: where each sequence is, and what it is called."""

    reading: _Reading
    table: pl.DataFrame
    spans: list[tuple[int, int]]
    ids: tuple[str, ...]

    @classmethod
    def gathered(cls, reading: _Reading, sequence_column: str | None, columns: list[pl.Expr]) -> _Rows:
        lib = library()
        of = lib.col(FILE) if sequence_column is None else lib.col(sequence_column).cast(lib.String)
        table = reading.collect([lib.col(ROW), of.alias(_SEQUENCE), *columns])
        if len(table) == 0:
            raise DataError(f"{reading.where}: no rows; expected a row per step")
        if table[_SEQUENCE].null_count():
            row = table.filter(lib.col(_SEQUENCE).is_null())[ROW][0]
            raise DataError(
                f"{reading.place(row)}: no sequence in the column {sequence_column!r}; fill it in or remove the row"
            )
        codes = table.select(lib.col(_SEQUENCE).unique(maintain_order=True)).with_row_index(_CODE)
        table = table.join(codes, on=_SEQUENCE, how="left", maintain_order="left")
        if not table[_CODE].is_sorted():
            table = table.sort(_CODE, maintain_order=True)
        starts = np.flatnonzero(np.diff(table[_CODE].to_numpy().astype(np.int64), prepend=-1))
        spans = list(pairwise([*starts.tolist(), len(table)]))
        return cls(reading, table, spans, tuple(codes[_SEQUENCE].to_list()))

    def place(self, row: int) -> str:
        """Return the file and the row of one of these rows."""
        return self.reading.place(self.table[ROW][row])

    def check_order(self, times: np.ndarray) -> None:
        steps = np.diff(times)
        within = np.ones(len(times), bool)
        within[[start for start, _ in self.spans]] = False
        wrong = np.flatnonzero(within[1:] & (steps <= steps.dtype.type(0)))
        if len(wrong) == 0:
            return
        at = int(wrong[0]) + 1
        name = self.ids[self.table[_CODE][at]]
        if times[at] == times[at - 1]:
            raise DataError(
                f"{self.place(at)}: the time {times[at]} a second time in sequence {name!r}; expected one row for each "
                "time. Remove one, or name the column that says which sequence a row belongs to"
            )
        raise DataError(
            f"{self.place(at)}: the time {times[at]} after {times[at - 1]} in sequence {name!r}; expected ascending "
            "times. Sort the rows, or have them sorted (sort=True, --sort)"
        )

    def one_each(self, key: str, name: str) -> pl.Series:
        """Return the value that all rows of a sequence have, for each sequence; rows without one are passed over."""
        lib = library()
        column = lib.col(key).fill_nan(None) if self.table[key].dtype.is_float() else lib.col(key)
        known = column.drop_nulls()
        each = self.table.group_by(_CODE, maintain_order=True).agg(known.n_unique().alias("count"), known.first())
        wrong = (each["count"] != 1).arg_max() or 0
        if each["count"][wrong] == 1:
            return each[key]
        start, stop = self.spans[wrong]
        if each["count"][wrong] == 0:
            raise DataError(
                f"{self.place(start)}: sequence {self.ids[wrong]!r} has nothing in the column {name!r}; fill it in, or "
                "remove the sequence"
            )
        other = start + int((self.table[key][start:stop] != each[key][wrong]).fill_null(value=False).arg_max() or 0)
        raise DataError(
            f"{self.place(other)}: {self.table[key][other]!r} in the column {name!r} of sequence {self.ids[wrong]!r}, "
            f"which has {each[key][wrong]!r} before; expected one for all of its rows. If there is one for every step, "
            "say so (per_step=True)"
        )

    def groups(self, column: str | None) -> tuple[str, ...] | None:
        return None if column is None else tuple(self.one_each(_GROUP, column).to_list())

    def targets(
        self, names: list[str], kind: TargetKind, per_step: bool, class_names: Sequence[str] | None
    ) -> tuple[np.ndarray | list[np.ndarray] | None, tuple[str, ...]]:
        """Return the targets as in `Sequences`, and the classes."""
        if not names:
            return None, ()
        keys = dict(zip(map(_target_key, range(len(names))), names, strict=True))
        if kind == "numbers":
            for key, name in keys.items():
                self.reading.check_text(name, self.table[key])
            self.reading.check_finite(self.table, keys)
        held = [self.table[key] if per_step else self.one_each(key, name) for key, name in keys.items()]
        classes: tuple[str, ...] = ()
        if kind == "classes":
            whole, classes = numbered(held[0].to_list(), class_names, self.reading.where, names[0])
        else:
            columns = [column.cast(library().Float64).to_numpy() for column in held]
            whole = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
        return ([whole[start:stop] for start, stop in self.spans] if per_step else whole), classes


def _target_key(place: int) -> str:
    return f"\0target {place}"


def _label_columns(reading: _Reading, targets: list[str], kind: TargetKind, group_column: str | None) -> list[pl.Expr]:
    lib = library()
    found = [_number(name, reading.schema[name]) if kind == "numbers" else _text(name) for name in targets]
    found = [column.alias(_target_key(place)) for place, column in enumerate(found)]
    return found if group_column is None else [*found, lib.col(group_column).cast(lib.String).alias(_GROUP)]


def _parsed(column: pl.Series, name: str, place: Callable[[int], str]) -> np.ndarray:
    """Return times of text as float64 or datetime64; `place` says where a row is."""
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
    parts = np.split(_parsed(column, "time", lambda _: str(where)), np.cumsum(lengths)[:-1])
    for number, part in enumerate(parts, start=1):
        if len(part) > 1 and np.diff(part).min() <= np.diff(part).dtype.type(0):
            raise DataError(f"{where}: the times of series {number} do not ascend")
    return parts


def label_table(
    sequences: Sequences,
    path: Path,
    *,
    target: str | Sequence[str] | None = None,
    target_kind: TargetKind | None = None,
    class_names: Sequence[str] | None = None,
    group_column: str | None = None,
    encoding: str = "utf-8",
) -> Sequences:
    """Return sequences with the labels of a table that has a row for each.

    Parameters
    ----------
    sequences : Sequences
        Without labels.
    path : Path
        The table. Its first column has their ids, or the names of their files, with or without the ending.
    target, target_kind, class_names, group_column, encoding
        As in `read_source`.

    Raises
    ------
    DataError
        If a sequence has no row, or as `read_table` does.
    """
    reading = _Reading([path], scan([path], encoding))
    key, *others = reading.columns
    if target is None:
        rest = [name for name in others if name != group_column]
        if len(rest) != 1:
            raise DataError(
                f"{path}: the columns {listed(reading.columns)}; name the one of the labels (target=, --target)"
            )
        target = rest
    targets = [target] if isinstance(target, str) else list(target)
    check_columns([*targets, *([group_column] if group_column else [])], reading.columns, path)
    kind = reading.kind_of(targets, target_kind)
    table = _Rows.gathered(reading, key, _label_columns(reading, targets, kind, group_column))
    labels, classes = table.targets(targets, kind, False, class_names)
    groups = table.groups(group_column)
    places = {name: place for place, name in enumerate(table.ids)}
    rows = []
    for name in sequences.ids:
        file = Path(name)
        called = [name, str(file.with_suffix("")), file.name, file.stem]
        row = next((places[one] for one in called if one in places), None)
        if row is None:
            near = difflib.get_close_matches(name, table.ids, n=3) or table.ids
            raise DataError(f"{path}: no row for the sequence {name!r} in the column {key!r}; there are {listed(near)}")
        rows.append(row)
    assert isinstance(labels, np.ndarray)
    return replace(
        sequences,
        targets=labels[rows],
        target_names=tuple(targets),
        class_names=classes,
        groups=None if groups is None else tuple(groups[row] for row in rows),
    )


def _time(name: str, dtype: Any) -> pl.Expr:
    lib = library()
    time = lib.col(name)
    if isinstance(dtype, lib.Datetime) and dtype.time_zone is not None:
        time = time.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return time.cast(lib.String)


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


def _codes(column: pl.Series, known: Sequence[str] | None) -> tuple[pl.Series, tuple[str, ...]]:
    lib = library()
    names = tuple(sorted(column.drop_nulls().unique().to_list()) if known is None else known)
    if known is None and len(names) > MOST_CATEGORIES:
        raise DataError(
            f"the column {column.name!r} holds {len(names):,} different texts, such as {listed(names, 2)}; expected at "
            f"most {MOST_CATEGORIES:,} categories, or numbers with a decimal point"
        )
    codes = {name: code for code, name in enumerate(names, start=1)}
    return column.replace_strict(codes, default=0, return_dtype=lib.Float32).fill_null(0), names


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


def common_names(paths: Iterable[str | Path]) -> tuple[str, ...]:
    """Return what files are called: their paths, without the folder that all are in.

    Parameters
    ----------
    paths : iterable of str or Path
        At least one.
    """
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
