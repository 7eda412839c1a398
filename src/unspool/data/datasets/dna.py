"""DNA: splice junctions of primates and promoters of E. coli."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._split import grouped_split, stratified_folds
from unspool.data._tokens import TokenDataset
from unspool.data.datasets._characters import character_dataset, character_numbers
from unspool.data.datasets._find import Wanted, find
from unspool.data.datasets._read import read_lines

NUCLEOTIDES = "ACGTNDRS"
"""The four bases, then the codes for several that occur: N any, D not C, R A or G, S C or G."""
_FIRST = 1

SPLICE_SITES = {"EI": 767, "IE": 768, "N": 1655}
PROMOTERS = {"-": 53, "+": 53}
SPLICE = Wanted(
    "splice junctions",
    "splice",
    ["splice.data"],
    "splice.data is in the UCI archive, https://archive.ics.uci.edu/dataset/69 (splice-junction gene sequences)",
)
PROMOTER = Wanted(
    "promoters",
    "promoters",
    ["promoters.data"],
    "promoters.data is in the UCI archive, https://archive.ics.uci.edu/dataset/67 (promoter gene sequences)",
)


def load_splice(
    split: Literal["train", "test"],
    *,
    test_share: float = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> TokenDataset:
    """Load 3,190 stretches of 60 bases around, or away from, boundaries between exons and introns.

    ``splice.data`` is looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``splice``; if
    neither is given, in the cache. It is not downloaded; the error says where to get it.

    The set has no split of its own. 310 rows are copies of 125 sequences (one of them under two classes). Equal
    sequences stay in the same part, and each class gives a proportional share. Related genes remain: 73 of the 635 rows
    of the default test part share 30 consecutive bases with a training row.

    Parameters
    ----------
    split : {"train", "test"}
        Which part.
    test_share : float
        The share of the distinct sequences in the test part, between 0 and 1.
    seed : int
        Seed of the split.
    data_dir : str or Path, optional
        A directory that has the file.
    cache_dir : str or Path, optional
        The cache to search; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (60,): A, C, G, T are 1 to 4 and the ambiguity codes N, D, R, S are 5 to 8. Labels
        are 0 (EI, from exon to intron), 1 (IE, from intron to exon) and 2 (N, neither).

    Raises
    ------
    DataError
        If the file is missing or not the archive's, or an argument is out of range.
    """
    if split not in ("train", "test"):
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    sequences, labels = _read(find(SPLICE, data_dir, cache_dir), SPLICE_SITES, 60)
    train, test = grouped_split(sequences, labels, test_share, seed=seed)
    return _dataset(sequences, labels, train if split == "train" else test, tuple(SPLICE_SITES))


def load_promoters(
    split: Literal["train", "test"],
    *,
    fold: int = 0,
    folds: int = 10,
    seed: int = 0,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> TokenDataset:
    """Load one fold of 106 stretches of 57 bases, half of them promoters: too few for a single test part.

    ``promoters.data`` is looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``promoters``; if
    neither is given, in the cache. It is not downloaded; the error says where to get it.

    Every row is in the test part of one fold. No two rows are equal, but the 53 rows that are not promoters are windows
    of one piece of 1,500 bases, and 44 of them share 30 consecutive bases with another, so a model may know parts of
    what it is tested on.

    Parameters
    ----------
    split : {"train", "test"}
        The rows outside the fold, or those in it.
    fold : int
        The test fold, from 0.
    folds : int
        Number of folds, each with nearly the same number of rows of both classes; 106 leaves one row out at a time.
    seed : int
        Seed of the folds.
    data_dir : str or Path, optional
        A directory that has the file.
    cache_dir : str or Path, optional
        The cache to search; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (57,): A, C, G, T are 1 to 4, as in `load_splice`. Labels are 0 (no promoter) and 1.

    Raises
    ------
    DataError
        If the file is missing or not the archive's, or an argument is out of range.
    """
    if split not in ("train", "test"):
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    if not 0 <= fold < folds:
        raise DataError(f"received fold={fold}; expected 0 to {folds - 1} of {folds} folds")
    sequences, labels = _read(find(PROMOTER, data_dir, cache_dir), PROMOTERS, 57)
    tested = (stratified_folds(torch.tensor(labels), folds, seed=seed) == fold).tolist()
    rows = [row for row, held in enumerate(tested) if held == (split == "test")]
    return _dataset(sequences, labels, rows, ("no promoter", "promoter"))


def encode_nucleotides(sequences: Sequence[str]) -> list[Tensor]:
    """Encode DNA as `load_splice` and `load_promoters` do.

    Parameters
    ----------
    sequences : sequence of str
        Letters of ``NUCLEOTIDES``, in upper or lower case; surrounding blanks are dropped.

    Returns
    -------
    list of Tensor of shape (T,), int64
        The numbers of the letters of each.

    Raises
    ------
    DataError
        If there is any other letter.
    """
    cleaned = [sequence.strip().upper() for sequence in sequences]
    for index, sequence in enumerate(cleaned):
        others = "".join(sorted(set(sequence) - set(NUCLEOTIDES)))
        if others:
            raise DataError(f"sequence {index} has {others!r} in it; expected letters of {NUCLEOTIDES}")
    return character_numbers(cleaned, NUCLEOTIDES, first=_FIRST)


def _dataset(sequences: list[str], labels: list[int], rows: list[int], class_names: tuple[str, ...]) -> TokenDataset:
    return character_dataset(
        [sequences[row] for row in rows], [labels[row] for row in rows], class_names, NUCLEOTIDES, first=_FIRST
    )


def _read(path: Path, classes: Mapping[str, int], length: int) -> tuple[list[str], list[int]]:
    """Return the sequences and labels of lines "class, name, sequence"."""
    names = list(classes)
    sequences: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 3 or fields[0] not in classes:
            raise DataError(f"{path}, line {number}: {line!r}; expected a class ({', '.join(names)}), name, sequence")
        sequence = fields[2].upper()
        if len(sequence) != length or not set(sequence) <= set(NUCLEOTIDES):
            raise DataError(f"{path}, line {number}: {sequence!r}; expected {length} letters of {NUCLEOTIDES}")
        sequences.append(sequence)
        labels.append(names.index(fields[0]))
    counts = {names[label]: count for label, count in sorted(Counter(labels).items())}
    if counts != dict(classes):
        raise DataError(f"{path}: rows of each class {counts}; expected {dict(classes)}. Fetch the file again")
    return sequences, labels
