"""One's own tagged sentences: the file of a run, found again and compared, and its sentences divided."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from unspool.data import DataError, TaggedSentences, WordEncoder, grouped_split, read_tagged
from unspool.training.text_parts import TEST_SHARE, find_file

OPTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("data", "sha256", "tag_column", "encoding"), (str,)),
    **dict.fromkeys(("test", "test_sha256"), (str, NoneType)),
    **dict.fromkeys(("test_sentences", "num_words"), (int,)),
    "tags": (list, tuple),
}
"""What is read of a recipe's options."""


def load_parts(
    options: Mapping[str, Any], held_out: int, limit: int | None, data_dir: str | Path | None
) -> dict[str, TaggedSentences]:
    """Return the parts "train", "validation" and "test" of the file, or the two files, of a recipe.

    Equal sentences are in one part. The parts are the same for every seed, so that runs can be compared.

    Parameters
    ----------
    options : mapping
        The recipe's: see `OPTIONS`; ``test_sentences`` is how many different sentences to test on where there is no
        second file.
    held_out : int
        How many different sentences to hold out of the rest for validation.
    limit : int, optional
        How many sentences of what is left then to train on.
    data_dir : str or Path, optional
        Where the files are looked for too.

    Raises
    ------
    DataError
        If a file is missing, has changed, or cannot be read.
    """
    sentences = _read(options, "data", "sha256", data_dir)
    if options["test"] is None:
        sentences, test = _divide(sentences, options["test_sentences"])
    else:
        test = _read(options, "test", "test_sha256", data_dir)
    train, validation = _divide(sentences, held_out)
    return {"train": train.subset(range(len(train))[:limit]), "validation": validation, "test": test}


def parts_sizes(sentences: TaggedSentences, path: Path, *, with_test: bool) -> tuple[int, int]:
    """Return how many different sentences to test on and to hold out: a tenth, and one at least.

    Parameters
    ----------
    sentences : TaggedSentences
        All there are to divide.
    path : Path
        What errors call the file.
    with_test : bool
        Whether test sentences are taken from these; otherwise there are 0.

    Raises
    ------
    DataError
        If there are fewer than three different sentences, or two where there is another file to test on.
    """
    number, least = len(set(map(tuple, sentences.words))), 3 if with_test else 2
    if number < least:
        raise DataError(
            f"{path}: {number} different sentences; expected {least} or more. Separate sentences with an empty line"
        )
    test = max(1, round(TEST_SHARE * number)) if with_test else 0
    return test, max(1, round(TEST_SHARE * (number - test)))


def train_encoder(options: Mapping[str, Any], train: TaggedSentences) -> WordEncoder:
    """Make the word encoder of a recipe from its training sentences.

    Parameters
    ----------
    options : mapping
        The recipe's: ``num_words``, which all numbers of words are below.
    train : TaggedSentences
        The sentences to train on.
    """
    return WordEncoder.train(train.words, num_words=options["num_words"])


def _divide(sentences: TaggedSentences, held: int) -> tuple[TaggedSentences, TaggedSentences]:
    keys = list(map(tuple, sentences.words))
    kept, taken = grouped_split(keys, [0] * len(keys), held / len(set(keys)))
    return sentences.subset(kept), sentences.subset(taken)


def _read(options: Mapping[str, Any], name: str, checksum: str, data_dir: str | Path | None) -> TaggedSentences:
    return read_tagged(
        find_file(Path(options[name]), options[checksum], data_dir),
        tag_column=options["tag_column"],
        class_names=options["tags"],
        encoding=options["encoding"],
    )
