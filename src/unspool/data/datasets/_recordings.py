"""The Free Spoken Digit Dataset: one archive of arrays, or the 3,000 WAV files of its repository."""

import wave
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from unspool._reading import damage_as, read_arrays
from unspool.data._errors import DataError

RATE = 8000
PER_SPEAKER = 50  # recordings of each digit by each speaker


@dataclass(frozen=True)
class Recordings:
    """Recordings one after the other.

    `samples` is int16; recording r is ``samples[offsets[r] : offsets[r + 1]]``, of the digit ``labels[r]`` by speaker
    ``speakers[r]``, who said it for the ``index[r]``-th time.
    """

    samples: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    index: np.ndarray


NAMES = [field.name for field in fields(Recordings)]


def read_recordings(path: Path) -> Recordings:
    """Read and check all recordings.

    Parameters
    ----------
    path : Path
        The archive ``fsdd.npz``, or the directory ``recordings``.

    Raises
    ------
    DataError
        If a file is damaged, or recordings are missing.
    """
    recordings = _read_wavs(path) if path.is_dir() else _read_archive(path)
    names, numbers = np.unique(recordings.speakers, return_inverse=True)
    counts = np.zeros((10, len(names)), np.int64)
    np.add.at(counts, (recordings.labels, numbers), 1)
    if (counts != PER_SPEAKER).any():
        digit, speaker = np.argwhere(counts != PER_SPEAKER)[0]
        raise DataError(
            f"{path}: {counts[digit, speaker]} recordings of digit {digit} by speaker {names[speaker]}; expected "
            f"{PER_SPEAKER} of each digit by each speaker. Fetch the data set again"
        )
    return recordings


def _read_archive(path: Path) -> Recordings:
    expected = f"{path}: no archive with the arrays {', '.join(NAMES)}, rate"
    with damage_as(DataError, expected, "fetch the file again"), path.open("rb") as file:
        arrays = read_arrays(file, [*NAMES, "rate"])
        rate = int(arrays.pop("rate"))
    recordings = Recordings(**arrays)
    kinds = {name: (array.dtype.kind, array.ndim) for name, array in arrays.items()}
    if rate != RATE or recordings.samples.dtype != np.int16 or not set(kinds.values()) <= {("i", 1), ("u", 1)}:
        raise DataError(
            f"{path}: {rate} samples a second, arrays {kinds}; expected {RATE}, int16 samples, whole numbers"
        )
    rows = len(recordings.labels)
    offsets = recordings.offsets.astype(np.int64)
    if not (
        rows > 0
        and len(offsets) == rows + 1
        and len(recordings.speakers) == len(recordings.index) == rows
        and offsets[0] == 0
        and offsets[-1] == len(recordings.samples)
        and (np.diff(offsets) > 0).all()
        and 0 <= recordings.labels.min() <= recordings.labels.max() <= 9
    ):
        raise DataError(
            f"{path}: {len(offsets)} offsets, {rows} labels, {len(recordings.speakers)} speakers and "
            f"{len(recordings.samples)} samples do not fit together; fetch the file again"
        )
    return replace(recordings, offsets=offsets)


def _read_wavs(directory: Path) -> Recordings:
    rows = []
    for path in directory.glob("*.wav"):
        digit, _, rest = path.stem.partition("_")
        speaker, _, index = rest.rpartition("_")
        if not (digit.isdecimal() and len(digit) == 1 and speaker and index.isdecimal()):
            raise DataError(f"{path}: expected a name like 7_theo_12.wav: digit, speaker, number of the recording")
        rows.append((int(index), int(digit), speaker, path))
    if not rows:
        raise DataError(f"{directory}: no WAV files; expected those of the Free Spoken Digit Dataset")
    rows.sort()
    speakers = sorted({speaker for _, _, speaker, _ in rows})
    pieces = [_read_wav(path) for *_, path in rows]
    return Recordings(
        np.concatenate(pieces),
        np.cumsum([0, *map(len, pieces)]),
        np.array([digit for _, digit, _, _ in rows]),
        np.array([speakers.index(speaker) for _, _, speaker, _ in rows]),
        np.array([index for index, *_ in rows]),
    )


def _read_wav(path: Path) -> np.ndarray:
    with damage_as(DataError, f"{path}: no WAV file", "fetch it again"), wave.open(str(path), "rb") as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        announced, content = file.getnframes(), file.readframes(file.getnframes())
    if form != (1, 2, RATE):
        raise DataError(f"{path}: channels, bytes a sample and samples a second are {form}; expected {(1, 2, RATE)}")
    if announced == 0 or len(content) != 2 * announced:
        raise DataError(
            f"{path}: {len(content)} bytes of samples; expected {2 * announced}, more than none. Fetch it again"
        )
    return np.frombuffer(content, "<i2").astype(np.int16)
