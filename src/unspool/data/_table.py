"""Sequences from tables: a row per step, or a column per sequence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unspool.data._errors import DataError
from unspool.data._sequences import Sequences, listed
from unspool.data._table_columns import codes_of, known_of, number_of, parsed, time_of
from unspool.data._table_rows import CODE, Reading, Rows, TargetKind, label_columns
from unspool.data._table_scan import check_columns, library, scan

_TIME = "\0time"


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
    reading = Reading(files, scan(files, encoding))
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
        reading.check_text(text[0])
    kind = reading.kind_of(targets, target_kind)
    lib = library()
    rows = Rows.gathered(
        reading,
        sequence_column,
        [
            *(time_of(name, reading.schema[name]).alias(_TIME) for name in [time_column] if name is not None),
            *label_columns(reading, targets, kind, group_column),
            *(number_of(name, reading.schema[name]).alias(name) for name in chosen if name in numeric),
            *(known_of(name).alias(name) for name in chosen if name in codes),
        ],
    )
    reading.check_finite(rows.table, {name: name for name in chosen if name in numeric})
    times = None
    if time_column is not None:
        times = parsed(rows.table[_TIME], time_column, rows.place)
        if sort:
            order = np.lexsort((times, rows.table[CODE].to_numpy()))
            rows, times = rows._replace(table=rows.table[order]), times[order]
        rows.check_order(times)
    coded_columns = {name: codes_of(rows.table[name], known) for name, known in codes.items() if name in chosen}
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
    reading = Reading([path], scan([path], encoding))
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
    table = Rows.gathered(reading, key, label_columns(reading, targets, kind, group_column))
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
