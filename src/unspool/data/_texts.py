"""Texts without labels, from files."""

from pathlib import Path

from unspool.data._labelled_texts import check_text, column_value
from unspool.data._text_rows import read_rows


def read_texts(path: str | Path, *, text_column: str = "text", encoding: str = "utf-8") -> list[str]:
    """Read texts without labels, in the format given by the file's extension.

    Parameters
    ----------
    path : str or Path
        ``.txt`` with one text per line, or a table as in `read_labelled_texts`; each also with ``.gz`` or ``.xz``.
    text_column : str
        The column, or the key, of the texts in a table.
    encoding : str
        The file's character encoding.

    Returns
    -------
    list of str
        In the order of the file.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind or in another encoding, a table has no such column, or a
        text is empty; the message says where.
    """
    path = Path(path).expanduser()
    texts = []
    for row in read_rows(path, encoding, line_column=text_column):
        where = f"{path}, {row.place}"
        text = column_value(row, text_column, "text_column", where)
        check_text(text, where)
        texts.append(text)
    return texts
