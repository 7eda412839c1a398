"""Tiny Shakespeare: one text, character by character."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unspool.data._character_text import CharacterText
from unspool.data._errors import DataError
from unspool.data.datasets._find import Address, Wanted, find
from unspool.data.datasets._read import read_verified

ADDRESS = Address(
    ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"],
    "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
SPLITS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}


def load_tiny_shakespeare(
    split: Literal["train", "validation", "test"],
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> CharacterText:
    """Load a part of the 1,115,394 characters of Shakespeare's plays published with Karpathy's char-rnn.

    ``input.txt`` is looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``tinyshakespeare``; if
    neither is given, in the cache; if it is not there, it is downloaded into the cache with pooch. Its sha256 is
    verified. Batch it with `StreamLoader`.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        The first 90 % of the characters, the next 5 %, or the last 5 %.
    data_dir : str or Path, optional
        A directory that has the file.
    cache_dir : str or Path, optional
        Directory of the download; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    CharacterText
        The part as numbers from 0 to 64, and the 65 characters of the whole text in the order of their codes, the same
        for every split.

    Raises
    ------
    DataError
        If the file is missing, cannot be downloaded or has another checksum.
    """
    if split not in SPLITS:
        raise DataError(f"received split={split!r}; expected 'train', 'validation' or 'test'")
    wanted = Wanted(
        "Tiny Shakespeare", "tinyshakespeare", ["input.txt"], f"It is published at {ADDRESS.mirrors[0]}", ADDRESS
    )
    content = np.frombuffer(read_verified(find(wanted, data_dir, cache_dir), ADDRESS), np.uint8)  # one byte a character
    codes, tokens = np.unique(content, return_inverse=True)
    first, last = (len(content) * percent // 100 for percent in SPLITS[split])
    return CharacterText(torch.from_numpy(tokens[first:last].astype(np.int64)), codes.tobytes().decode("ascii"))
