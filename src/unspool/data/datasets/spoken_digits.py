"""Spoken digits: the Free Spoken Digit Dataset."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unspool.data._audio import frame_samples, log_mel
from unspool.data._dataset import SequenceDataset
from unspool.data._errors import DataError
from unspool.data.datasets._find import Wanted, find
from unspool.data.datasets._recordings import RATE, read_recordings
from unspool.data.datasets.mnist import DIGITS

TEST_INDICES = 5
WANTED = Wanted(
    "spoken digits",
    "fsdd",
    ["fsdd.npz", "recordings"],
    "The Free Spoken Digit Dataset is the directory `recordings` of "
    "https://github.com/Jakobovski/free-spoken-digit-dataset",
)


def load_spoken_digits(
    split: Literal["train", "test"],
    *,
    features: Literal["log_mel", "frames"] = "log_mel",
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    bands: int = 40,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> SequenceDataset:
    """Load 3,000 recordings of digits by six speakers, at 8,000 samples a second, as sequences of frames.

    They are looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder ``fsdd``; if neither is given,
    in the cache. Two forms are accepted: the directory ``recordings`` of the data set's repository, with files like
    ``7_theo_12.wav``, or an archive ``fsdd.npz`` with the arrays ``samples`` (int16, all recordings one after the
    other), ``offsets``, ``labels``, ``speakers``, ``index`` and ``rate``. They are not downloaded, since they are
    published as many files; the error says where.

    Parameters
    ----------
    split : {"train", "test"}
        The data set's own split: of each digit by each speaker, recordings 0 to 4 are for testing (300 in all) and 5 to
        49 for training (2,700). All test speakers are therefore known from training.
    features : {"log_mel", "frames"}
        Features of a step: the logarithm of the power in mel bands (as in `log_mel`: HTK's formula, floor 1e-8), or the
        raw samples of a frame, from -1 to 1.
    window_ms, hop_ms : float
        Length of a frame, and distance between starts of frames, in milliseconds: 200 and 80 samples by default.
    bands : int
        Number of mel bands.
    data_dir : str or Path, optional
        A directory that has the recordings.
    cache_dir : str or Path, optional
        The cache to search; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    SequenceDataset
        float32 sequences of shape (T, bands) or (T, samples of a frame), not normalised; labels are the digits.

    Raises
    ------
    DataError
        If the recordings are missing, damaged or incomplete, or an argument is out of range.
    """
    if split not in ("train", "test"):
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    if features not in ("log_mel", "frames"):
        raise DataError(f"received features={features!r}; expected 'log_mel' or 'frames'")
    window, hop = round(window_ms * RATE / 1000), round(hop_ms * RATE / 1000)
    recordings = read_recordings(find(WANTED, data_dir, cache_dir))
    rows = np.flatnonzero((recordings.index < TEST_INDICES) == (split == "test"))
    sequences = []
    for row in rows:
        pieces = recordings.samples[recordings.offsets[row] : recordings.offsets[row + 1]]
        samples = torch.from_numpy(pieces.astype(np.float32) / 32768)
        if features == "log_mel":
            sequences.append(log_mel(samples, RATE, window=window, hop=hop, bands=bands))
        else:
            sequences.append(frame_samples(samples, window=window, hop=hop).clone())
    return SequenceDataset(sequences, torch.from_numpy(recordings.labels[rows].astype(np.int64)), DIGITS)
