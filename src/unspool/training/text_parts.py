"""One's own texts: the file of a run, found again and compared, and its rows divided."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from unspool.data import (
    DataError,
    LabelledTexts,
    TextTokenizer,
    grouped_split,
    read_labelled_texts,
    stratified_split,
)

TEST_SHARE = 0.1
OPTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("data", "sha256", "text_column", "label_column", "encoding", "tokenizer"), (str,)),
    **dict.fromkeys(("test", "test_sha256"), (str, NoneType)),
    **dict.fromkeys(("test_texts", "num_words"), (int,)),
    "classes": (list, tuple),
}
"""What is read of a recipe's options."""


def sha256(path: Path) -> str:
    """Return the checksum of a file.

    Parameters
    ----------
    path : Path
        A file that can be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_parts(
    options: Mapping[str, Any], held_out: int, limit: int | None, data_dir: str | Path | None
) -> dict[str, LabelledTexts]:
    """Return the parts "train", "validation" and "test" of the file, or the two files, of a recipe.

    Equal texts are in one part. The parts are the same for every seed, so that runs can be compared.

    Parameters
    ----------
    options : mapping
        The recipe's: ``data`` and ``test`` (or None), the files' absolute names; ``sha256`` and ``test_sha256``,
        their checksums; ``text_column``, ``label_column`` and ``encoding``; ``classes``, what the labels may be;
        ``test_texts``, how many different texts to test on where there is no second file.
    held_out : int
        How many different texts to hold out of the rest for validation.
    limit : int, optional
        How many texts of what is left then to train on.
    data_dir : str or Path, optional
        Where the files are looked for too.

    Raises
    ------
    DataError
        If a file is missing, has changed, or cannot be read.
    """
    texts = _read(options, "data", "sha256", data_dir)
    if options["test"] is None:
        texts, test = _divide(texts, options["test_texts"])
    else:
        test = _read(options, "test", "test_sha256", data_dir)
    train, validation = _divide(texts, held_out)
    if limit is not None and limit < len(train):
        train = train.subset(stratified_split(train.labels, limit)[1])
    return {"train": train, "validation": validation, "test": test}


def parts_sizes(texts: LabelledTexts, path: Path, *, with_test: bool) -> tuple[int, int]:
    """Return how many different texts to test on and to hold out: a tenth, and as many as there are classes at least.

    Parameters
    ----------
    texts : LabelledTexts
        All there are to divide.
    path : Path
        What errors call the file.
    with_test : bool
        Whether test texts are taken from these; otherwise there are 0.

    Raises
    ------
    DataError
        If there are too few of a class: each of the parts should have one, and that of the training does have one.
    """
    first_class: dict[str, int] = {}
    for text, label in zip(texts.texts, texts.labels.tolist(), strict=True):
        first_class.setdefault(text, label)
    least = 3 if with_test else 2
    counts = torch.bincount(torch.tensor(list(first_class.values())), minlength=len(texts.class_names)).tolist()
    for name, count in zip(texts.class_names, counts, strict=True):
        if count < least:
            purposes = "training, validation and test" if with_test else "training and validation"
            raise DataError(
                f"{path}: too few different texts of the class {name!r}: {count}; expected {least} or more, for "
                f"{purposes}. Add texts of it, or remove its rows"
            )
    classes, number = len(texts.class_names), len(first_class)
    test = max(classes, round(TEST_SHARE * number)) if with_test else 0
    return test, max(classes, round(TEST_SHARE * (number - test)))


def train_tokenizer(options: Mapping[str, Any], train: LabelledTexts) -> TextTokenizer:
    """Make the tokenizer of a recipe from its training texts.

    Parameters
    ----------
    options : mapping
        The recipe's: ``tokenizer``, its kind, and ``num_words``, which all numbers are below.
    train : LabelledTexts
        The texts to train on.

    Raises
    ------
    DataError
        As `TextTokenizer.train` does.
    """
    return TextTokenizer.train(train.texts, kind=options["tokenizer"], num_words=options["num_words"])


def _divide(texts: LabelledTexts, held: int) -> tuple[LabelledTexts, LabelledTexts]:
    labels = texts.labels.tolist()
    kept, taken = grouped_split(texts.texts, labels, held / len(set(texts.texts)))
    return texts.subset(kept), texts.subset(taken)


def _read(options: Mapping[str, Any], name: str, checksum: str, data_dir: str | Path | None) -> LabelledTexts:
    return read_labelled_texts(
        find_file(Path(options[name]), options[checksum], data_dir),
        text_column=options["text_column"],
        label_column=options["label_column"],
        class_names=options["classes"],
        encoding=options["encoding"],
    )


def find_file(path: Path, expected: str, data_dir: str | Path | None) -> Path:
    """Return the file that a run was trained on, which may have moved.

    Parameters
    ----------
    path : Path
        Where it was.
    expected : str
        Its checksum.
    data_dir : str or Path, optional
        Where it is looked for too.

    Raises
    ------
    DataError
        If it is in neither place, or has changed.
    """
    places = [path] if data_dir is None else [path, Path(data_dir).expanduser() / path.name]
    found = [place for place in places if place.is_file()]
    for place in found:
        if sha256(place) == expected:
            return place
    if found:
        raise DataError(
            f"{' and '.join(map(str, found))}: not what the run was trained on: its sha256 is not {expected}.\n"
            "Put the former content back, or train again"
        )
    raise DataError(
        f"{path}: no such file; the run was trained on it.\n"
        "If it has moved, name the directory that has it with --data-dir"
    )
