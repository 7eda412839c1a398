"""A text, character by character."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unspool.data._text_rows import read_plain_text


class CharacterText(NamedTuple):
    """A text as numbers.

    `tokens` is int64 of shape (N,), the index of each character in `characters`, a string without repetitions.
    """

    tokens: Tensor
    characters: str


def read_character_text(path: str | Path, *, encoding: str = "utf-8") -> CharacterText:
    """Read a text file character by character.

    Parameters
    ----------
    path : str or Path
        The file; also with ``.gz`` or ``.xz``. Windows line ends become single line ends.
    encoding : str
        The file's character encoding.

    Returns
    -------
    CharacterText
        The text as numbers, and its characters in the order of their codes.

    Raises
    ------
    DataError
        If the file is missing, damaged, empty or in another encoding, or is no text: it has a null character.
    """
    text = read_plain_text(Path(path).expanduser(), encoding)
    codes, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    return CharacterText(torch.from_numpy(tokens.astype(np.int64)), "".join(map(chr, codes.tolist())))
