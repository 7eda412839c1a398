import json

import numpy as np
import pytest
import torch

from unspool.data import DataError, read_sequences, read_ts

STEPS = [[1.0, 2.0], [3.0, 4.5], [5.0, -6.0]]
TS = """# remark
@problemName Two
@classLabel true a b
@data
1,3,5:2,4.5,-6:a
7:8:b
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_ts_has_channels_across_and_labels(tmp_path):
    sequences, labels = read_ts(write(tmp_path / "x.ts", TS))
    assert labels == ["a", "b"]
    assert sequences[0].tolist() == STEPS
    assert sequences[1].tolist() == [[7.0, 8.0]]


def test_ts_without_labels(tmp_path):
    text = TS.replace("@classLabel true a b", "@classLabel false").replace(":a\n", "\n").replace(":b\n", "\n")
    sequences, labels = read_ts(write(tmp_path / "x.ts", text))
    assert labels is None
    assert sequences[1].tolist() == [[7.0, 8.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@data\n1,2:3\n", "line 2: channels of 2, 1 values"),
        ("@data\n1,x\n", "line 2: could not convert string to float: 'x'"),
        ("@data\n", "no series"),
        ("1,2\n", "line 1: '1,2'; expected a line that starts with @"),
        ("@timeStamps true\n@data\n1\n", r"line 3: no \(time,value\) in '1'"),
    ],
)
def test_ts_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_ts(write(tmp_path / "x.ts", text))


def test_every_format_gives_the_same_sequence(tmp_path):
    np.save(tmp_path / "x.npy", np.array(STEPS))
    np.savez(tmp_path / "x.npz", first=np.array(STEPS), second=np.ones((1, 2)))
    write(tmp_path / "x.csv", "a,b\n1,2\n3,4.5\n\n5,-6\n")
    write(tmp_path / "y.csv", "1,2\n3,4.5\n5,-6\n")
    write(tmp_path / "x.jsonl", f"{json.dumps(STEPS)}\n\n{json.dumps({'sequence': STEPS})}\n")
    write(tmp_path / "x.ts", TS)
    counts = {}
    for path in sorted(tmp_path.iterdir()):
        sequences = read_sequences(path)
        counts[path.name] = len(sequences)
        assert sequences[0].dtype == torch.float32
        assert sequences[0].tolist() == STEPS, path
    assert counts == {"x.csv": 1, "x.jsonl": 2, "x.npy": 1, "x.npz": 2, "x.ts": 2, "y.csv": 1}


def test_npy_of_many_sequences_and_of_bytes(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    sequences = read_sequences(str(tmp_path / "x.npy"))
    assert [s.shape for s in sequences] == [(3, 4), (3, 4)]
    assert sequences[0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "1", r"unknown kind of file; expected a name that ends in .ts, .npy, .npz, .csv, .jsonl"),
        ("x.csv", "", "no rows of numbers"),
        ("x.csv", "1,2\n3\n", "line 2: 1 fields; expected 2"),
        ("x.csv", "1,2\n3,z\n", "line 2: 'z'; expected a number"),
        ("x.csv", "1,nan\n", "values that are not finite"),
        ("x.csv", "1,1e300\n", "values that are not finite"),
        ("x.csv", "1" * 200_000 + "\n", "no table of numbers"),
        ("x.jsonl", "", "no sequences"),
        ("x.jsonl", "[[1, 2], [3]]\n", "line 1: expected a list of steps, each a list of equally many numbers"),
        ("x.jsonl", '{"steps": 1}\n', "line 1: expected a list of steps"),
        ("x.jsonl", "[1, 2]\n", "line 1: expected a list of steps, or"),
        ("x.jsonl", "[[1, 2]]\n{\n", "line 2: no JSON"),
        ("x.npy", "not an array", "no NumPy array of numbers"),
        ("x.npz", "not an archive", "no NumPy archive"),
        ("x.ts", "@data\n", "no series"),
    ],
)
def test_what_cannot_be_read_gets_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_sequences(write(tmp_path / name, text))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"an array of shape \(3,\); expected \(steps, channels\)"),
        (np.zeros((0, 3)), r"has shape \(0, 3\)"),
        (np.array([["a"]]), "an array of <U1; expected numbers"),
        (np.array([[None]]), "no NumPy array of numbers"),
    ],
)
def test_arrays_that_are_no_sequences_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        read_sequences(tmp_path / "x.npy")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.npy: no such file"):
        read_sequences(tmp_path / "none.npy")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "ts"])
def test_what_is_no_utf8_is_named(ending, tmp_path):
    path = tmp_path / f"x.{ending}"
    path.write_bytes("1,2\n".encode("utf-16"))
    with pytest.raises(DataError, match=rf"x\.{ending}, line 1: byte 0 .* not utf-8 .*\nSave the file as UTF-8$"):
        read_sequences(path)


def test_a_byte_order_mark_is_no_number(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf1,2\n")
    assert read_sequences(tmp_path / "x.csv")[0].tolist() == [[1.0, 2.0]]
