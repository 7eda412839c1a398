"""Tagged sentences: two formats, and what is wrong in a file is said with its line."""

from __future__ import annotations

import gzip

import pytest
import torch

from tests.training.own_sentences import tagged, write_columns, write_conllu
from unspool.data import WORD_LENGTH, DataError, TagDataset, WordEncoder, read_tagged, read_words


def test_both_formats_have_the_same_sentences(tmp_path):
    wanted = tagged(5)
    columns = read_tagged(write_columns(tmp_path / "a.tsv", wanted))
    conllu = read_tagged(write_conllu(tmp_path / "a.conllu", wanted))
    for read in (columns, conllu):
        pairs = [list(zip(words, tags, strict=True)) for words, tags in zip(read.words, read.tags, strict=True)]
        assert pairs == wanted
    assert columns.class_names == ("ADV", "AUX", "NUM", "PROPN", "PUNCT", "VERB")
    other = read_tagged(tmp_path / "a.conllu", tag_column="xpos")
    assert other.tags[0][0] == "XPROPN"
    packed = tmp_path / "a.conllu.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.conllu").read_bytes().replace(b"\n", b"\r\n")))
    assert read_tagged(packed).words == conllu.words
    assert read_words(packed) == read_words(tmp_path / "a.tsv") == conllu.words


def test_blanks_and_documents(tmp_path):
    (tmp_path / "a.bio").write_text("-DOCSTART- O\n\nAnn B-PER\nis O\n\n\n# O\n")
    assert read_tagged(tmp_path / "a.bio").words == [["Ann", "is"], ["#"]]
    (tmp_path / "a.txt").write_text("Ann is here .\n\nBo\n")
    assert read_words(tmp_path / "a.txt") == [["Ann", "is", "here", "."], ["Bo"]]


MISTAKES = {
    "three columns": ("a.tsv", b"a\tX\nb\tY\tZ\n", "line 2: 3 columns; expected two, a word and its tag"),
    "a word alone": ("a.tsv", b"a X\nb\n", "line 2: 1 columns; expected two"),
    "an empty tag": ("a.tsv", b"a\t \n", "line 1: 2 columns"),
    "not CoNLL-U": ("a.conllu", b"a\tX\n", "line 1: 2 columns; expected 10"),
    "one tag": ("a.tsv", b"a X\nb X\n", "every tag is 'X'; expected at least two"),
    "no tags": ("a.conllu", b"1\ta" + b"\t_" * 8 + b"\n", "every tag in the column upos is '_'"),
    "no text": ("a.tsv", b"\n\n", "no text"),
    "another encoding": ("a.tsv", b"caf\xe9 X\n", "0xe9, which is not utf-8"),
    "a null character": ("a.tsv", b"a X\nb\0 Y\n", "line 2: a null character"),
    "no file": ("b.tsv", None, "no such file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_with_their_place(mistake, tmp_path):
    name, content, message = MISTAKES[mistake]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_tagged(tmp_path / name)


def test_other_tags_and_columns_are_refused(tmp_path):
    path = write_columns(tmp_path / "a.tsv", tagged(3))
    with pytest.raises(DataError, match="line 1: the tag 'PROPN'; expected one of 'X', 'Y'"):
        read_tagged(path, class_names=("X", "Y"))
    with pytest.raises(DataError, match="received tag_column='form'"):
        read_tagged(path, tag_column="form")


def test_words_and_characters_have_numbers(tmp_path):
    encoder = WordEncoder.train([["The", "cat", "the"], ["cat", "ran"]], num_words=10)
    assert encoder.words == ["cat", "the"]  # what is there once is unknown
    assert encoder.vocabulary_size == 4
    assert encoder.characters == "Tacehnrt"
    rows = encoder.encode(["THE", "ran", "catz"])
    assert rows.shape == (3, 1 + WORD_LENGTH)
    assert rows[:, 0].tolist() == [3, 1, 1]
    assert rows[2, :6].tolist() == [1, 4, 3, 9, 1, 0]
    long = "c" * 8 + "x" * 20 + "t" * 8
    assert encoder.encode([long])[0, 1:].tolist() == [4] * 8 + [9] * 8
    again = WordEncoder.from_json(encoder.to_json())
    assert torch.equal(again.encode(["cat", "Z"]), encoder.encode(["cat", "Z"]))
    for damaged in ("{}", '{"format": "unspool word encoder 1", "words": [1], "characters": ""}', "x"):
        with pytest.raises(DataError, match="no word encoder"):
            WordEncoder.from_json(damaged)
    with pytest.raises(DataError, match="num_words=2; expected 3"):
        WordEncoder.train([["a"]], num_words=2)


def test_a_data_set_has_a_row_per_sentence(tmp_path):
    sentences = read_tagged(write_columns(tmp_path / "a.tsv", tagged(4)))
    rows = TagDataset(sentences, WordEncoder.train(sentences.words, num_words=50))
    inputs, targets = rows[2]
    assert inputs.shape == (len(sentences.words[2]), 1 + WORD_LENGTH)
    assert [rows.class_names[number] for number in targets[:, 0]] == sentences.tags[2]
    picked = rows.subset([2])
    assert torch.equal(picked[0][0], inputs)
    assert picked.lengths.tolist() == [len(inputs)]
