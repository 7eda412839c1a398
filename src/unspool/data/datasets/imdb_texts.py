"""IMDB film reviews as texts, and the numbers of their words."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from unspool._reading import damage_as, parsed_json
from unspool.data._bytes import decode, read_bytes, read_text
from unspool.data._errors import DataError
from unspool.data._labelled_texts import LabelledTexts, check_text, labelled_texts
from unspool.data._text_rows import read_rows
from unspool.data.datasets._find import Wanted, find
from unspool.data.datasets._read import REMEDY
from unspool.data.datasets.imdb import SENTIMENTS, SPLITS, of_keras

REVIEWS = Wanted(
    "texts of IMDB's reviews",
    "imdb",
    ["imdb_reviews.jsonl.xz", "imdb_reviews.jsonl.gz", "imdb_reviews.jsonl", "aclImdb"],
    "The folder aclImdb is in aclImdb_v1.tar.gz, https://ai.stanford.edu/~amaas/data/sentiment/",
)
FOLDERS = {"negative": "neg", "positive": "pos"}
WORD_INDEX = "imdb_word_index.json"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def load_imdb_texts(split: Literal["train", "test"], *, data_dir: str | Path | None = None) -> LabelledTexts:
    """Load the texts of IMDB's film reviews, from one file or from the folders of the published archive.

    They are looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``imdb``; if neither is given,
    in the cache. The first choice is ``imdb_reviews.jsonl``, also with ``.xz`` or ``.gz``, each line an object with
    ``split``, ``text`` and ``label`` (0 or 1); the second is the folder ``aclImdb``. Nothing is downloaded.

    Parameters
    ----------
    split : {"train", "test"}
        25,000 reviews each.
    data_dir : str or Path, optional
        A directory that has the reviews; ``UNSPOOL_DATA_DIR`` by default.

    Returns
    -------
    LabelledTexts
        Labels 0 (negative) and 1 (positive); from ``imdb_reviews.jsonl``, in the order of the file.

    Raises
    ------
    DataError
        If the reviews are missing or damaged.
    """
    _check_split(split)
    path = find(REVIEWS, data_dir, None)
    if path.is_dir():
        return load_acl_imdb_texts(path, split)
    rows = [row for row in read_rows(path) if row.values.get("split") == split]
    if not rows:
        raise DataError(f"{path}: no line whose 'split' is {split!r}; expected the reviews of both splits")
    texts = labelled_texts(rows, path, "text", "label", ["0", "1"])
    return LabelledTexts(texts.texts, texts.labels, SENTIMENTS)


def load_acl_imdb_texts(directory: str | Path, split: Literal["train", "test"]) -> LabelledTexts:
    """Load film reviews from folders like those of Stanford's archive ``aclImdb``.

    Parameters
    ----------
    directory : str or Path
        A directory with ``{split}/neg`` and ``{split}/pos``, which have one ``.txt`` file per review, directly or in
        its folder ``aclImdb``.
    split : {"train", "test"}
        25,000 reviews each.

    Returns
    -------
    LabelledTexts
        Labels 0 (negative) and 1 (positive); in the order of the files' names, negative ones first.

    Raises
    ------
    DataError
        If a folder is missing or has no reviews, or a review is empty or not in UTF-8.
    """
    _check_split(split)
    directory = Path(directory).expanduser()
    root = directory / "aclImdb" if (directory / "aclImdb").is_dir() else directory
    texts, labels = [], []
    for label, sentiment in enumerate(SENTIMENTS):
        folder = root / split / FOLDERS[sentiment]
        paths = sorted(folder.glob("*.txt"))
        if not paths:
            raise DataError(
                f"no reviews in {folder}: expected .txt files.\n"
                "Name the folder aclImdb, unpacked from aclImdb_v1.tar.gz, or the directory that has it"
            )
        texts += [_review(path) for path in paths]
        labels += [label] * len(paths)
    return LabelledTexts(texts, torch.tensor(labels), SENTIMENTS)


def load_imdb_word_index(
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    mirrors: Sequence[str] | None = None,
    md5: str | None = WORD_INDEX_MD5,
) -> dict[str, int]:
    """Load the ranks of the words of `load_imdb`, as ``keras.datasets.imdb.get_word_index`` does.

    ``imdb_word_index.json`` is looked for in the same places as in `load_imdb`, and downloaded likewise.

    Parameters
    ----------
    data_dir : str or Path, optional
        A directory that has the file; ``UNSPOOL_DATA_DIR`` by default.
    cache_dir : str or Path, optional
        Directory of the download; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.
    mirrors : sequence of str, optional
        Addresses to download from, tried in order; each ends in ``/``. Keras's own by default.
    md5 : str, optional
        The checksum of the file. None allows any file, and then nothing is downloaded.

    Returns
    -------
    dict of str to int
        The rank of each word, 1 for the most frequent, for `TextTokenizer.from_word_index`.

    Raises
    ------
    DataError
        If the file is missing, cannot be downloaded, or has another checksum.
    """
    checksum = None if md5 is None else f"md5:{md5}"
    path = find(of_keras("IMDB word index", WORD_INDEX, mirrors, checksum), data_dir, cache_dir)
    content = read_bytes(path)
    received = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and received != md5:
        raise DataError(f"{path}: not the IMDB word index: it has md5 {received}; expected {md5}. Fetch the file again")
    text = decode(content, path, remedy=REMEDY)
    with damage_as(DataError, f"{path}: no JSON", "expected an object of words and ranks"):
        ranks = parsed_json(text)
    if not isinstance(ranks, dict) or not all(type(rank) is int for rank in ranks.values()):
        raise DataError(f"{path}: no JSON object of words and whole numbers; expected the rank of each word")
    return ranks


def _review(path: Path) -> str:
    text = read_text(path, remedy=REMEDY)
    check_text(text, str(path))
    return text


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
