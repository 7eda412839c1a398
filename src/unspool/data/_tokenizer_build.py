"""Hugging Face tokenizers with the numbering of Keras's IMDB reviews."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from unspool.data._errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING, START, OUT_OF_VOCABULARY, NO_WORD = range(4)
# No text has these as words: words are split at spaces, and byte-level pieces write a space as another character.
MARKS = ("padding mark", "start mark", "out-of-vocabulary mark", "no-word mark")
# What Keras's text_to_word_sequence takes out, and the space, at which it splits.
_BETWEEN_WORDS = r"[!\"#$%\&()*+,\-./:;<=>?@\[\\\]\^_`{|}~\t\n ]+"
_CHARACTER = r"[\s\S]"
# Keras lowers with Python's str.lower, which writes a sigma at the end of a word in its own way.
_FINAL_SIGMA = r"(?<=\p{L})Σ(?!\p{L})"


def library() -> ModuleType:
    """Import the package tokenizers, which only texts need.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise DataError(
            "turning texts into numbers needs tokenizers, which is not installed.\n"
            "Install it with: pip install 'unspool[text]'"
        ) from error
    return tokenizers


def count_words(texts: Sequence[str], limit: int | None, *, characters: bool = False) -> list[str]:
    """Return the words, or characters, of texts by falling frequency; those of equal frequency in their own order.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    limit : int, optional
        Return at most this many.
    characters : bool
        Whether every character counts as a word.

    Raises
    ------
    DataError
        If tokenizers is not installed.
    """
    lib = library()
    tokenizer = _divided(lib.models.WordLevel(), characters)
    size = limit if limit is not None else sum(map(len, texts))  # no text has more words than characters
    trainer = lib.trainers.WordLevelTrainer(vocab_size=size, show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def word_level(ranks: Mapping[str, int], unknown: int, *, characters: bool = False) -> Tokenizer:
    """Return a tokenizer of words, or characters, whose numbers are their rank plus 3.

    Parameters
    ----------
    ranks : mapping of str to int
        The rank of each word, from 1.
    unknown : int
        The number of every other word, one of the marks.
    characters : bool
        Whether every character counts as a word.

    Raises
    ------
    DataError
        If tokenizers is not installed.
    """
    words = {word: rank + len(MARKS) - 1 for word, rank in ranks.items()}
    model = library().models.WordLevel(vocab=_numbered_marks() | words, unk_token=MARKS[unknown])
    return with_start(_divided(model, characters))


def byte_pairs(texts: Sequence[str], pieces: int) -> Tokenizer:
    """Train a byte-level byte-pair encoding.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    pieces : int
        The most pieces, the 256 bytes among them.

    Raises
    ------
    DataError
        If tokenizers is not installed.
    """
    lib = library()
    tokenizer = _with_bytes(lib.models.BPE())
    trainer = lib.trainers.BpeTrainer(
        vocab_size=pieces,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=lib.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Marks given to the trainer would also be found in texts, where they are nothing but words.
    trained = json.loads(tokenizer.to_str())["model"]
    vocabulary = {piece: number + len(MARKS) for piece, number in trained["vocab"].items()}
    merges = [tuple(pair) for pair in trained["merges"]]
    return with_start(_with_bytes(lib.models.BPE(vocab=_numbered_marks() | vocabulary, merges=merges)))


def _numbered_marks() -> dict[str, int]:
    return {mark: number for number, mark in enumerate(MARKS)}


def _divided(model: object, characters: bool) -> Tokenizer:
    lib = library()
    tokenizer = lib.Tokenizer(model)
    if characters:
        tokenizer.pre_tokenizer = lib.pre_tokenizers.Split(lib.Regex(_CHARACTER), "isolated")
        return tokenizer
    sigma = lib.normalizers.Replace(lib.Regex(_FINAL_SIGMA), "ς")
    tokenizer.normalizer = lib.normalizers.Sequence([sigma, lib.normalizers.Lowercase()])
    tokenizer.pre_tokenizer = lib.pre_tokenizers.Split(lib.Regex(_BETWEEN_WORDS), "removed")
    return tokenizer


def _with_bytes(model: object) -> Tokenizer:
    lib = library()
    tokenizer = lib.Tokenizer(model)
    tokenizer.pre_tokenizer = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = lib.decoders.ByteLevel()
    return tokenizer


def with_start(tokenizer: Tokenizer) -> Tokenizer:
    """Let every text start with the start mark.

    Parameters
    ----------
    tokenizer : Tokenizer
        Is changed and returned.
    """
    mark = MARKS[START]
    tokenizer.post_processor = library().processors.TemplateProcessing(
        single=[mark, "$A"], special_tokens=[(mark, START)]
    )
    return tokenizer
