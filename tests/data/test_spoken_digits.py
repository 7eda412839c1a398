import wave

import numpy as np
import pytest
import torch

from tests.data.real import directory_with
from unspool.data import BatchLoader, DataError, ResumableBatchSampler, load_spoken_digits, log_mel


def recordings(speakers=("ann", "bob")):
    """Return ten digits, fifty times by each speaker, of 300 to 399 samples: the arrays of an archive."""
    generator = np.random.default_rng(0)
    rows = [(index, digit, speaker) for index in range(50) for digit in range(10) for speaker in range(len(speakers))]
    lengths = np.array([300 + row % 100 for row in range(len(rows))])
    return {
        "samples": generator.integers(-32768, 32768, lengths.sum()).astype(np.int16),
        "offsets": np.cumsum([0, *lengths]).astype(np.int32),
        "labels": np.array([digit for _, digit, _ in rows], np.uint8),
        "speakers": np.array([speaker for *_, speaker in rows], np.uint8),
        "index": np.array([index for index, *_ in rows], np.uint8),
        "rate": np.array(8000, np.int32),
    }


def piece(arrays, row):
    return arrays["samples"][arrays["offsets"][row] : arrays["offsets"][row + 1]]


def save(directory, **changes):
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {**recordings(), **changes}
    np.savez(directory / "fsdd.npz", **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def write_wav(path, samples, *, rate=8000, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples).astype("<i2").tobytes())


def test_frames_are_scaled_samples(tmp_path):
    arrays = save(tmp_path / "fsdd")
    test = load_spoken_digits("test", features="frames", data_dir=tmp_path)
    train = load_spoken_digits("train", features="frames", window_ms=10, hop_ms=10, data_dir=tmp_path)
    assert (len(test), len(train)) == (100, 900)
    assert test.labels[:4].tolist() == [0, 0, 1, 1]
    assert test[3][0].shape == (2, 200)
    assert test[3][0].dtype == torch.float32
    assert (test[3][0][1] * 32768).tolist() == piece(arrays, 3)[80:280].tolist()
    assert (train[7][0][2] * 32768).tolist() == piece(arrays, 107)[160:240].tolist()
    assert train.class_names == tuple("0123456789")


def test_log_mel_is_that_of_the_recording(tmp_path):
    arrays = save(tmp_path)
    dataset = load_spoken_digits("test", data_dir=tmp_path)
    assert dataset.input_size == 40
    expected = log_mel(torch.from_numpy(piece(arrays, 5) / np.float32(32768)), 8000, window=200, hop=80)
    assert torch.equal(dataset[5][0], expected)
    assert load_spoken_digits("test", bands=20, data_dir=tmp_path).input_size == 20
    batch = next(iter(BatchLoader(dataset, ResumableBatchSampler(len(dataset), 8))))
    assert batch.inputs.shape == (8, int(batch.lengths.max()), 40)


def test_wav_files_give_what_the_archive_gives(tmp_path):
    arrays = save(tmp_path / "archive")
    directory = tmp_path / "repository" / "recordings"
    directory.mkdir(parents=True)
    for row, (index, digit, speaker) in enumerate(
        zip(arrays["index"], arrays["labels"], arrays["speakers"], strict=True)
    ):
        write_wav(directory / f"{digit}_{('ann', 'bob')[speaker]}_{index}.wav", piece(arrays, row))
    for split in ("train", "test"):
        one = load_spoken_digits(split, features="frames", data_dir=tmp_path / "archive")
        other = load_spoken_digits(split, features="frames", data_dir=tmp_path / "repository")
        assert torch.equal(one.labels, other.labels)
        assert all(torch.equal(one[row][0], other[row][0]) for row in range(len(one)))
    (directory / "9_bob_49.wav").unlink()
    with pytest.raises(DataError, match="49 recordings of digit 9 by speaker 1; expected 50"):
        load_spoken_digits("test", data_dir=directory.parent)


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("1_ann_x.wav", {}, "expected a name like 7_theo_12.wav"),
        ("one.wav", {}, "expected a name like 7_theo_12.wav"),
        ("1_ann_0.wav", {"rate": 16000}, r"\(1, 2, 16000\); expected \(1, 2, 8000\)"),
        ("1_ann_0.wav", {"channels": 2}, r"\(2, 2, 8000\); expected \(1, 2, 8000\)"),
    ],
)
def test_odd_wav_files_are_named(tmp_path, name, form, message):
    (tmp_path / "recordings").mkdir()
    write_wav(tmp_path / "recordings" / name, range(400), **form)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        load_spoken_digits("test", data_dir=tmp_path)


def test_damaged_wav_files_are_named(tmp_path):
    path = tmp_path / "recordings" / "1_ann_0.wav"
    path.parent.mkdir()
    with pytest.raises(DataError, match="recordings: no WAV files"):
        load_spoken_digits("test", data_dir=tmp_path)
    write_wav(path, range(400))
    whole = path.read_bytes()
    for content, message in [
        (whole[:-100], "700 bytes of samples; expected 800"),
        (whole[:20], "no WAV file"),
        (b"", "no WAV file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"1_ann_0.wav: {message}"):
            load_spoken_digits("test", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": None}, "no archive with the arrays samples, offsets, labels, speakers, index, rate"),
        ({"labels": np.array(["a"])}, "an array of <U1; expected numbers"),
        ({"samples": np.zeros(10)}, "expected 8000, int16"),
        ({"rate": np.array(16000)}, "16000 samples a second"),
        ({"offsets": np.array([0, 5, 3])}, "3 offsets, 1000 labels, 1000 speakers and .* do not fit together"),
        ({"labels": np.zeros(0, np.uint8)}, "0 labels"),
        ({"labels": np.full(1000, 10)}, "do not fit together"),
        ({"labels": np.zeros(1000, np.uint8)}, "500 recordings of digit 0 by speaker 0; expected 50"),
        ({"speakers": np.array([None] * 1000)}, "no archive with the arrays"),
    ],
)
def test_odd_archives_are_refused(tmp_path, changes, message):
    save(tmp_path, **changes)
    with pytest.raises(DataError, match=f"fsdd.npz: .*{message}"):
        load_spoken_digits("test", data_dir=tmp_path)


def test_damaged_archives_are_refused(tmp_path):
    save(tmp_path)
    path = tmp_path / "fsdd.npz"
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[5000] ^= 1
    for content in (whole[:-1000], bytes(changed), b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"fsdd\.npz: no archive with the arrays.*fetch the file again"):
            load_spoken_digits("test", data_dir=tmp_path)


def test_arguments_are_checked(tmp_path):
    save(tmp_path)
    with pytest.raises(DataError, match="received split='dev'"):
        load_spoken_digits("dev", data_dir=tmp_path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="received features='mfcc'"):
        load_spoken_digits("test", features="mfcc", data_dir=tmp_path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"expected .* with N at least 8000"):
        load_spoken_digits("test", window_ms=1000, data_dir=tmp_path)
    with pytest.raises(DataError, match=r"no spoken digits in .*fsdd\.npz.*\n.*github\.com/Jakobovski"):
        load_spoken_digits("test", data_dir=tmp_path / "none")


def test_the_real_recordings():
    directory = directory_with("fsdd/fsdd.npz", "fsdd/recordings")
    train = load_spoken_digits("train", data_dir=directory)
    test = load_spoken_digits("test", features="frames", data_dir=directory)
    assert (len(train), len(test)) == (2700, 300)
    assert torch.bincount(train.labels).tolist() == [270] * 10
    assert torch.bincount(test.labels).tolist() == [30] * 10
    assert len(test[0][0]) == 1 + (2384 - 200) // 80, "0_george_0.wav has 2,384 samples"
    assert (test[0][0][0, :4] * 32768).tolist() == [-1489, -962, -606, 163]
    lengths = torch.cat([train.lengths, test.lengths])
    assert (int(lengths.min()), int(lengths.max())) == (1 + (1148 - 200) // 80, 1 + (18262 - 200) // 80)
    assert all(bool(sequence.isfinite().all()) for sequence in train.sequences)
