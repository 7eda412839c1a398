import gzip
import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.serving import serving
from unspool.data import DataError, load_mnist
from unspool.data._data_dir import default_cache_dir
from unspool.data.datasets import mnist

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A directory with four small files of MNIST's format, which the loader then takes for the official ones."""
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    return make_small(monkeypatch, tmp_path / "source")


def make_small(monkeypatch, directory, train=6, test=4):
    generator = np.random.default_rng(0)
    directory.mkdir()
    table = {}
    for split, count, names in (("train", train, NAMES[:2]), ("test", test, NAMES[2:])):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        entries = []
        for name, array in zip(names, (images, labels), strict=True):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
            packed = gzip.compress(content, mtime=0)
            (directory / f"{name}.gz").write_bytes(packed)
            entries.append(mnist.MnistFile(name, md5(content), md5(packed)))
        table[split] = tuple(entries)
    monkeypatch.setattr(mnist, "FILES", table)
    return directory


@pytest.fixture
def serve(small):
    """An address on this machine that serves the small files."""
    with serving(small) as address:
        yield address


@pytest.fixture
def refused():
    """An address on this machine where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"


@pytest.mark.parametrize("folder", ["", "mnist"])
def test_files_are_found_in_the_directory_or_its_folder(small, tmp_path, folder):
    target = tmp_path / "data" / folder
    target.mkdir(parents=True)
    for path in small.iterdir():
        path.rename(target / path.name)
    dataset = load_mnist("train", data_dir=tmp_path / "data")
    assert len(dataset) == 6
    assert dataset[0][0].shape == (28, 28)
    assert dataset[0][0].dtype == torch.uint8
    assert dataset.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert dataset.class_names == tuple("0123456789")
    assert len(load_mnist("test", data_dir=str(tmp_path / "data"))) == 4


def test_unpacked_files_will_do(small):
    for path in list(small.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(load_mnist("train", data_dir=small)) == 6


def test_a_directory_without_the_files_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no MNIST in .*train-images-idx3-ubyte\.gz.*\n.*--data-dir"):
        load_mnist("train", data_dir=tmp_path)


def test_another_file_of_the_same_format_is_refused(small):
    path = small / f"{NAMES[1]}.gz"
    content = gzip.decompress(path.read_bytes())
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(gzip.compress(changed))
    with pytest.raises(DataError) as caught:
        load_mnist("train", data_dir=small)
    for part in (str(path), md5(changed), md5(content), "Fetch the file again"):
        assert part in str(caught.value)


def test_a_truncated_file_is_refused_by_what_is_wrong_with_it(small):
    path = small / f"{NAMES[0]}.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-100]))
    with pytest.raises(DataError, match=f"{NAMES[0]}.gz: truncated: 4620 bytes; expected 4720"):
        load_mnist("train", data_dir=small)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=f"{NAMES[0]}.gz: damaged or truncated gzip stream"):
        load_mnist("train", data_dir=small)


def test_another_split_is_refused():
    with pytest.raises(DataError, match="received split='dev'"):
        load_mnist("dev")  # pyright: ignore[reportArgumentType]


def test_download_goes_to_the_cache_and_is_not_repeated(serve, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    assert len(load_mnist("train", mirrors=[serve])) == 6
    assert sorted(path.name for path in (tmp_path / "cache" / "mnist").iterdir()) == sorted(
        f"{name}.gz" for name in NAMES[:2]
    )
    assert len(load_mnist("train", mirrors=[refused])) == 6


def test_the_second_mirror_is_tried_after_the_first(serve, refused, tmp_path):
    assert len(load_mnist("test", cache_dir=tmp_path / "cache", mirrors=[refused, serve])) == 4


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(serve, small, tmp_path):
    (small / f"{NAMES[0]}.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match="does not match the known hash"):
        load_mnist("train", cache_dir=tmp_path / "cache", mirrors=[serve])
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_without_network_and_data_two_lines_name_the_options(refused, serve, tmp_path):
    with pytest.raises(DataError) as caught:
        load_mnist("train", cache_dir=tmp_path / "cache", mirrors=[refused, f"{serve}none/"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "Connection refused" in lines[0]
    assert "404" in lines[0]
    for option in ("--data-dir", "UNSPOOL_DATA_DIR", "network"):
        assert option in lines[1]
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(serve, tmp_path):
    (tmp_path / "cache").write_text("a file, no directory")
    with pytest.raises(DataError, match=r"cannot keep MNIST in .*\n.*UNSPOOL_CACHE_DIR"):
        load_mnist("train", cache_dir=tmp_path / "cache", mirrors=[serve])


def test_the_cache_is_the_users_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("UNSPOOL_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "unspool"


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_official_files():
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    if not any((directory / part / f"{NAMES[0]}.gz").exists() for part in ("", "mnist")):
        pytest.skip(f"{directory} has no MNIST")
    train, test = load_mnist("train", data_dir=directory), load_mnist("test", data_dir=directory)
    assert (len(train), len(test)) == (60000, 10000)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
