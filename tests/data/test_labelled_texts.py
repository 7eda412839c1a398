import csv
import gzip
import json
import lzma
from typing import Any

import pytest
import torch

from unspool.data import DataError, LabelledTexts, read_labelled_texts

TEXTS = ["Good, really.", 'He said "no"\nand left', "tab\there \u2028 \x85 so", "fine"]
LABELS = ["pos", "neg", "neg", "pos"]
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def table(path, delimiter=",", texts=TEXTS, labels=LABELS, names=("id", "text", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(names)
        writer.writerows(zip(range(len(texts)), texts, labels, strict=True))
    return path


def lines(path, *values):
    path.write_text("".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values), encoding="utf-8")
    return path


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".CSV"])
def test_every_format_gives_the_same(tmp_path, ending, packed):
    path = tmp_path / f"reviews{ending}"
    if ending == ".jsonl":
        lines(path, *({"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)))
    else:
        table(path, "\t" if ending == ".tsv" else ",")
    path = write(tmp_path / f"packed{ending}{packed}", PACK[packed](path.read_bytes()))
    texts = read_labelled_texts(path)
    assert texts.texts == TEXTS
    assert texts.class_names == ("neg", "pos")
    assert texts.labels.tolist() == [1, 0, 0, 1]
    assert texts.labels.dtype == torch.int64
    assert len(texts) == 4


def test_other_columns_and_a_byte_order_mark(tmp_path):
    path = table(tmp_path / "x.csv", names=("review", "words", "stars"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_labelled_texts(path, text_column="words", label_column="stars").texts == TEXTS
    with pytest.raises(DataError, match="there are 'review', 'words', 'stars'"):
        read_labelled_texts(path)


def test_another_encoding(tmp_path):
    path = tmp_path / "x.csv"
    for encoding in ("latin-1", "utf-16"):
        path.write_text("text,label\nläuft,1\nnö,0\n", encoding=encoding)
        assert read_labelled_texts(path, encoding=encoding).texts == ["läuft", "nö"]


def test_a_text_may_be_longer_than_the_usual_limit_of_a_field(tmp_path):
    long = "word " * 100_000
    limit = csv.field_size_limit()
    assert read_labelled_texts(table(tmp_path / "x.csv", texts=[long, "b"], labels="01")).texts == [long, "b"]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "9"], ("9", "10")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["-1", "0.5", " 1e1 "], ("-1", "0.5", "1e1")),
        (["nan", "1", "2"], ("1", "2", "nan")),
    ],
)
def test_classes_are_sorted_as_numbers_where_all_are(tmp_path, labels, names):
    texts = read_labelled_texts(table(tmp_path / "x.csv", texts=list("abc"), labels=labels))
    assert texts.class_names == names
    assert [names[label] for label in texts.labels] == [label.strip() for label in labels]


def test_json_labels_of_any_kind(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"text": "a", "label": 10}, {"text": "b", "label": 2.5})
    assert read_labelled_texts(path).class_names == ("2.5", "10")
    path = lines(tmp_path / "x.jsonl", {"text": "a", "label": True}, {"text": "b", "label": False})
    assert read_labelled_texts(path).class_names == ("false", "true")


def test_the_classes_of_the_training_texts_for_test_texts(tmp_path):
    path = table(tmp_path / "x.csv", texts=["a", "b"], labels=["pos", "pos"])
    texts = read_labelled_texts(path, class_names=["pos", "neutral", "neg"])
    assert (texts.labels.tolist(), texts.class_names) == ([0, 0], ("pos", "neutral", "neg"))
    with pytest.raises(DataError, match=r"x\.csv, row 1 \(line 2\): the label 'pos'; expected one of 'good', 'bad'"):
        read_labelled_texts(path, class_names=["good", "bad"])
    with pytest.raises(DataError, match="received the classes 'pos'; expected two or more"):
        read_labelled_texts(path, class_names=["pos"])
    with pytest.raises(DataError, match="received the classes 'pos', 'pos'; expected two or more, all different"):
        read_labelled_texts(path, class_names=["pos", "pos"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "text,label\na,1\n,0\n", r"x\.csv, row 2 \(line 3\): an empty text; fill it in or remove its row"),
        ("x.csv", 'text,label\n"a\nb",1\n\n" \n",0\n', r"x\.csv, row 2 \(line 5\): an empty text"),
        ("x.csv", "text,label\na,1\nb, \n", r"row 2 \(line 3\): no label in the column 'label'"),
        ("x.csv", "text,label\na,1\nb,1\n", "every label in the column 'label' is '1'; expected at least two"),
        ("x.csv", "text,label\na,1\nb,1.0\n", "the labels '1' and '1.0' are one number"),
        ("x.csv", "text,label\na,b,1\n", r"x\.csv, line 2: 3 fields; expected 2"),
        ("x.csv", 'text,label\na,1\n"b"c,1\n', r"x\.csv, line 3: damaged quotes"),
        ("x.csv", 'text,label\na,1\n"b\nc,1\n', r"x\.csv, line 3: damaged quotes \(unexpected end of data\)"),
        ("x.csv", "text,label,text\na,1,b\n", r"x\.csv, line 1: several columns are called 'text'; rename them"),
        ("x.csv", "text,label\n", r"x\.csv: no rows"),
        ("x.csv", "", r"x\.csv: no rows"),
        ("x.csv", "I like it,1\nI do not,0\n", r"no column 'text'; there are 'I like it', '1'\.\n.* with text_column"),
        ("x.tsv", "text\tklass\na\t1\n", r"no column 'label'; there are 'text', 'klass'\.\n.* with label_column"),
        ("x.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label"}\n', r"x\.jsonl, line 3: no JSON"),
        ("x.jsonl", "[1]\n", r"x\.jsonl, line 1: a JSON list; expected one object a line"),
        ("x.jsonl", "[" * 100_000, r"x\.jsonl, line 1: no JSON \(it is nested too deeply"),
        ("x.jsonl", '{"text": 5, "label": 1}\n', r"x\.jsonl, line 1: 5 of type int; expected a text"),
        ("x.jsonl", '{"text": "\\n", "label": 1}\n', r"x\.jsonl, line 1: an empty text"),
        ("x.jsonl", '{"text": "a\\ud800", "label": 1}\n', r"x\.jsonl, line 1: the text has half a character at 1"),
        ("x.jsonl", '{"text": "a", "label": null}\n', r"x\.jsonl, line 1: no label"),
        ("x.jsonl", '{"text": "a", "label": [1]}\n', r"x\.jsonl, line 1: a label of type list"),
        ("x.jsonl", '{"text": "a"}\n', r"x\.jsonl, line 1: no column 'label'; there are 'text'"),
        (
            "x.csv",
            b"text,label\nb\xe4r,1\n",
            r"x\.csv, line 2: byte 12 of the file is 0xe4, which is not utf-8.*\n",
        ),
        (
            "x.csv.gz",
            gzip.compress(b"text,label\na,1\nb,0\n", mtime=0)[:-9],  # the time would be part of the test's name
            r"x\.csv\.gz: damaged or truncated gzip stream",
        ),
        ("x.csv.xz", lzma.compress(b"text,label\na,1\nb,0\n")[:-9], r"x\.csv\.xz: damaged or truncated xz stream"),
        ("x.txt", "a", r"x\.txt: unknown kind of file; expected a name that ends in \.csv, \.tsv, \.jsonl, or"),
        ("csv", "a", r"csv: unknown kind of file"),
        ("x.gz", "a", r"x\.gz: unknown kind of file"),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 40 else value,
)
def test_what_is_wrong_is_said_and_where(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read_labelled_texts(write(tmp_path / name, content))


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_labelled_texts(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"a directory; expected .* A folder aclImdb is read by load_acl_imdb_texts"):
        read_labelled_texts(tmp_path)


def test_an_unknown_encoding_is_said(tmp_path):
    for encoding in ("utf-9", "hex"):
        with pytest.raises(DataError, match=f"received encoding='{encoding}'"):
            read_labelled_texts(table(tmp_path / "x.csv"), encoding=encoding)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "received 0 texts"),
        (["a"], [0, 1], r"received 1 texts and labels of shape \(2,\)"),
        (["a", "b"], [0.0, 1.0], "type torch.float32; expected at least one text and an int64 label"),
        (["a", " "], [0, 1], "text 1: an empty text"),
        (["a", 5], [0, 1], "text 1: 5 of type int"),
        (["a", "b"], [0, 2], "labels run from 0 to 2; expected 0 to 1"),
        (["a", "b"], [-1, 1], "labels run from -1 to 1"),
    ],
)
def test_texts_of_ones_own_are_checked(texts: Any, labels, message):
    with pytest.raises(DataError, match=message):
        LabelledTexts(texts, torch.tensor(labels), ("no", "yes"))
