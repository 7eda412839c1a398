import gzip
import json

import pytest
import torch

from tests.refusal import refused
from unspool.data import DataError, LabelledTexts, read_texts

TEXTS = ["Good, really.", "日本語 \u2028 \x85 👍", "  fine  "]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_a_text_a_line(tmp_path, end, mark, last):
    content = (mark + end.join(TEXTS) + (end if last else "")).encode()
    (tmp_path / "x.txt").write_bytes(content)
    (tmp_path / "x.TXT.gz").write_bytes(gzip.compress(content))
    assert read_texts(tmp_path / "x.txt") == TEXTS
    assert read_texts(str(tmp_path / "x.TXT.gz")) == TEXTS


def test_tables_and_encodings(tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"words": text}) + "\n" for text in TEXTS))
    assert read_texts(tmp_path / "x.jsonl", text_column="words") == TEXTS
    (tmp_path / "x.csv").write_bytes('n,text\r\n1,"a\r\nb"\r\n2,é\r\n'.encode("utf-16"))
    assert read_texts(tmp_path / "x.csv", encoding="utf-16") == ["a\r\nb", "é"]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x.txt", b"", ["x.txt: no rows"]),
        ("x.txt", b"a\n \nb\n", ["x.txt, line 2: an empty text"]),
        ("x.txt", b"a\n\xe9\n", ["x.txt, line 2", "0xe9, which is not utf-8", "--encoding"]),
        ("x.txt.gz", gzip.compress(b"a\nb\n", mtime=0)[:-9], ["x.txt.gz: damaged or truncated gzip stream"]),
        ("x.csv", b"words\na\n", ["x.csv, row 1 (line 2): no column 'text'; there are 'words'", "--text-column"]),
        ("x.doc", b"a", ["x.doc: unknown kind of file; expected", ".txt, .csv, .tsv, .jsonl"]),
        ("x.jsonl", b'{"text": 1}', ["x.jsonl, line 1: 1 of type int; expected a text"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    with refused(DataError, *parts):
        read_texts(tmp_path / name)


def test_a_missing_file(tmp_path):
    with refused(DataError, "x.txt: no such file"):
        read_texts(tmp_path / "x.txt")


def test_subset_keeps_the_classes():
    texts = LabelledTexts(["a", "b", "c"], torch.tensor([0, 1, 0]), ("x", "y"))
    picked = texts.subset([2, 0])
    assert picked.texts == ["c", "a"]
    assert picked.labels.tolist() == [0, 0]
    assert picked.class_names == ("x", "y")
