"""Encode texts as numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unspool._reading import damage_as, parsed_json
from unspool.data._errors import DataError
from unspool.data._tokenizer_build import (
    MARKS,
    NO_WORD,
    OUT_OF_VOCABULARY,
    byte_pairs,
    count_words,
    library,
    with_start,
    word_level,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FORMAT = "unspool text tokenizer 1"
_BYTES = 256


class TextTokenizer:
    """Encode texts as numbers, in the numbering of Keras's IMDB reviews.

    Number 0 is reserved for padding, every text starts with 1, 2 is a word outside the vocabulary, 3 is never used, and
    words, or pieces of words, have numbers from 4. Make one with `train`, `from_word_index` or `from_json`; it needs
    the package tokenizers (``pip install 'unspool[text]'``).

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The underlying tokenizer, with these numbers; 3 marks a word to leave out.
    vocabulary_size : int
        All numbers are below it; higher ones become 2.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._tokenizer = tokenizer

    @classmethod
    def train(
        cls, texts: Sequence[str], *, kind: Literal["word", "bpe", "char"] = "word", num_words: int | None = None
    ) -> TextTokenizer:
        """Build a vocabulary from texts.

        Parameters
        ----------
        texts : sequence of str
            The texts to train on.
        kind : {"word", "bpe", "char"}
            "word": texts are split as by Keras's ``text_to_word_sequence`` (lower case, no punctuation but
            apostrophes); words are numbered by falling frequency, words of equal frequency in the order of their
            characters. "bpe": pieces of words by byte-pair encoding of UTF-8 bytes; case and punctuation stay, and no
            text has anything that is not in the vocabulary. "char": characters, as they are: for names and DNA.
        num_words : int, optional
            All numbers are below it, as in `load_imdb`: the vocabulary has four words fewer. All words by default;
            "bpe" requires it, at least 260 (four, and one for each byte), and may use fewer.

        Raises
        ------
        DataError
            If an argument is out of range, the texts have no words, or tokenizers is not installed.
        """
        _refuse_one_text(texts)
        if kind not in ("word", "bpe", "char"):
            raise DataError(f"received kind={kind!r}; expected 'word', 'bpe' or 'char'")
        if kind == "bpe":
            least = len(MARKS) + _BYTES
            if num_words is None or num_words < least:
                raise DataError(f"received kind='bpe' and num_words={num_words}; expected num_words from {least} on")
            tokenizer = byte_pairs(texts, num_words - len(MARKS))
            return cls(tokenizer, tokenizer.get_vocab_size())
        _check_num_words(num_words)
        characters = kind == "char"
        words = count_words(texts, None if num_words is None else num_words - len(MARKS), characters=characters)
        if not words:
            raise DataError(f"received {len(texts)} texts without a word; expected letters or digits")
        ranks = {word: rank for rank, word in enumerate(words, start=1)}
        return cls(word_level(ranks, OUT_OF_VOCABULARY, characters=characters), len(words) + len(MARKS))

    @classmethod
    def from_word_index(cls, word_index: Mapping[str, int], *, num_words: int | None = None) -> TextTokenizer:
        """Build a tokenizer from words with known ranks, such as those of `load_imdb_word_index`.

        Texts are encoded as Keras encoded its IMDB reviews: a word that is not in `word_index` is left out.

        Parameters
        ----------
        word_index : mapping of str to int
            The rank of each word, each number from 1 once.
        num_words : int, optional
            All numbers are below it; a word with a higher one (its rank plus 3) becomes 2. All words by default.

        Raises
        ------
        DataError
            If an argument is out of range, or tokenizers is not installed.
        """
        _check_num_words(num_words)
        ranks = set(word_index.values())
        if not ranks or ranks != set(range(1, len(word_index) + 1)):
            raise DataError(
                f"received {len(word_index)} words with {len(ranks)} different ranks; expected at least one word, and "
                "each rank from 1 to the number of words once"
            )
        size = len(word_index) + len(MARKS)
        return cls(word_level(word_index, NO_WORD), size if num_words is None else min(size, num_words))

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text.

        Parameters
        ----------
        text : str
            The text.

        Returns
        -------
        Tensor of shape (T,), int64
            The start mark, and a number for each word.

        Raises
        ------
        DataError
            If `text` is not a text.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the numbers of several texts, as `encode` does.

        Parameters
        ----------
        texts : sequence of str
            The texts.

        Returns
        -------
        list of Tensor of shape (T,), int64
            One for each text.

        Raises
        ------
        DataError
            If one of them is not a text.
        """
        _refuse_one_text(texts)
        with damage_as(DataError, "received something that is no text, or half a character in one"):
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [self._admitted(torch.tensor(encoding.ids, dtype=torch.int64)) for encoding in encodings]

    def _admitted(self, numbers: Tensor) -> Tensor:
        numbers = numbers[numbers != NO_WORD]
        return numbers.masked_fill_(numbers >= self.vocabulary_size, OUT_OF_VOCABULARY)

    def to_json(self) -> str:
        """Return the tokenizer as a JSON string, whose ``"tokenizer"`` Hugging Face's library can read."""
        content = json.loads(self._tokenizer.to_str())
        return json.dumps({"format": _FORMAT, "vocabulary_size": self.vocabulary_size, "tokenizer": content})

    @classmethod
    def from_json(cls, content: str) -> TextTokenizer:
        """Return the tokenizer from the string that `to_json` returned.

        Parameters
        ----------
        content : str
            The string.

        Raises
        ------
        DataError
            If it is not such a string, or tokenizers is not installed.
        """
        read, expected = library().Tokenizer.from_str, "expected what to_json returned"
        with damage_as(DataError, "received no tokenizer of unspool", expected):
            stored = parsed_json(content)
            found, size, inner = stored["format"], stored["vocabulary_size"], json.dumps(stored["tokenizer"])
        if found != _FORMAT:
            raise DataError(f"received a tokenizer of the format {found!r:.80}; expected {_FORMAT!r}")
        with damage_as(DataError, "received a damaged tokenizer", expected):
            tokenizer = with_start(read(inner))  # anew: with a damaged one tokenizers panics
            known = tokenizer.get_vocab_size()
            if type(size) is not int or not len(MARKS) < size <= known:
                raise ValueError(f"a vocabulary_size of {size!r:.80}; expected from {len(MARKS) + 1} to {known}")
            if not all(0 <= number < known for number in tokenizer.get_vocab().values()):
                raise ValueError(f"numbers of words beyond {known}")
            tokenizer.encode_batch_fast(["a word"])
            return cls(tokenizer, size)


def _refuse_one_text(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise DataError(f"received one text, {texts[:40]!r}; expected a list of texts")


def _check_num_words(num_words: int | None) -> None:
    if num_words is not None and num_words <= len(MARKS):
        raise DataError(f"received num_words={num_words}; expected {len(MARKS) + 1} or more")
