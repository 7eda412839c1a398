"""Tables of texts: one row per text, its columns by name."""

import csv
import io
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from unspool._reading import parsed_json, reason_of
from unspool.data._bytes import read_text
from unspool.data._errors import DataError


class Row(NamedTuple):
    """``place`` locates the row in errors; ``values`` holds its columns by name."""

    place: str
    values: dict[str, Any]


def read_rows(path: Path, encoding: str = "utf-8", *, line_column: str | None = None) -> list[Row]:
    """Read the rows of a table, in the format given by the file's extension.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.tsv``, whose first row names the columns, or ``.jsonl``, an object a line; each also with
        ``.gz`` or ``.xz``.
    encoding : str
        The file's character encoding.
    line_column : str, optional
        The column of the texts in a ``.txt`` file, which has one text per line; by default, such files are refused.

    Raises
    ------
    DataError
        If the file is missing, damaged, empty, of another kind or in another encoding.
    """
    readers = _READERS if line_column is None else {".txt": partial(_lines, column=line_column), **_READERS}
    kinds = f"a name that ends in {', '.join(readers)}, or in one of them and .gz or .xz"
    if path.is_dir():
        raise DataError(f"{path}: a directory; expected {kinds}. A folder aclImdb is read by load_acl_imdb_texts")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    ending = Path(path.name.lower().removesuffix(".gz").removesuffix(".xz")).suffix
    if ending not in readers:
        raise DataError(f"{path}: unknown kind of file; expected {kinds}")
    rows = readers[ending](read_text(path, encoding, remedy=REMEDY), path)
    if not rows:
        raise DataError(f"{path}: no rows; expected at least one text")
    return rows


def read_plain_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file that is no table, with single line ends.

    Parameters
    ----------
    path : Path
        The file; also with ``.gz`` or ``.xz``.
    encoding : str
        The file's character encoding.

    Raises
    ------
    DataError
        If the file is missing, damaged, empty or in another encoding, or is no text: it has a null character.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'a directory; expected a text file' if path.is_dir() else 'no such file'}")
    text = read_text(path, encoding, remedy=REMEDY).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(f"{path}: no text; expected some characters")
    wrong = re.search("[\0\ud800-\udfff]", text)
    if wrong is not None:
        line = text.count("\n", 0, wrong.start()) + 1
        called = "a null character" if wrong[0] == "\0" else f"half a character ({wrong[0]!a}, a lone surrogate)"
        raise DataError(f"{path}, line {line}: {called}; expected a text. {REMEDY}")
    return text


def _table(text: str, path: Path, delimiter: str) -> list[Row]:
    # The default limit of a field, 128 KiB, is less than some texts have.
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    rows, start = [], 1
    try:
        for fields in reader:
            place, start = f"line {start}", reader.line_num + 1
            if not fields:
                continue
            if header is None:
                header = fields
                repeated = {name for name in header if header.count(name) > 1}
                if repeated:
                    raise DataError(f"{path}, {place}: several columns are called {listed(repeated)}; rename them")
            elif len(fields) != len(header):
                raise DataError(
                    f"{path}, {place}: {len(fields)} fields; expected {len(header)}, as in the first line, which names "
                    "the columns. Put a text that has separators or line breaks in double quotes"
                )
            else:
                rows.append(Row(f"row {len(rows) + 1} ({place})", dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: damaged quotes ({error}); a field that starts with a double quote ends with one, "
            "and those within it are doubled"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _lines(text: str, _path: Path, column: str) -> list[Row]:
    lines = text.removesuffix("\n").split("\n") if text else []
    return [Row(f"line {number}", {column: line.removesuffix("\r")}) for number, line in enumerate(lines, start=1)]


def _objects(text: str, path: Path) -> list[Row]:
    rows = []
    # Not splitlines: a JSON string may hold the other characters that it splits at.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = parsed_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: no JSON ({reason_of(error)}); expected one object a line"
            ) from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: a JSON {type(value).__name__}; expected one object a line")
        rows.append(Row(f"line {number}", value))
    return rows


def listed(names: Iterable[str]) -> str:
    """Return names for a message, quoted and shortened: what should be names may be whole texts."""
    return ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in names)


REMEDY = "Save the file as UTF-8, or name its encoding (encoding=, --encoding), for example 'latin-1' or 'utf-16'"

_READERS: dict[str, Callable[[str, Path], list[Row]]] = {
    ".csv": partial(_table, delimiter=","),
    ".tsv": partial(_table, delimiter="\t"),
    ".jsonl": _objects,
}
