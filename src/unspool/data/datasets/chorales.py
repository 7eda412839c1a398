"""Bach's chorales as piano rolls."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unspool.data._errors import DataError
from unspool.data._steps import StepLabelledDataset
from unspool.data.datasets._find import Address, Wanted, find
from unspool.data.datasets._read import read_verified

FILE = "jsb-chorales-quarter.json"
ADDRESS = Address(
    ["https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/master/"],
    "sha256:2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
)
LOWEST_PITCH, HIGHEST_PITCH = 21, 108  # the 88 keys of a piano, by their MIDI numbers
PITCHES = tuple(
    f"{'C C# D D# E F F# G G# A A# B'.split()[pitch % 12]}{pitch // 12 - 1}"
    for pitch in range(LOWEST_PITCH, HIGHEST_PITCH + 1)
)
"""What the keys are called, A0 to C8; C4 is the middle one."""
SPLITS = {"train": "train", "validation": "valid", "test": "test"}


def load_chorales(
    split: Literal["train", "validation", "test"],
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> StepLabelledDataset:
    """Load Bach's chorales in steps of a quarter note, to predict each chord from those before it.

    ``jsb-chorales-quarter.json`` is looked for in `data_dir` or ``UNSPOOL_DATA_DIR``, directly or in the folder
    ``jsb_chorales``; if neither is given, in the cache; if it is not there, it is downloaded into the cache with pooch.
    Its sha256 is verified.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        The split of Boulanger-Lewandowski et al. (2012): 229, 76 and 77 chorales.
    data_dir : str or Path, optional
        A directory that has the file.
    cache_dir : str or Path, optional
        Directory of the download; ``UNSPOOL_CACHE_DIR`` or the user's cache directory by default.

    Returns
    -------
    StepLabelledDataset
        float32 inputs and targets of shape (T, 88): 1 for each key that sounds, column 0 for MIDI pitch 21. Inputs are
        a chorale without its last chord, targets the same chorale without its first; rests are rows of zeros. T is 24
        to 159. Keys are named A0 to C8. Batch them with `collate`.

    Raises
    ------
    DataError
        If the file is missing, cannot be downloaded or has another checksum.

    Notes
    -----
    The first chord of a chorale is never a target. Published figures of the negative log-likelihood per step may count
    it too.
    """
    if split not in SPLITS:
        raise DataError(f"received split={split!r}; expected 'train', 'validation' or 'test'")
    wanted = Wanted("JSB Chorales", "jsb_chorales", [FILE], f"The file is published at {ADDRESS.mirrors[0]}", ADDRESS)
    content = read_verified(find(wanted, data_dir, cache_dir), ADDRESS)
    rolls = [piano_roll(chords) for chords in json.loads(content)[SPLITS[split]]]
    return StepLabelledDataset([roll[:-1] for roll in rolls], [roll[1:] for roll in rolls], PITCHES)


def piano_roll(chords: Sequence[Sequence[int]]) -> Tensor:
    """Return chords as a float32 tensor of shape (T, 88), 1 where a key sounds.

    Parameters
    ----------
    chords : sequence of sequence of int
        The MIDI pitches that sound at each step, 21 to 108.
    """
    roll = torch.zeros(len(chords), HIGHEST_PITCH - LOWEST_PITCH + 1)
    for step, chord in enumerate(chords):
        roll[step, [pitch - LOWEST_PITCH for pitch in chord]] = 1
    return roll
