from pathlib import Path

import pytest

from tests.data.test_imdb import archive
from tests.data.test_mnist import make_small
from unspool.data import DataError, load_imdb, load_mnist
from unspool.data._data_dir import find_data_dir


def test_an_argument_goes_before_the_variable(monkeypatch):
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    assert find_data_dir(None) is None
    assert find_data_dir("~/x") == Path.home() / "x"
    monkeypatch.setenv("UNSPOOL_DATA_DIR", "~/y")
    assert find_data_dir(None) == Path.home() / "y"
    assert find_data_dir("x") == Path("x")
    monkeypatch.setenv("UNSPOOL_DATA_DIR", "")
    assert find_data_dir(None) is None


@pytest.mark.parametrize("name", ["variable", "argument"])
def test_a_named_directory_is_read_by_every_loader_and_nothing_else_is(tmp_path, monkeypatch, name):
    def named(directory):
        if name == "argument":
            return {"data_dir": directory}
        monkeypatch.setenv("UNSPOOL_DATA_DIR", str(directory))
        return {}

    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    make_small(monkeypatch, tmp_path / "data")
    archive(tmp_path / "data")
    for place in ("mnist", "imdb"):  # a cache that has both
        (tmp_path / "cache" / place).mkdir(parents=True)
        for path in (tmp_path / "data").iterdir():
            (tmp_path / "cache" / place / path.name).write_bytes(path.read_bytes())
    assert len(load_mnist("train", **named(tmp_path / "data"))) == 6
    assert len(load_imdb("train", sha256=None, **named(tmp_path / "data"))) == 3
    (tmp_path / "empty").mkdir()
    for load in (load_mnist, load_imdb):
        with pytest.raises(DataError, match=r"no (MNIST|IMDB) in .*empty: expected .*\n.*UNSPOOL_DATA_DIR, or neither"):
            load("train", **named(tmp_path / "empty"))
