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
from typing import TYPE_CHECKING, Any

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
    library()
    kind = ending_of(paths[0])
    headers = [_header(path, kind, encoding) for path in paths]
    for path, names in zip(paths, headers, strict=True):
        if kind in _SEPARATORS and names != headers[0]:
            raise DataError(
                f"{path}: the columns {listed(names)}; expected {listed(headers[0])}, as in {paths[0]}, in this order"
            )
    plain = kind == ".parquet" or (not any(map(_is_packed, paths)) and _is_utf8(encoding))
    where = f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"
    with damage_as(DataError, f"{where}: cannot be read as a table"):
        if plain:
            return _scanned(list(paths), kind, FILE)
        frames = [
            _scanned(io.BytesIO(_text(path, encoding).encode()), kind, None).with_columns(
                library().lit(str(path)).alias(FILE)
            )
            for path in paths
        ]
        return library().concat(frames).drop(ROW).with_row_index(ROW)


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
    where = f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}"
    with damage_as(DataError, f"{where}: cannot be read as a table", "expected as many fields in each row as columns"):
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


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(PACKED)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _text(path: Path, encoding: str) -> str:
    text = decode(read_bytes(path), path, encoding, remedy=_REMEDY)
    if "\0" in text:
        raise _nul(path, text.count("\n", 0, text.index("\0")) + 1)
    return text


def _nul(path: Path, line: int) -> DataError:
    return DataError(f"{path}, line {line}: a NUL byte, which no text has. {_REMEDY}")


def _check_pieces(path: Path) -> None:
    """Refuse a file that is not UTF-8 or has a NUL byte, without holding it in memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if b"\0" in piece:
                raise _nul(path, line + piece.count(b"\n", 0, piece.index(b"\0")))
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                at = line + error.object.count(b"\n", 0, error.start)
                raise DataError(
                    f"{path}, line {at}: the byte {error.object[error.start]:#04x} is not UTF-8 ({error.reason}).\n"
                    f"{_REMEDY}"
                ) from error
            line += piece.count(b"\n")


def _header(path: Path, kind: str, encoding: str) -> list[str]:
    """Return the names of a table's columns (of JSON lines none: each line has its own)."""
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
    elif not _is_packed(path) and _is_utf8(encoding):
        _check_pieces(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = _first_record(file, path, kind)
    else:
        names = _first_record(io.StringIO(_text(path, encoding), newline=""), path, kind)
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path}: {len(names):,} columns; expected at most {MOST_COLUMNS:,}. If they are time steps, transpose the "
            "table: a row is a step"
        )
    if len(set(names)) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{path}: several columns are called {twice!r}; rename them")
    return names


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
