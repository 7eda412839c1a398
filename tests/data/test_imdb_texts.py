import gzip
import hashlib
import json
import lzma
import os
from pathlib import Path

import pytest
import torch

from tests.data.real import real_reviews
from tests.data.serving import serving
from unspool.data import DataError, load_acl_imdb_texts, load_imdb_texts, load_imdb_word_index

REVIEWS = [("train", 1, "Good."), ("test", 0, "Bad."), ("train", 0, "Awful, é."), ("test", 1, "Fine.")]
INDEX = {"the": 1, "film": 2}


@pytest.fixture(autouse=True)
def unnamed(request, monkeypatch):
    if "real" not in request.node.name:
        monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


def jsonl(reviews=REVIEWS):
    rows = ({"split": split, "label": label, "text": text} for split, label, text in reviews)
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def acl(directory, reviews=REVIEWS):
    for number, (split, label, text) in enumerate(reviews):
        folder = directory / split / ("pos" if label else "neg")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    return directory


@pytest.mark.parametrize("folder", ["", "imdb"])
@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_one_file(tmp_path, folder, ending, pack):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / f"imdb_reviews.jsonl{ending}").write_bytes(pack(jsonl()))
    train = load_imdb_texts("train", data_dir=tmp_path)
    assert train.texts == ["Good.", "Awful, é."]
    assert train.labels.tolist() == [1, 0]
    assert train.class_names == ("negative", "positive")
    assert load_imdb_texts("test", data_dir=str(tmp_path)).texts == ["Bad.", "Fine."]


@pytest.mark.parametrize("folder", ["aclImdb", "imdb/aclImdb"])
def test_folders(tmp_path, folder):
    acl(tmp_path / folder)
    train = load_imdb_texts("train", data_dir=tmp_path)
    assert train.texts == ["Awful, é.", "Good."]
    assert train.labels.tolist() == [0, 1]
    assert train.class_names == ("negative", "positive")
    assert load_acl_imdb_texts(tmp_path / folder, "test").texts == ["Bad.", "Fine."]
    assert load_acl_imdb_texts((tmp_path / folder).parent, "test").texts == ["Bad.", "Fine."]


def test_the_variable_names_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    acl(tmp_path / "aclImdb")
    with pytest.raises(DataError, match=r"not downloaded.*aclImdb_v1.*UNSPOOL_DATA_DIR"):
        load_imdb_texts("train")
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    assert len(load_imdb_texts("train")) == 2


def test_the_cache_will_do(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path))
    acl(tmp_path / "imdb" / "aclImdb")
    assert load_imdb_texts("train").texts == ["Awful, é.", "Good."]


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no texts .* in .*: expected .*reviews\.jsonl\.xz or .*aclImdb\.\n.*data_"):
        load_imdb_texts("train", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"no reviews in .*train/neg: expected \.txt files\.\n.*aclImdb"):
        load_acl_imdb_texts(tmp_path, "train")
    for load in (load_imdb_texts, lambda split: load_acl_imdb_texts(tmp_path, split)):
        with pytest.raises(DataError, match="received split='dev'"):
            load("dev")  # pyright: ignore[reportArgumentType]
    (tmp_path / "imdb_reviews.jsonl").write_bytes(jsonl(REVIEWS[:1]))
    with pytest.raises(DataError, match="no line whose 'split' is 'test'"):
        load_imdb_texts("test", data_dir=tmp_path)


def test_what_is_wrong_is_said(tmp_path):
    root = acl(tmp_path / "aclImdb")
    path = root / "train/neg/2_7.txt"
    path.write_text(" ")
    with pytest.raises(DataError, match=r"neg.2_7\.txt: an empty text"):
        load_acl_imdb_texts(root, "train")
    path.write_bytes(b"\xe9")
    with pytest.raises(
        DataError, match=r"neg.2_7\.txt, line 1: byte 0 of the file is 0xe9, which is not utf-8 .*\nFetch"
    ):
        load_acl_imdb_texts(root, "train")
    (tmp_path / "imdb_reviews.jsonl").write_bytes(jsonl([("train", 7, "a"), ("train", 1, "b")]))
    with pytest.raises(DataError, match=r"imdb_reviews\.jsonl, line 1: the label '7'; expected one of '0', '1'"):
        load_imdb_texts("train", data_dir=tmp_path)


def test_word_index(tmp_path, monkeypatch):
    (tmp_path / "imdb").mkdir()
    path = tmp_path / "imdb" / "imdb_word_index.json"
    path.write_text(json.dumps(INDEX))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    assert load_imdb_word_index(data_dir=tmp_path, md5=md5) == INDEX
    assert load_imdb_word_index(data_dir=tmp_path, md5=None) == INDEX
    with pytest.raises(DataError, match=f"has md5 {md5}; expected bfaf.*Fetch the file again"):
        load_imdb_word_index(data_dir=tmp_path)
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(tmp_path))
    assert load_imdb_word_index(md5=md5) == INDEX
    for content, message in [("{", "no JSON"), ("[]", "no JSON object"), ('{"a": 1.5}', "no JSON object of words")]:
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            load_imdb_word_index(md5=None)
    path.unlink()
    with pytest.raises(DataError, match=r"no IMDB word index in .*imdb_word_index\.json"):
        load_imdb_word_index()


def test_word_index_is_downloaded_once(tmp_path):
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "imdb_word_index.json"
    source.write_text(json.dumps(INDEX))
    named = {"cache_dir": tmp_path / "cache", "md5": hashlib.md5(source.read_bytes()).hexdigest()}
    with serving(tmp_path / "source") as address:
        assert load_imdb_word_index(mirrors=[address], **named) == INDEX
    assert load_imdb_word_index(mirrors=[address], **named) == INDEX
    with pytest.raises(DataError, match="without a checksum to expect nothing is downloaded"):
        load_imdb_word_index(cache_dir=tmp_path / "none", md5=None)


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_real_texts():
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    if not (directory / "imdb" / "imdb_reviews.jsonl.xz").exists():
        pytest.skip(f"{directory} has no imdb/imdb_reviews.jsonl.xz")
    texts = real_reviews(directory)
    assert torch.bincount(texts.labels).tolist() == [12500, 12500]
    assert texts.texts[0].startswith("Bromwell High is a cartoon comedy.")
    index = load_imdb_word_index()
    assert len(index) == 88584
    assert index["the"] == 1
