import gzip

import numpy as np
import pytest
import torch

from unspool.data import DataError, read_idx, read_sequences

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx(array, code=8):
    return bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize("compress", [lambda content: content, gzip.compress])
def test_images_are_read_compressed_or_not(tmp_path, compress):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(compress(idx(IMAGES)))
    np.testing.assert_array_equal(read_idx(path), IMAGES)


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_other_types_come_in_the_machines_byte_order(tmp_path, code, dtype):
    path = tmp_path / "x.idx"
    path.write_bytes(idx(np.array([1, -2, 300 if code > 9 else 3], dtype), code))
    array = read_idx(path)
    assert array.dtype.isnative
    assert array.tolist() == [1, -2, 300 if code > 9 else 3]


def test_images_are_sequences_of_rows(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(IMAGES)))
    sequences = read_sequences(path)
    assert [s.tolist() for s in sequences] == IMAGES.tolist()
    assert sequences[0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"starts with the bytes \(none\)"),
        (b"\x89PNG....", "starts with the bytes 89 50 4e 47; an IDX file starts with 00 00"),
        (bytes([0, 0, 7, 1, 0, 0, 0, 0]), "starts with the bytes 00 00 07 01"),
        (bytes([0, 0, 8, 3, 0, 0]), "6 bytes; expected at least 16 for the header"),
        (idx(IMAGES)[:-5], r"truncated: 35 bytes; expected 40 for an array of shape \(2, 3, 4\)"),
        (idx(IMAGES) + b"x", "too long: 41 bytes; expected 40"),
        (gzip.compress(idx(IMAGES), mtime=0)[:-12], "damaged or truncated gzip stream .*; fetch the file again"),
        (gzip.compress(idx(IMAGES), mtime=0)[:12] + b"\xff" * 20, "damaged or truncated gzip stream"),
    ],
)
def test_damage_gets_one_error_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"broken.gz: {message}"):
        read_idx(path)
