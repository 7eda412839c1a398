"""Texts with labels, from tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._text_rows import Row, listed, read_rows


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts and the class of each.

    Parameters
    ----------
    texts : list of str
        R texts, none of them empty.
    labels : Tensor of shape (R,), int64
        The class of each text, from 0.
    class_names : tuple of str
        The name of each class, at least two.

    Raises
    ------
    DataError
        If there is no text or an empty one, or the labels do not fit the texts or the classes.
    """

    texts: list[str]
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts or self.labels.shape != (len(self.texts),) or self.labels.dtype != torch.int64:
            raise DataError(
                f"received {len(self.texts)} texts and labels of shape {tuple(self.labels.shape)} and type "
                f"{self.labels.dtype}; expected at least one text and an int64 label for each"
            )
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise DataError(f"received the classes {listed(self.class_names)}; expected two or more, all different")
        for index, text in enumerate(self.texts):
            check_text(text, f"text {index}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise DataError(f"labels run from {low} to {high}; expected 0 to {len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> "LabelledTexts":
        """Return the texts of the given rows, in the given order, with all classes.

        Parameters
        ----------
        indices : sequence of int
            Rows of these texts, at least one.
        """
        rows = list(indices)
        return LabelledTexts([self.texts[row] for row in rows], self.labels[rows], self.class_names)


def read_labelled_texts(
    path: str | Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    class_names: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> LabelledTexts:
    """Read texts and their labels from a table, in the format given by the file's extension.

    Parameters
    ----------
    path : str or Path
        ``.csv`` or ``.tsv``, whose first row names the columns, or ``.jsonl``, an object a line; each also
        compressed, with ``.gz`` or ``.xz`` after it.
    text_column : str
        The column, or the key, of the texts.
    label_column : str
        The column, or the key, of the labels: words or numbers.
    class_names : sequence of str, optional
        The allowed labels, in the order of their classes: pass those of the training texts when reading test texts. By
        default the labels of the file, sorted: as numbers if all are, else by their characters.
    encoding : str
        The file's character encoding.

    Returns
    -------
    LabelledTexts
        In the order of the file.

    Raises
    ------
    DataError
        If the file is missing, damaged, of another kind or in another encoding, a column or a label is missing, a
        text is empty, a label is none of `class_names`, or all labels are the same; the message says where.
    """
    path = Path(path).expanduser()
    return labelled_texts(read_rows(path, encoding), path, text_column, label_column, class_names)


def labelled_texts(
    rows: Sequence[Row], path: Path, text_column: str, label_column: str, class_names: Sequence[str] | None
) -> LabelledTexts:
    """Return the texts and labels of rows.

    Parameters
    ----------
    rows : sequence of Row
        At least one.
    path : Path
        What errors call the file.
    text_column, label_column, class_names
        As in `read_labelled_texts`.

    Raises
    ------
    DataError
        As in `read_labelled_texts`.
    """
    texts, labels = [], []
    for row in rows:
        where = f"{path}, {row.place}"
        text = column_value(row, text_column, "text_column", where)
        check_text(text, where)
        texts.append(text)
        label = column_value(row, label_column, "label_column", where)
        labels.append(_label(label, where, label_column))
    names = class_names_of(set(labels), path, label_column) if class_names is None else tuple(class_names)
    numbers = {name: number for number, name in enumerate(names)}
    for row, label in zip(rows, labels, strict=True):
        if label not in numbers:
            raise DataError(f"{path}, {row.place}: the label {label!r}; expected one of {listed(names)}")
    return LabelledTexts(texts, torch.tensor([numbers[label] for label in labels]), names)


def check_text(text: Any, where: str) -> None:
    """Refuse anything that is not a text, or an empty text.

    Parameters
    ----------
    text : object
        What should be a text.
    where : str
        What the error calls it.

    Raises
    ------
    DataError
        If `text` is not a str, has only blanks, or has half a character.
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: {text!r:.40} of type {type(text).__name__}; expected a text")
    if not text.strip():
        raise DataError(f"{where}: an empty text; fill it in or remove its row")
    _check_whole(text, "text", where)


def _check_whole(text: str, called: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: the {called} has half a character at {error.start} ({text[error.start]!a}, a lone surrogate); "
            "replace or remove it"
        ) from error


def column_value(row: Row, column: str, argument: str, where: str) -> Any:
    """Return what a row has in a column.

    Parameters
    ----------
    row : Row
        The row.
    column : str
        The column's name.
    argument : str
        What the caller calls the argument that names it.
    where : str
        What errors call the row.

    Raises
    ------
    DataError
        If there is no such column.
    """
    if column not in row.values:
        option = argument.replace("_", "-")
        raise DataError(
            f"{where}: no column {column!r}; there are {listed(row.values)}.\n"
            f"Name the right one with {argument}= or --{option}"
        )
    return row.values[column]


def _label(value: Any, where: str, column: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: no label in the column {column!r}; fill it in or remove the row")
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise DataError(f"{where}: a label of type {type(value).__name__}; expected a word or a number")
    label = str(value).strip()
    _check_whole(label, "label", where)
    return label


def class_names_of(labels: set[str], where: object, column: str) -> tuple[str, ...]:
    """Return the classes among labels, sorted: as numbers if all are, else by their characters.

    Parameters
    ----------
    labels : set of str
        The distinct labels.
    where, column : object
        What errors call the source and the column.

    Raises
    ------
    DataError
        If there is one class only, or one number written in two ways.
    """
    if len(labels) == 1:
        raise DataError(
            f"{where}: every label in the column {column!r} is {listed(labels)}; expected at least two classes. "
            "For a file of one class name all of them with class_names"
        )
    try:
        values = {label: float(label) for label in labels}
    except ValueError:
        return tuple(sorted(labels))
    if not all(math.isfinite(value) for value in values.values()):
        return tuple(sorted(labels))
    ordered = sorted(labels, key=lambda label: (values[label], label))
    for first, second in pairwise(ordered):
        if values[first] == values[second]:
            raise DataError(f"{where}: the labels {first!r} and {second!r} are one number; write it in one way")
    return tuple(ordered)
