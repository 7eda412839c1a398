"""IMDB film reviews: found in a directory or downloaded, read once, then mapped from a cache without pickles."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch

from .._bytes import read_bytes
from .._data_dir import cache_folder
from .._errors import DataError
from .._token_cache import keep, map_arrays
from .._tokens import TokenDataset
from ._find import Address, Wanted, find
from ._keras_archive import read_archive

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

    The archive ``imdb.npz`` is looked for in `data_dir`, or in what ``UNSPOOL_DATA_DIR`` names, where one of them is
    named (in its folder ``imdb`` or in itself), and nowhere else then; without one in the cache; else it is downloaded
    into the cache with pooch. It is read once, by an unpickler that knows nothing but lists and numbers; arrays
    without pickles are kept in the cache, in a folder named by the archive's checksum, and mapped from there.

    Parameters
    ----------
    split : {"train", "test"}
        25,000 reviews each.
    num_words, start_char, oov_char, index_from, maxlen, truncation
        As in `TokenDataset`. Reviews longer than `maxlen` are cut, as Keras's ``pad_sequences(maxlen=...)`` does;
        the argument of this name of Keras's ``load_data`` leaves such reviews out instead.
    data_dir : str or Path, optional
        A directory that has the archive; by default what ``UNSPOOL_DATA_DIR`` names.
    cache_dir : str or Path, optional
        Where the download and the arrays are kept; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.
    mirrors : sequence of str, optional
        Addresses to download from, tried in order; each ends in ``/``. Keras's own by default.
    sha256 : collection of str, optional
        The checksums that an archive may have, that of the download first; None admits any archive of the layout,
        and then downloads nothing.

    Returns
    -------
    TokenDataset
        int64 sequences of shape (T,); labels 0 (negative) and 1 (positive).

    Raises
    ------
    DataError
        If the archive is not there, cannot be downloaded, has another checksum or another content, or the cache
        cannot be written; the message says what to do.
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
    """Return what `find` looks for: a file that Keras publishes.

    Parameters
    ----------
    called : str
        What errors call it.
    name : str
        The file's name.
    mirrors : sequence of str, optional
        As in `load_imdb`.
    checksum : str, optional
        What a download must have: the name of an algorithm, a colon and the checksum. None downloads nothing.
    """
    address = Address(MIRRORS if mirrors is None else mirrors, checksum)
    return Wanted(called, "imdb", [name], f"Keras publishes it at {MIRRORS[0]}{name}", address)
