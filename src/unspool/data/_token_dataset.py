"""Labelled texts as numbers, made once and kept in a cache."""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unspool.data._data_dir import cache_folder
from unspool.data._labelled_texts import LabelledTexts
from unspool.data._token_cache import TokenArrays, keep, map_arrays
from unspool.data._tokenizer import TextTokenizer
from unspool.data._tokens import TokenDataset

_PART = "texts"
_TEXTS_AT_ONCE = 1000  # what tokenizers returns takes far more memory than the numbers


def token_dataset(
    texts: LabelledTexts,
    tokenizer: TextTokenizer,
    *,
    maxlen: int | None = None,
    truncation: Literal["pre", "post"] = "pre",
    cache_dir: str | Path | None = None,
) -> TokenDataset:
    """Encode labelled texts as numbers, once; later calls map them from a cache.

    The cache folder is named by a checksum of the texts, the labels and the tokenizer, and appears whole or not at all.
    Whole texts are kept, so `maxlen` may differ later.

    Parameters
    ----------
    texts : LabelledTexts
        The texts, such as `read_labelled_texts` returns.
    tokenizer : TextTokenizer
        The tokenizer that encodes them.
    maxlen : int, optional
        The most steps of a text; the whole text by default.
    truncation : {"pre", "post"}
        Whether to cut the beginning of a long text, including the start mark, or its end.
    cache_dir : str or Path, optional
        Directory of the cache; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (T,) with numbers below `tokenizer.vocabulary_size`, and the labels of `texts`.

    Raises
    ------
    DataError
        If an argument is out of range, or the cache cannot be written or is damaged.
    """
    folder = cache_folder(cache_dir, "tokens") / _checksum(texts, tokenizer)
    if not folder.is_dir():
        keep({_PART: _encode(texts, tokenizer)}, folder, called="the numbers of texts")
    arrays = map_arrays(folder, _PART)
    return TokenDataset(
        arrays.tokens,
        arrays.offsets,
        torch.from_numpy(arrays.labels),
        texts.class_names,
        num_words=tokenizer.vocabulary_size,
        start_char=None,  # the tokenizer has put it there
        index_from=0,
        maxlen=maxlen,
        truncation=truncation,
    )


def _checksum(texts: LabelledTexts, tokenizer: TextTokenizer) -> str:
    checksum = hashlib.sha256()
    for content in (tokenizer.to_json(), *texts.texts):
        encoded = content.encode()
        checksum.update(len(encoded).to_bytes(8, "little"))  # else texts could be divided in another way
        checksum.update(encoded)
    checksum.update(texts.labels.numpy().astype("<i8").tobytes())
    return checksum.hexdigest()


def _encode(texts: LabelledTexts, tokenizer: TextTokenizer) -> TokenArrays:
    pieces, lengths = [], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        sequences = tokenizer.encode_batch(texts.texts[start : start + _TEXTS_AT_ONCE])
        lengths += map(len, sequences)
        pieces.append(torch.cat(sequences).to(torch.int32).numpy())
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return TokenArrays(np.concatenate(pieces), offsets, texts.labels.numpy())
