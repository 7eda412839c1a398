"""Surnames by language."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._split import grouped_split
from unspool.data._tokens import TokenDataset
from unspool.data.datasets._characters import character_dataset, character_numbers
from unspool.data.datasets._find import Wanted, find
from unspool.data.datasets._read import read_lines

# Rows of each file; copies with a few lines more are about.
LANGUAGES = {
    "Arabic": 2000,
    "Chinese": 268,
    "Czech": 519,
    "Dutch": 297,
    "English": 3668,
    "French": 277,
    "German": 724,
    "Greek": 203,
    "Irish": 232,
    "Italian": 709,
    "Japanese": 991,
    "Korean": 94,
    "Polish": 139,
    "Portuguese": 74,
    "Russian": 9384,
    "Scottish": 100,
    "Spanish": 298,
    "Vietnamese": 73,
}
NAME_CHARACTERS = " '-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzÁÉßàáãäçèéêìíñòóõöùúüąłńŚŻż"
_FIRST = 2
WANTED = Wanted(
    "surnames",
    "names",
    ["Arabic.txt"],
    "The files Arabic.txt to Vietnamese.txt are those of PyTorch's tutorial on classifying names "
    "(in its archive https://download.pytorch.org/tutorial/data.zip)",
)


def load_names(
    split: Literal["train", "test"],
    *,
    test_share: float = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> TokenDataset:
    """Load surnames of 18 languages as numbers of their characters.

    The 18 text files, one surname per line, are looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the
    folder ``names``; if neither is given, in the cache. They are not downloaded, since they are published within an
    archive; the error says where.

    The set has no split of its own. The same surname occurs several times in a language (Arabic: 2,000 rows of 108
    surnames) and in several languages. Equal surnames stay in the same part, and each language gives a proportional
    share of its distinct ones. Blanks around a surname are dropped: they occur only in two languages, and would give
    these away.

    Parameters
    ----------
    split : {"train", "test"}
        Which part.
    test_share : float
        The share of the distinct surnames in the test part, between 0 and 1.
    seed : int
        Seed of the split.
    data_dir : str or Path, optional
        A directory that has the files.
    cache_dir : str or Path, optional
        The cache to search; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (T,); labels number the languages in alphabetical order. Number 0 is reserved for
        padding, 1 is any character outside ``NAME_CHARACTERS``, and the others follow in the order of this string:
        blank, apostrophe, hyphen, A to Z, a to z, letters with marks by code point.

    Raises
    ------
    DataError
        If a file is missing, damaged or has too few rows, or an argument is out of range.
    """
    if split not in ("train", "test"):
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    folder = find(WANTED, data_dir, cache_dir).parent
    names: list[str] = []
    labels: list[int] = []
    for label, (language, rows) in enumerate(LANGUAGES.items()):
        path = folder / f"{language}.txt"
        read = [name for name in read_lines(path) if name]
        if len(read) < rows:
            raise DataError(f"{path}: {len(read)} surnames; expected {rows}. Fetch the file again")
        names += read
        labels += [label] * len(read)
    train, test = grouped_split(names, labels, test_share, seed=seed)
    part = train if split == "train" else test
    return character_dataset(
        [names[row] for row in part], [labels[row] for row in part], tuple(LANGUAGES), NAME_CHARACTERS, first=_FIRST
    )


def encode_names(names: Sequence[str]) -> list[Tensor]:
    """Encode surnames as `load_names` does.

    Parameters
    ----------
    names : sequence of str
        The surnames; surrounding blanks are dropped.

    Returns
    -------
    list of Tensor of shape (T,), int64
        The numbers of the characters of each.
    """
    return character_numbers([name.strip() for name in names], NAME_CHARACTERS, first=_FIRST)
