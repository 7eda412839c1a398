"""Tables of any size, scanned by polars: CSV, TSV, JSON lines and Parquet.

Text columns stay text until it is known what is in them: no value is guessed from the first rows.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from unspool._reading import damage_as
from unspool.data._bytes import decode, read_bytes
from unspool.data._errors import DataError
from unspool.data._sequences import listed

if TYPE_CHECKING:
    import polars as pl

FILE, ROW = "\0file", "\0row"
"""Columns that scanning adds, by names that no table has: the file, and the row counted over all files."""
MOST_COLUMNS = 10_000
PACKED = (".gz", ".xz")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PIECE = 1 << 20
_REMEDY = "Save the file as UTF-8, or name its encoding (encoding=, --encoding), for example 'latin-1' or 'utf-16'"


def library() -> ModuleType:
    """Import the package polars, which only tables need.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        import polars
    except ModuleNotFoundError as error:
        raise DataError(
            "reading tables needs polars, which is not installed.\nInstall it with: pip install 'unspool[data]'"
        ) from error
    return polars


def ending_of(path: Path) -> str:
    """Return the lower-case ending of a file's name, without that of its compression.

    Parameters
    ----------
    path : Path
        The file.
    """
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def scan(paths: Sequence[Path], encoding: str = "utf-8") -> pl.LazyFrame:
    """Return tables, one below the other, with the columns `FILE` and `ROW`; nothing but names is read yet.

    Parameters
    ----------
    paths : sequence of Path
        Files of one kind that have the same columns.
    encoding : str
        The character encoding of text.

    Raises
    ------
    DataError
        If a file is missing, empty, damaged, of another kind or in another encoding, or its columns have no names, the
        same names, or others than the first file's.
    """
    lib = library()
    kind = ending_of(paths[0])
    headers = [_header(path, kind, encoding) for path in paths]
    expected = headers[0][0]
    for path, (names, _) in zip(paths, headers, strict=True):
        if kind in _SEPARATORS and names != expected:
            raise DataError(
                f"{path}: the columns {listed(names)}; expected {listed(expected)}, as in {paths[0]}, in this order"
            )
    with damage_as(DataError, f"{_several(paths)}: cannot be read as a table"):
        if kind == ".parquet" or (not any(map(_is_packed, paths)) and _is_utf8(encoding)):
            frame = _scanned(list(paths), kind, FILE)
        else:
            frames = [
                _scanned(io.BytesIO(_unpacked(path, encoding)), kind, None).with_columns(lib.lit(str(path)).alias(FILE))
                for path in paths
            ]
            frame = lib.concat(frames).drop(ROW).with_row_index(ROW)
        if any(blank for _, blank in headers):
            frame = frame.filter(~lib.all_horizontal(lib.col(expected).is_null()))
        return frame


def collected(frame: pl.LazyFrame, paths: Sequence[Path]) -> pl.DataFrame:
    """Return what a query of scanned tables gives; they are read in pieces.

    Parameters
    ----------
    frame : LazyFrame
        The query.
    paths : sequence of Path
        The tables, for errors.

    Raises
    ------
    DataError
        If a table is damaged.
    """
    with damage_as(DataError, f"{_several(paths)}: cannot be read as a table"):
        return frame.collect(engine="streaming")


def check_columns(wanted: Iterable[str], there: Sequence[str], where: object) -> None:
    """Refuse columns that a table does not have.

    Parameters
    ----------
    wanted : iterable of str
        The columns that are needed.
    there : sequence of str
        Those that it has.
    where : object
        What errors call the table.

    Raises
    ------
    DataError
        If one is missing; the message has the names nearest to it.
    """
    known = set(there)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, there, n=3) or [
                other for other in there if other.lower() == name.lower()
            ]
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {listed(there)}"
            raise DataError(f"{where}: no column {name!r}; {hint}")


def _scanned(source: Any, kind: str, file_column: str | None) -> pl.LazyFrame:
    lib = library()
    if kind == ".parquet":
        return lib.scan_parquet(source, row_index_name=ROW, include_file_paths=file_column, glob=False)
    if kind in _SEPARATORS:
        return lib.scan_csv(
            source,
            separator=_SEPARATORS[kind],
            infer_schema=False,
            row_index_name=ROW,
            include_file_paths=file_column,
            glob=False,
        )
    return lib.scan_ndjson(source, infer_schema_length=None, row_index_name=ROW, include_file_paths=file_column)


def _several(paths: Sequence[Path]) -> str:
    return f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(PACKED)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _unpacked(path: Path, encoding: str) -> bytes:
    return decode(read_bytes(path), path, encoding, remedy=_REMEDY).encode()


def _nul(path: Path, line: int) -> DataError:
    return DataError(f"{path}, line {line}: a NUL byte, which no text has. {_REMEDY}")


def _check_text(file: BinaryIO, path: Path, separator: str | None) -> bool:
    """Refuse what is not UTF-8, a NUL byte, and rows of more or fewer fields than the first; read piece by piece.

    Return whether there are blank lines between rows of several fields, which polars takes for rows. It also takes
    missing fields for missing values, and passes over surplus ones if it need not read them.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    fields = None if separator is None else _Fields(path, ord(separator))
    line = 1
    more = True
    while more:
        piece = file.read(_PIECE)
        more = bool(piece)
        if b"\0" in piece:
            raise _nul(path, line + piece.count(b"\n", 0, piece.index(b"\0")))
        try:
            decoder.decode(piece, final=not more)
        except UnicodeDecodeError as error:
            at = line + error.object.count(b"\n", 0, error.start)
            raise DataError(
                f"{path}, line {at}: the byte {error.object[error.start]:#04x} is not UTF-8 ({error.reason}).\n"
                f"{_REMEDY}"
            ) from error
        if fields is not None:
            fields.check(piece or b"\n")
        line += piece.count(b"\n")
    return fields is not None and fields.blank


class _Fields:
    """Counts the fields of rows; separators and line breaks between double quotes do not count."""

    def __init__(self, path: Path, separator: int) -> None:
        self._path = path
        self._separator = separator
        self._expected: int | None = None
        self._quotes = self._separators = self._characters = 0  # before the piece, of the row that it goes on with
        self._rows = 0
        self.blank = False

    def check(self, piece: bytes) -> None:
        content = np.frombuffer(piece, np.uint8)
        ends, separators = content == ord("\n"), content == self._separator
        if self._quotes % 2 or b'"' in piece:
            quotes = np.cumsum(content == ord('"')) + self._quotes
            self._quotes = int(quotes[-1])
            ends &= quotes % 2 == 0
            separators &= quotes % 2 == 0
        last = np.flatnonzero(ends)
        counts = np.diff(np.cumsum(separators)[last], prepend=-self._separators)
        sizes = np.diff(last, prepend=-self._characters - 1) - 1
        if len(last):
            self._separators = self._characters = 0
        self._separators += int(np.count_nonzero(separators[last[-1] + 1 if len(last) else 0 :]))
        self._characters += len(content) - (int(last[-1]) + 1 if len(last) else 0)
        if len(last) and self._expected is None:
            self._expected = int(counts[0])
        other = counts != self._expected
        blank = other & (sizes <= 1) & (counts == 0)
        self.blank = self.blank or bool(blank.any())
        wrong = np.flatnonzero(other & ~blank)
        if len(wrong):
            raise DataError(
                f"{self._path}, row {self._rows + wrong[0]}: {counts[wrong[0]] + 1} fields; expected "
                f"{(self._expected or 0) + 1}, as in the first line, which names the columns. Put a text that has "
                "separators or line breaks in double quotes"
            )
        self._rows += len(last)


def _header(path: Path, kind: str, encoding: str) -> tuple[list[str], bool]:
    """Return the names of a table's columns (of JSON lines none: each line has its own), and if it has blank lines."""
    blank = False
    if kind not in TABLES:
        raise DataError(
            f"{path}: unknown kind of file; expected a name that ends in {', '.join(TABLES)}, all but the last also "
            f"with {' or '.join(PACKED)} behind it"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: an empty file; expected a table")
    if kind == ".parquet":
        with damage_as(DataError, f"{path}: no Parquet file"):
            names = library().scan_parquet(path, glob=False).collect_schema().names()
    else:
        plain = not _is_packed(path) and _is_utf8(encoding)
        with (
            path.open("rb") if plain else io.BytesIO(_unpacked(path, encoding)) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
        ):
            blank = _check_text(file, path, _SEPARATORS.get(kind))
            file.seek(0)
            names = _first_record(text, path, kind)
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path}: {len(names):,} columns; expected at most {MOST_COLUMNS:,}. If they are time steps, transpose the "
            "table: a row is a step"
        )
    if len(set(names)) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{path}: several columns are called {twice!r}; rename them")
    return names, blank


def _first_record(file: Any, path: Path, kind: str) -> list[str]:
    if kind not in _SEPARATORS:
        return []
    limit = csv.field_size_limit(1 << 27)
    try:
        names = next(csv.reader(file, delimiter=_SEPARATORS[kind]), [])
    except csv.Error as error:
        raise DataError(f"{path}, line 1: no names of columns ({error})") from error
    finally:
        csv.field_size_limit(limit)
    if not names or not all(name.strip() for name in names):
        raise DataError(f"{path}, line 1: the columns {listed(names)}; expected a name for each")
    return names
