"""Short texts as numbers of their characters."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unspool.data._tokens import TokenDataset


def character_numbers(texts: Sequence[str], alphabet: str, *, first: int) -> list[Tensor]:
    """Return the numbers of the characters of texts, int64 of shape (T,) for each.

    Parameters
    ----------
    texts, alphabet, first
        As in `character_dataset`.
    """
    numbers = {character: first + place for place, character in enumerate(alphabet)}
    return [
        torch.tensor([numbers.get(character, first - 1) for character in text], dtype=torch.int64) for text in texts
    ]


def character_dataset(
    texts: Sequence[str], labels: Sequence[int], class_names: Sequence[str], alphabet: str, *, first: int
) -> TokenDataset:
    """Return texts as a data set of numbers; 0 is reserved for padding.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    labels : sequence of int
        The class of each.
    class_names : sequence of str
        The name of each class.
    alphabet : str
        The characters with their own numbers, in the order of these numbers.
    first : int
        The number of the alphabet's first character. The number before it is any other character.
    """
    return TokenDataset(
        torch.cat(character_numbers(texts, alphabet, first=first)).to(torch.uint8).numpy(),
        np.cumsum([0, *map(len, texts)]),
        torch.tensor(labels, dtype=torch.int64),
        class_names,
        num_words=first + len(alphabet),
        start_char=None,
        oov_char=first - 1,
        index_from=0,
    )
