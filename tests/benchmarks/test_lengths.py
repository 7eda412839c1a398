import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.configurations import Shape, cases
from benchmarks.lengths import review_lengths, reviews, reviews_missing, spread_lengths


def write(path, content):
    """Put a pickle behind the header of an array of objects, as Keras's file has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive, archive.open("x_train.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        file.write(content)


def as_numpy_writes(lists):
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return pickle.dumps(array, protocol=3)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    return tmp_path / "imdb" / "imdb.npz"


def test_lengths_of_lists(file):
    write(file, as_numpy_writes([[1, 2, 3], [], [70_000, 4]]))
    assert review_lengths(file) == [3, 0, 2]


def test_the_names_of_numpy_before_2(file):
    new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    write(file, as_numpy_writes([[1], [2, 3]]).replace(new, old))
    assert review_lengths(file) == [1, 2]


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.mkdir, "made"), (eval, "__import__('os').mkdir('made')"), (np.load, "made"), (bytearray, "a" * 9)],
)
def test_anything_else_is_refused(file, tmp_path, monkeypatch, function, argument):
    monkeypatch.chdir(tmp_path)
    write(file, as_numpy_writes([[1], [Evil(function, argument)]]))
    with pytest.raises(pickle.UnpicklingError, match="expected lists and numbers only"):
        review_lengths(file)
    assert not Path("made").exists()


@pytest.mark.parametrize("value", [[1, 2], 3, "text"])
def test_another_value_is_refused(file, value):
    write(file, pickle.dumps(value, protocol=3))
    with pytest.raises(ValueError, match="expected a list of lists"):
        review_lengths(file)


def test_items_that_are_not_lists(file):
    array = np.empty(2, dtype=object)
    array[:] = ["text", None]
    write(file, pickle.dumps(array, protocol=3))
    with pytest.raises(ValueError, match="expected a list of lists"):
        review_lengths(file)


def test_an_array_of_numbers_is_refused(tmp_path):
    np.savez(tmp_path / "imdb.npz", x_train=np.arange(3))
    with pytest.raises(ValueError, match="not an array of objects"):
        review_lengths(tmp_path / "imdb.npz")


def test_a_sample_is_always_the_same_and_cut(file):
    write(file, as_numpy_writes([[0] * n for n in range(1, 61)]))
    first, again = reviews(40, 8, 3), reviews(40, 8, 3)
    assert torch.equal(first, again)
    assert first.shape == (3, 8)
    assert int(first.max()) <= 40
    assert int(first.min()) >= 1


def test_without_the_data_such_shapes_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    assert "is not there" in reviews_missing()
    monkeypatch.delenv("UNSPOOL_DATA_DIR")
    assert "UNSPOOL_DATA_DIR" in reviews_missing()
    assert not list(cases(("imdb-400", "imdb-1000")))


def test_with_the_data_they_are_there(file):
    write(file, as_numpy_writes([[0] * n for n in range(1, 101)]))
    found = list(cases(("imdb-400",)))
    assert {case.lengths for case in found} == {"real"}
    assert {case.kind.name for case in found} == {"LSTM", "GRU", "SimpleRNN"}
    assert found[0].tokens == int(found[0].shape.lengths("real").sum())
    assert 0 < found[0].share < 1
    assert found[0].shortened(40).lengths == "ragged"


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_real_file():
    found = review_lengths(Path(os.environ["UNSPOOL_DATA_DIR"]) / "imdb" / "imdb.npz")
    assert len(found) == 25_000
    assert round(sum(found) / len(found)) == 238


def test_spread():
    lengths = spread_lengths(100, 18)
    assert sorted(lengths.tolist()) == list(range(15, 101, 5))
    assert Shape("s", 18, 100, 1, 1).lengths("ragged").tolist() == [lengths.tolist()]
    assert Shape("s", 2, 7, 1, 1).lengths("full").tolist() == [[7, 7]]
