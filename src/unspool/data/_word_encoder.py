"""Encode words as numbers: one for the word, and one for each of its characters."""

import json
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from unspool._reading import damage_as, parsed_json
from unspool.data._errors import DataError

WORD_LENGTH = 16
"""Characters of a word that are encoded; of a longer one the first half of them and the last."""
_UNKNOWN, _FIRST = 1, 2
_FORMAT = "unspool word encoder 1"


class WordEncoder:
    """Encode words as numbers: one for the word without regard to case, and one for each of its characters.

    Number 0 is padding, 1 is what is not known, words and characters have numbers from 2.

    Parameters
    ----------
    words : sequence of str
        The words that are known, lower case, all different.
    characters : str
        The characters that are known, all different.
    """

    def __init__(self, words: Sequence[str], characters: str) -> None:
        self.words, self.characters = list(words), characters
        self._words = {word: number for number, word in enumerate(words, start=_FIRST)}
        self._characters = {character: number for number, character in enumerate(characters, start=_FIRST)}

    @classmethod
    def train(cls, sentences: Sequence[Sequence[str]], *, num_words: int) -> "WordEncoder":
        """Build the vocabularies from sentences.

        A word that occurs only once is not known, so that a model learns from its characters what to make of words
        that it has never seen.

        Parameters
        ----------
        sentences : sequence of sequence of str
            The words of each sentence.
        num_words : int
            All words' numbers are below it: the most frequent words are known.

        Raises
        ------
        DataError
            If `num_words` is less than 3.
        """
        if num_words <= _FIRST:
            raise DataError(f"received num_words={num_words}; expected {_FIRST + 1} or more")
        counts = Counter(word.lower() for sentence in sentences for word in sentence)
        frequent = sorted((word for word in counts if counts[word] > 1), key=lambda word: (-counts[word], word))
        characters = {character for sentence in sentences for word in sentence for character in word}
        return cls(frequent[: num_words - _FIRST], "".join(sorted(characters)))

    @property
    def vocabulary_size(self) -> int:
        """All numbers of words are below it."""
        return len(self.words) + _FIRST

    @property
    def alphabet_size(self) -> int:
        """All numbers of characters are below it."""
        return len(self.characters) + _FIRST

    def encode(self, words: Sequence[str]) -> Tensor:
        """Return the numbers of a sentence.

        Parameters
        ----------
        words : sequence of str
            Its words.

        Returns
        -------
        Tensor of shape (T, 17), int64
            For each word its number, and those of its characters with zeros after them.
        """
        rows = torch.zeros(len(words), 1 + WORD_LENGTH, dtype=torch.int64)
        for row, word in zip(rows, words, strict=True):
            row[0] = self._words.get(word.lower(), _UNKNOWN)
            half = WORD_LENGTH // 2
            shown = word if len(word) <= WORD_LENGTH else word[:half] + word[-half:]
            row[1 : 1 + len(shown)] = torch.tensor([self._characters.get(one, _UNKNOWN) for one in shown])
        return rows

    def to_json(self) -> str:
        """Return the encoder as a JSON string."""
        return json.dumps({"format": _FORMAT, "words": self.words, "characters": self.characters})

    @classmethod
    def from_json(cls, content: str) -> "WordEncoder":
        """Return the encoder from the string that `to_json` returned.

        Parameters
        ----------
        content : str
            The string.

        Raises
        ------
        DataError
            If it is not such a string.
        """
        with damage_as(DataError, "received no word encoder of unspool", "expected what to_json returned"):
            stored = parsed_json(content)
            words, characters = stored["words"], stored["characters"]
            if stored["format"] != _FORMAT or not isinstance(characters, str) or not isinstance(words, list):
                raise ValueError(f"the format {stored['format']!r:.80}; expected {_FORMAT!r}")
            if not all(type(word) is str for word in words) or len(set(words)) != len(words):
                raise ValueError("words that are not all texts, and different ones")
            return cls(words, characters)
