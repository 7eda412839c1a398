"""IMDB film reviews: found in a directory or downloaded, read once, then mapped from a cache without pickles."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch

from unspool.data._bytes import read_bytes
from unspool.data._data_dir import cache_folder
from unspool.data._errors import DataError
from unspool.data._token_cache import keep, map_arrays
from unspool.data._tokens import TokenDataset
from unspool.data.datasets._find import Address, Wanted, find
from unspool.data.datasets._keras_archive import read_archive

FILE = "imdb.npz"
MIRRORS = ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/",)
OFFICIAL_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
# The same reviews in the same layout, made anew from the texts; a directory may have it in place of Keras's file.
REBUILT_SHA256 = "1232ae7a5fbee5dd194f85b8e357bf2f10fb99e266905652827dcd90d8459832"
SENTIMENTS = ("negative", "positive")
SPLITS = ("train", "test")


def load_imdb(
    split: Literal["train", "test"],
    *,
    num_words: int | None = None,
    start_char: int | None = 1,
    oov_char: int = 2,
    index_from: int = 3,
    maxlen: int | None = None,
    truncation: Literal["pre", "post"] = "pre",
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    mirrors: Sequence[str] | None = None,
    sha256: Collection[str] | None = (OFFICIAL_SHA256, REBUILT_SHA256),
) -> TokenDataset:
    """Load film reviews as numbers of words, with the conventions of ``keras.datasets.imdb``.

    The archive ``imdb.npz`` is looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``imdb``; if
    neither is given, in the cache; if it is not there, it is downloaded into the cache with pooch. It is read once, by
    an unpickler that knows only lists and numbers. Arrays without pickles are stored in the cache, in a folder named by
    the archive's checksum, and mapped from there.

    Parameters
    ----------
    split : {"train", "test"}
        25,000 reviews each.
    num_words, start_char, oov_char, index_from, maxlen, truncation
        As in `TokenDataset`. Reviews longer than `maxlen` are cut, as Keras's ``pad_sequences(maxlen=...)`` does;
        Keras's ``load_data(maxlen=...)`` drops such reviews instead.
    data_dir : str or Path, optional
        A directory that has the archive; ``UNSPOOL_DATA_DIR`` by default.
    cache_dir : str or Path, optional
        Directory of the download and the arrays; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.
    mirrors : sequence of str, optional
        Addresses to download from, tried in order; each ends in ``/``. Keras's own by default.
    sha256 : collection of str, optional
        The allowed checksums of the archive, that of the download first. None allows any archive of this layout, and
        then nothing is downloaded.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (T,); labels 0 (negative) and 1 (positive).

    Raises
    ------
    DataError
        If the archive is missing, cannot be downloaded, or has another checksum or content, or the cache cannot be
        written; the message says what to do.
    """
    if split not in SPLITS:
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    checksum = f"sha256:{next(iter(sha256))}" if sha256 else None
    path = find(of_keras("IMDB", FILE, mirrors, checksum), data_dir, cache_dir)
    received = hashlib.sha256(read_bytes(path)).hexdigest()
    if sha256 is not None and received not in sha256:
        raise DataError(
            f"{path}: not the IMDB archive: it has sha256 {received}; expected {' or '.join(sha256)}. "
            "Fetch the file again; for an archive of your own pass sha256=None"
        )
    folder = cache_folder(cache_dir, "imdb") / received
    if not folder.is_dir():
        keep({name: read_archive(path, name) for name in SPLITS}, folder, called="IMDB")
    reviews = map_arrays(folder, split)
    return TokenDataset(
        reviews.tokens,
        reviews.offsets,
        torch.from_numpy(reviews.labels),
        SENTIMENTS,
        num_words=num_words,
        start_char=start_char,
        oov_char=oov_char,
        index_from=index_from,
        maxlen=maxlen,
        truncation=truncation,
    )


def of_keras(called: str, name: str, mirrors: Sequence[str] | None, checksum: str | None) -> Wanted:
    """Return the description of a file published by Keras, for `find`.

    Parameters
    ----------
    called : str
        Its name in errors.
    name : str
        The file's name.
    mirrors : sequence of str, optional
        As in `load_imdb`.
    checksum : str, optional
        The checksum of the download, after the name of the algorithm and a colon. With None, nothing is downloaded.
    """
    address = Address(MIRRORS if mirrors is None else mirrors, checksum)
    return Wanted(called, "imdb", [name], f"Keras publishes it at {MIRRORS[0]}{name}", address)
