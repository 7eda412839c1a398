"""Rows of scanned tables, put together as sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from unspool.data._errors import DataError
from unspool.data._sequences import listed
from unspool.data._table_columns import known_of, number_of, numbered, text_of
from unspool.data._table_scan import FILE, ROW, collected, library

if TYPE_CHECKING:
    import polars as pl

TargetKind = Literal["classes", "numbers"]
_SEQUENCE, CODE, _GROUP = "\0sequence", "\0code", "\0group"


class Reading:
    """Tables that are read, and what their columns hold.

    Parameters
    ----------
    files : list of Path
        The tables.
    frame : LazyFrame
        What `scan` returned for them.
    """

    def __init__(self, files: list[Path], frame: pl.LazyFrame) -> None:
        self.files = files
        self.where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        self._frame = frame
        empty = collected(frame.head(0), files)
        self.schema = dict(zip(empty.columns, empty.dtypes, strict=True))
        self.columns = [name for name in self.schema if name not in (FILE, ROW)]

    def collect(self, expressions: list[pl.Expr]) -> pl.DataFrame:
        """Return columns of all rows."""
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
        words = []
        for name, (known, numbers) in self._counts(texts).items():
            if numbers == known:
                numeric.append(name)
            elif 2 * numbers >= known and self.schema[name] == lib.String:
                self.check_text(name)
            elif explicit:
                words.append(name)
        return numeric, words

    def _counts(self, names: list[str]) -> dict[str, tuple[int, int]]:
        """Return how many values columns of text have, and how many of these are numbers."""
        if not names:
            return {}
        lib = library()
        columns = [known_of(name) for name in names]
        columns += [column.cast(lib.Float64, strict=False) for column in columns]
        counts = self.collect([column.count().alias(str(place)) for place, column in enumerate(columns)]).row(0)
        return {name: (counts[place], counts[len(names) + place]) for place, name in enumerate(names)}

    def check_text(self, name: str) -> None:
        """Refuse a column that should be of numbers for its first value that is none."""
        known = known_of(name)
        wrong = self._frame.filter(known.is_not_null() & known.cast(library().Float64, strict=False).is_null())
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
            texts = [name for name in targets if not self.schema[name].is_numeric()]
            kind = "numbers" if all(known == count for known, count in self._counts(texts).values()) else "classes"
        if kind == "classes" and len(targets) > 1:
            raise DataError(f"received the targets {listed(targets)}; expected one column of classes")
        return kind


class Rows(NamedTuple):
    """The rows of tables, sequence after sequence: where each sequence is, and what it is called."""

    reading: Reading
    table: pl.DataFrame
    spans: list[tuple[int, int]]
    ids: tuple[str, ...]

    @classmethod
    def gathered(cls, reading: Reading, sequence_column: str | None, columns: list[pl.Expr]) -> Rows:
        """Return the rows by sequence; without a column for it, every file is one."""
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
        codes = table.select(lib.col(_SEQUENCE).unique(maintain_order=True)).with_row_index(CODE)
        table = table.join(codes, on=_SEQUENCE, how="left", maintain_order="left")
        if not table[CODE].is_sorted():
            table = table.sort(CODE, maintain_order=True)
        starts = np.flatnonzero(np.diff(table[CODE].to_numpy().astype(np.int64), prepend=-1))
        spans = list(pairwise([*starts.tolist(), len(table)]))
        return cls(reading, table, spans, tuple(codes[_SEQUENCE].to_list()))

    def place(self, row: int) -> str:
        """Return the file and the row of one of these rows."""
        return self.reading.place(self.table[ROW][row])

    def check_order(self, times: np.ndarray) -> None:
        """Refuse times (N,) that do not ascend within a sequence."""
        steps = np.diff(times)
        within = np.ones(len(times), bool)
        within[[start for start, _ in self.spans]] = False
        wrong = np.flatnonzero(within[1:] & (steps <= steps.dtype.type(0)))
        if len(wrong) == 0:
            return
        at = int(wrong[0]) + 1
        name = self.ids[self.table[CODE][at]]
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
        each = self.table.group_by(CODE, maintain_order=True).agg(known.n_unique().alias("count"), known.first())
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
        """Return the group of each sequence, if there is a column of groups."""
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
                if self.table[key].null_count():
                    self.reading.check_text(name)
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


def label_columns(reading: Reading, targets: list[str], kind: TargetKind, group_column: str | None) -> list[pl.Expr]:
    """Return the columns from which `Rows.targets` and `Rows.groups` are made.

    Parameters
    ----------
    reading : Reading
        The tables.
    targets : list of str
        The columns of the targets, maybe none.
    kind : {"classes", "numbers"}
        What they are.
    group_column : str, optional
        The column of the groups.
    """
    lib = library()
    found = [number_of(name, reading.schema[name]) if kind == "numbers" else text_of(name) for name in targets]
    found = [column.alias(_target_key(place)) for place, column in enumerate(found)]
    return found if group_column is None else [*found, lib.col(group_column).cast(lib.String).alias(_GROUP)]
