"""MNIST, from a directory, the cache or a download; always checked."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from unspool.data._bytes import read_bytes
from unspool.data._dataset import SequenceDataset
from unspool.data._errors import DataError
from unspool.data._idx import parse_idx
from unspool.data.datasets._find import Address, Wanted, find


class MnistFile(NamedTuple):
    """One of the four files: its name, the md5 of its uncompressed bytes, and of the file that mirrors serve."""

    name: str
    content_md5: str
    download_md5: str


FILES = {
    "train": (
        MnistFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        MnistFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        MnistFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
        MnistFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SOURCE = f"Its four files are published at {' and '.join(MIRRORS)}"
DIGITS = tuple(str(digit) for digit in range(10))


def load_mnist(
    split: Literal["train", "test"],
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    mirrors: Sequence[str] | None = None,
) -> SequenceDataset:
    """Load MNIST's images, each as a sequence of 28 rows of 28 pixels.

    The four IDX files, compressed or not, are looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the
    folder ``mnist``; if neither is given, in the cache; if they are not there, they are downloaded into the cache with
    pooch. The md5 of the uncompressed bytes must be the official one.

    Parameters
    ----------
    split : {"train", "test"}
        60,000 images for training, 10,000 for testing.
    data_dir : str or Path, optional
        A directory that has the files; ``UNSPOOL_DATA_DIR`` by default.
    cache_dir : str or Path, optional
        Directory of the downloads; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.
    mirrors : sequence of str, optional
        Addresses to download from, tried in order; each ends in ``/``. The usual public ones by default.

    Returns
    -------
    SequenceDataset
        uint8 sequences of shape (28, 28), pixels from 0 to 255; labels are the digits.

    Raises
    ------
    DataError
        If the files are missing, cannot be downloaded, or are not MNIST's; the message says what to do.
    """
    if split not in FILES:
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    addresses = MIRRORS if mirrors is None else mirrors
    images, labels = (
        _load(find(_wanted(file, addresses), data_dir, cache_dir), file.content_md5) for file in FILES[split]
    )
    if images.ndim != 3 or labels.ndim != 1:
        raise DataError(f"MNIST's {split} files hold arrays of shape {images.shape} and {labels.shape}")
    return SequenceDataset(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), DIGITS)


def _wanted(file: MnistFile, mirrors: Sequence[str]) -> Wanted:
    return Wanted(
        "MNIST",
        "mnist",
        [f"{file.name}.gz", file.name],
        SOURCE,
        Address(mirrors, f"md5:{file.download_md5}"),
    )


def _load(path: Path, content_md5: str) -> np.ndarray:
    content = read_bytes(path)
    received = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if received != content_md5:
        array = parse_idx(content, path)
        raise DataError(
            f"{path}: not MNIST's file (an array of shape {array.shape}): the uncompressed bytes have md5 {received}; "
            f"expected {content_md5}. Fetch the file again"
        )
    return parse_idx(content, path)
