"""IMDB film reviews: found in a directory or downloaded, read once, then mapped from a cache without pickles."""

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from .._download import default_cache_dir, download
from .._errors import DataError
from .._tokens import TokenDataset
from ._keras_archive import Reviews, read_archive

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

    The archive ``imdb.npz`` is looked for in `data_dir` where one is named (in its folder ``imdb`` or in itself), and
    nowhere else then; without one in the cache; else it is downloaded into the cache with pooch. It is read once, by
    an unpickler that knows nothing but lists and numbers; arrays without pickles are kept in the cache, in a folder
    named by the archive's checksum, and mapped from there.

    Parameters
    ----------
    split : {"train", "test"}
        25,000 reviews each.
    num_words, start_char, oov_char, index_from, maxlen, truncation
        As in `TokenDataset`. Reviews longer than `maxlen` are cut, as Keras's ``pad_sequences(maxlen=...)`` does;
        the argument of this name of Keras's ``load_data`` leaves such reviews out instead.
    data_dir : str or Path, optional
        A directory that has the archive.
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
    cache = (Path(cache_dir) if cache_dir is not None else default_cache_dir()).expanduser() / "imdb"
    path = _find(data_dir, cache, MIRRORS if mirrors is None else mirrors, sha256)
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 is not None and received not in sha256:
        raise DataError(
            f"{path}: not the IMDB archive: it has sha256 {received}; expected {' or '.join(sha256)}. "
            "Fetch the file again; for an archive of your own pass sha256=None"
        )
    folder = cache / received
    if not folder.is_dir():
        _keep({name: read_archive(path, name) for name in SPLITS}, folder)
    reviews = _map(folder, split)
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


def _find(data_dir: str | Path | None, cache: Path, mirrors: Sequence[str], sha256: Collection[str] | None) -> Path:
    if data_dir is None:
        path = cache / FILE
        if path.is_file():
            return path
        if not sha256:
            raise DataError(f"{path}: no such file, and without a checksum to expect nothing is downloaded")
        known_hash = f"sha256:{next(iter(sha256))}"
        return download(FILE, cache, mirrors, known_hash=known_hash, called="IMDB", files=FILE)
    directory = Path(data_dir).expanduser()
    for path in (directory / "imdb" / FILE, directory / FILE):
        if path.is_file():
            return path
    raise DataError(
        f"no IMDB in {directory}: expected {directory / 'imdb' / FILE} or {directory / FILE}.\n"
        "Name the right directory with --data-dir or UNSPOOL_DATA_DIR, or neither to use the cache or download"
    )


def _keep(splits: dict[str, Reviews], folder: Path) -> None:
    """Write arrays into a folder that appears whole or not at all."""
    made = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        made.chmod(0o755)  # a temporary folder is for its owner alone; a cache may be shared
        for split, reviews in splits.items():
            for name, array in reviews._asdict().items():
                np.save(made / f"{split}_{name}.npy", array, allow_pickle=False)
        try:
            made.rename(folder)
        except OSError:
            # Another process was first; its arrays are these, since the folder is named by the archive's checksum.
            if not folder.is_dir():
                raise
    except OSError as error:
        raise DataError(
            f"cannot keep IMDB in {folder.parent}: {error}.\nName another cache with UNSPOOL_CACHE_DIR"
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _map(folder: Path, split: str) -> Reviews:
    try:
        tokens = np.load(folder / f"{split}_tokens.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / f"{split}_offsets.npy", allow_pickle=False)
        labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
        if tokens.dtype != np.int32 or offsets.dtype != np.int64 or labels.dtype != np.int64:
            raise DataError(f"arrays of {tokens.dtype}, {offsets.dtype} and {labels.dtype}")
        if len(offsets) != len(labels) + 1 or offsets[-1] != len(tokens):
            raise DataError(f"{len(tokens)} tokens, {len(offsets)} offsets and {len(labels)} labels")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: damaged cache ({error}); remove this folder, it will be made again") from error
    return Reviews(tokens, offsets, labels)
