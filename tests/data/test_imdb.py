import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.serving import serving
from unspool.data import BatchLoader, BucketBatchSampler, DataError, _token_cache, collate_ragged, load_imdb
from unspool.data.datasets import imdb

TRAIN = [[5, 1, 9], [2], [7, 7, 30, 4]]
TEST = [[3, 4], [1]]


def ranks(lists):
    array = np.empty(len(lists), object)
    array[:] = lists
    return array


def archive(directory, x_train=TRAIN, y_train=(1, 0, 1), **more):
    """Write a small archive of Keras's layout and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {
        "x_train": ranks(x_train),
        "y_train": np.array(y_train),
        "x_test": ranks(TEST),
        "y_test": np.array([0, 1]),
    }
    np.savez(directory / "imdb.npz", **{**arrays, **more})
    return directory / "imdb.npz"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load from `tmp_path / "data"` with a cache of the test's own."""
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)

    def load(split: Any = "train", **named: Any):
        return load_imdb(
            split, **{"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "sha256": None, **named}
        )

    return load


def sequences(dataset):
    return [dataset[index][0].tolist() for index in range(len(dataset))]


def test_numbers_are_kerass(load, tmp_path):
    archive(tmp_path / "data" / "imdb")
    assert sequences(load()) == [[1, 8, 4, 12], [1, 5], [1, 10, 10, 33, 7]]
    assert sequences(load(num_words=10)) == [[1, 8, 4, 2], [1, 5], [1, 2, 2, 2, 7]]
    assert sequences(load(maxlen=2)) == [[4, 12], [1, 5], [33, 7]]
    assert sequences(load(maxlen=2, truncation="post")) == [[1, 8], [1, 5], [1, 10]]
    assert sequences(load(start_char=None, index_from=0, num_words=9, oov_char=0)) == [[5, 1, 0], [2], [7, 7, 0, 4]]
    assert load().lengths.tolist() == [4, 2, 5]
    assert load(maxlen=4).lengths.tolist() == [4, 2, 4]
    assert load(start_char=None).lengths.tolist() == [3, 1, 4]
    dataset = load("test")
    assert dataset.labels.tolist() == [0, 1]
    assert dataset[-1][0].dtype == torch.int64
    assert dataset.class_names == ("negative", "positive")
    with pytest.raises(IndexError):
        dataset[2]


def test_the_archive_is_read_once_and_then_mapped(load, tmp_path, monkeypatch):
    path = archive(tmp_path / "data")
    first = sequences(load())
    kept = tmp_path / "cache" / "imdb" / sha256(path)
    assert sorted(file.name for file in kept.iterdir()) == sorted(
        f"{split}_{name}.npy" for split in ("train", "test") for name in ("tokens", "offsets", "labels")
    )
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    monkeypatch.setattr(imdb, "read_archive", None)
    assert sequences(load()) == first
    assert isinstance(load()._tokens, np.memmap)


def test_nothing_half_written_is_left(load, tmp_path, monkeypatch):
    archive(tmp_path / "data")
    save = np.save

    def fail(path, array, **named):
        save(path, array, **named)
        if path.name == "test_offsets.npy":
            raise OSError("no space left on device")

    monkeypatch.setattr(_token_cache.np, "save", fail)
    with pytest.raises(DataError, match=r"cannot keep IMDB in .*no space left.*\n.*UNSPOOL_CACHE_DIR"):
        load()
    assert list((tmp_path / "cache" / "imdb").iterdir()) == []
    monkeypatch.undo()
    assert len(load()) == 3


def test_another_process_that_was_first_is_no_error(load, tmp_path):
    path = archive(tmp_path / "data")
    folder = tmp_path / "cache" / "imdb" / sha256(path)
    load()
    before = sorted(folder.iterdir())
    _token_cache.keep({split: imdb.read_archive(path, split) for split in imdb.SPLITS}, folder, called="IMDB")
    assert sorted(folder.iterdir()) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_a_cache_that_cannot_be_written_is_named(load, tmp_path):
    archive(tmp_path / "data")
    (tmp_path / "cache").write_text("a file, no directory")
    with pytest.raises(DataError, match=r"cannot keep IMDB in .*\n.*UNSPOOL_CACHE_DIR"):
        load()


@pytest.mark.parametrize("damage", ["truncated", "missing", "other"])
def test_a_damaged_cache_is_named(load, tmp_path, damage):
    path = archive(tmp_path / "data")
    load()
    file = tmp_path / "cache" / "imdb" / sha256(path) / "train_tokens.npy"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-2])
    elif damage == "missing":
        file.unlink()
    else:
        np.save(file, np.zeros(2, np.int32))
    with pytest.raises(DataError, match=r"damaged cache .*; remove this folder"):
        load()


class Hostile:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_calls_is_refused_before_it_does(load, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    archive(tmp_path / "data", x_train=[[1], Hostile(os.rmdir, str(victim)), [2]])
    with pytest.raises(DataError, match=r"the pickle wants posix\.rmdir|the pickle wants nt\.rmdir"):
        load()
    assert victim.is_dir()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.flat\x93.",
        b"cnumpy\ndtype\n}S'x'\nI1\nsb.",  # sets an attribute of what stands for a class
        b"cnumpy\nndarray\n)\x81.",
        b"Pid\n.",
        b"(i.",
        b"",
        b"I1\n.",
    ],
)
def test_other_programs_of_a_pickle_are_refused(load, tmp_path, program):
    path = archive(tmp_path / "data")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (3,)})
    labels = io.BytesIO()
    np.save(labels, np.array([0, 1, 0]))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train.npy", header.getvalue() + program)
        file.writestr("y_train.npy", labels.getvalue())
    with pytest.raises(DataError, match=r"x_train (is no array of lists of whole numbers|holds int; expected)"):
        load()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_that_numpy_wrote_is_read(load, tmp_path, protocol):
    path = archive(tmp_path / "data")
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": (3,)})
    content.write(pickle.dumps(ranks(TRAIN), protocol))
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, member in {**members, "x_train.npy": content.getvalue()}.items():
            file.writestr(name, member)
    assert len(load()) == 3


def test_a_small_file_cannot_fill_the_memory(load, tmp_path):
    archive(tmp_path / "data", x_train=[[1] * 1000] * 1000, y_train=[0] * 1000)
    with pytest.raises(DataError, match=r"1000000 words in .* bytes"):
        load()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": [[1], [], [2]]}, "train review 1 is empty"),
        ({"x_train": [[1], (1,), [2]]}, "train review 1 is a tuple"),
        ({"x_train": [[1], ["a"], [2]]}, "train review 1 holds more than word ranks"),
        ({"x_train": [[1], [0], [2]]}, "train review 1 holds more than word ranks; expected numbers from 1"),
        ({"x_train": [[1], [2**31], [2]]}, "train review 1 holds more"),
        ({"y_train": [0, 2, 1]}, "train review 1 has the label 2; expected 0 to 1"),
        ({"y_train": [0, 1, -1]}, "train review 2 has the label -1"),
        ({"y_train": [0, 1]}, "3 train reviews and 2 labels"),
        ({"y_train": [0.5, 1, 1]}, "type float64; expected whole numbers"),
        ({"y_train": ranks([[0], [1], [1]])}, "y_train is no array of numbers"),
    ],
)
def test_other_contents_are_refused(load, tmp_path, arrays, message):
    archive(tmp_path / "data", **arrays)
    with pytest.raises(DataError, match=message):
        load()
    assert not (tmp_path / "cache").exists()


def test_other_layouts_are_refused(load, tmp_path):
    path = archive(tmp_path / "data")
    np.savez(path, x=np.zeros(2))
    with pytest.raises(DataError, match=r"no train reviews in it .*expected Keras's imdb.npz"):
        load()
    np.savez(path, x_train=np.zeros((2, 3), np.int64), y_train=np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"x_train is of type int64 and shape \(2, 3\)"):
        load()


def test_a_truncated_or_damaged_archive_is_refused(load, tmp_path):
    path = archive(tmp_path / "data")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"imdb.npz: damaged or truncated archive .*; fetch the file again"):
        load()
    place = content.index(b"\x93NUMPY") + 140
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataError, match="damaged or truncated archive"):
        load()


def test_a_missing_archive_is_named(load, tmp_path):
    with pytest.raises(DataError, match=r"no IMDB in .*imdb\.npz.*\n.*--data-dir"):
        load()
    with pytest.raises(DataError, match=r"imdb\.npz: no such file, and without a checksum"):
        load(data_dir=None)
    with pytest.raises(DataError, match="received split='dev'"):
        load("dev")


def test_another_checksum_is_refused(load, tmp_path):
    path = archive(tmp_path / "data")
    with pytest.raises(DataError, match=f"has sha256 {sha256(path)}; expected 6966.* or 1232"):
        load(sha256=(imdb.OFFICIAL_SHA256, imdb.REBUILT_SHA256))
    assert len(load(sha256=[sha256(path)])) == 3


def test_download_goes_to_the_cache_and_is_not_repeated(load, tmp_path):
    path = archive(tmp_path / "source")
    named = {"data_dir": None, "sha256": [sha256(path)]}
    with serving(tmp_path / "source") as address:
        assert len(load(mirrors=[f"{address}none/", address], **named)) == 3
    assert len(load("test", mirrors=[address], **named)) == 2


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(load, tmp_path):
    archive(tmp_path / "source")
    with serving(tmp_path / "source") as address, pytest.raises(DataError, match="does not match the known hash"):
        load(data_dir=None, sha256=["0" * 64], mirrors=[address])
    assert list((tmp_path / "cache" / "imdb").iterdir()) == []


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"truncation": "middle"}, "truncation='middle'"),
        ({"maxlen": 0}, "maxlen=0"),
        ({"index_from": -1}, "index_from=-1"),
        ({"num_words": 2}, "num_words=2, start_char=1, oov_char=2"),
        ({"oov_char": -1}, "oov_char=-1"),
    ],
)
def test_bad_arguments_are_refused(load, tmp_path, named, message):
    archive(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        load(**named)


def test_ragged_batches_of_reviews(load, tmp_path):
    archive(tmp_path / "data")
    dataset = load()
    batches = list(BatchLoader(dataset, BucketBatchSampler(dataset.lengths, [3], 2, shuffle=False), collate_ragged))
    assert [batch.lengths.tolist() for batch in batches] == [[2], [4, 5]]
    assert batches[1].to_padded()[0].tolist() == [[1, 8, 4, 12, 0], [1, 10, 10, 33, 7]]


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_real_reviews(decoded):
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    if not any((directory / part / imdb.FILE).exists() for part in ("", "imdb")):
        pytest.skip(f"{directory} has no IMDB")
    train, test = (load_imdb(split, num_words=10000, data_dir=directory, cache_dir=decoded) for split in imdb.SPLITS)
    for dataset in (train, test):
        assert len(dataset) == 25000
        assert torch.bincount(dataset.labels).tolist() == [12500, 12500]
    lengths = torch.cat([train.lengths, test.lengths])
    assert int(lengths.max()) == 2494
    for index in (0, 24999):
        sequence = train[index][0]
        assert len(sequence) == int(train.lengths[index])
        assert int(sequence[0]) == 1
        assert int(sequence.max()) < 10000
    # The first review of Keras's own file, as Keras numbers it; a rebuilt archive has it elsewhere.
    known = [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65]
    found = [
        index for index in (train.lengths == 218).nonzero().flatten().tolist() if train[index][0][:10].tolist() == known
    ]
    assert [train[index][1] for index in found] == [1]
