"""Japanese Vowels, included in the package."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unspool.data._dataset import SequenceDataset
from unspool.data._errors import DataError

SHIPPED = Path(__file__).with_name("japanese_vowels.npz")
SPEAKERS = tuple(str(speaker) for speaker in range(1, 10))


def load_japanese_vowels(split: Literal["train", "test"]) -> SequenceDataset:
    """Load the utterances of nine speakers included in the package.

    Parameters
    ----------
    split : {"train", "test"}
        The archive's own split: 270 utterances for training, 370 for testing.

    Returns
    -------
    SequenceDataset
        float32 sequences of 7 to 29 steps with 12 channels, the cepstrum coefficients of a linear prediction
        analysis (no unit); labels 0 to 8 stand for the speakers 1 to 9.

    Raises
    ------
    DataError
        If `split` is neither of the two.

    Notes
    -----
    M. Kudo, J. Toyama and M. Shimbo, "Multidimensional Curve Classification Using Passing-Through Regions", Pattern
    Recognition Letters 20 (1999). Licence CC BY 4.0; see ``japanese_vowels.ATTRIBUTION.txt`` next to this module.
    """
    if split not in ("train", "test"):
        raise DataError(f"received split={split!r}; expected 'train' or 'test'")
    with np.load(SHIPPED, allow_pickle=False) as archive:
        values = torch.from_numpy(archive[f"{split}_values"])
        lengths = archive[f"{split}_lengths"].tolist()
        labels = torch.from_numpy(archive[f"{split}_labels"].astype(np.int64))
    return SequenceDataset(values.split(lengths), labels, SPEAKERS)
