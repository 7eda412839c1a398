import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bare_packages import bare
from tests.data.real import real_reviews
from unspool.data import DataError, TextTokenizer, load_imdb, load_imdb_word_index

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

GOLDEN = json.loads((Path(__file__).parents[1] / "conformance/golden/keras_words.json").read_text())
TEXTS = ["The cat, the dog.", "the dog b a b a", "zebra"]


def numbers(tokenizer, text):
    return tokenizer.encode(text).tolist()


def test_words_are_those_of_keras():
    tokenizer = TextTokenizer.from_word_index(GOLDEN["word_index"])
    for text, words in zip(GOLDEN["train"], GOLDEN["words"], strict=True):
        assert numbers(tokenizer, text) == [1] + [GOLDEN["word_index"][word] + 3 for word in words]
    for text, sequence in zip(GOLDEN["new"], GOLDEN["sequences"], strict=True):
        assert numbers(tokenizer, text) == [1] + [rank + 3 for rank in sequence]


def test_frequencies_are_those_of_keras_and_ties_go_by_characters():
    tokenizer = TextTokenizer.train(GOLDEN["train"])
    ordered = sorted(GOLDEN["counts"], key=lambda word: (-GOLDEN["counts"][word], word))
    same = TextTokenizer.from_word_index({word: rank for rank, word in enumerate(ordered, start=1)})
    assert tokenizer.vocabulary_size == same.vocabulary_size == len(ordered) + 4
    for text in GOLDEN["train"]:
        assert numbers(tokenizer, text) == numbers(same, text)


def test_numbering():
    tokenizer = TextTokenizer.train(TEXTS)
    # the: 3; a, b, dog: 2 each; cat, zebra: 1 each
    assert numbers(tokenizer, "THE a-b dog! cat zebra cow") == [1, 4, 5, 6, 7, 8, 9, 2]
    assert tokenizer.encode("the").dtype == torch.int64
    assert tokenizer.vocabulary_size == 10
    smaller = TextTokenizer.train(TEXTS, num_words=7)
    assert numbers(smaller, "the a b dog cat cow") == [1, 4, 5, 6, 2, 2, 2]
    assert smaller.vocabulary_size == 7
    assert numbers(smaller, "...") == [1]
    assert [row.tolist() for row in smaller.encode_batch(["the", "", "b b"])] == [[1, 4], [1], [1, 6, 6]]
    assert smaller.encode_batch([]) == []


def test_a_word_index_leaves_unknown_words_out_and_marks_rare_ones():
    index = {"the": 1, "film": 2, "rare": 3}
    assert numbers(TextTokenizer.from_word_index(index), "the unknown film, rare") == [1, 4, 5, 6]
    assert numbers(TextTokenizer.from_word_index(index, num_words=6), "the unknown film, rare") == [1, 4, 5, 2]
    assert TextTokenizer.from_word_index(index, num_words=6).vocabulary_size == 6
    assert TextTokenizer.from_word_index(index, num_words=100).vocabulary_size == 7


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_marks_cannot_be_written_in_a_text(kind):
    texts = ["[PAD] padding mark <s> start mark no-word mark out-of-vocabulary mark"] * 5
    tokenizer = TextTokenizer.train(texts, kind=kind, num_words=400)
    sequence = numbers(tokenizer, texts[0])
    assert sequence[0] == 1
    assert min(sequence[1:]) >= 4


def test_byte_pairs():
    texts = ["low lower lowest", "new newer newest"] * 5
    tokenizer = TextTokenizer.train(texts, kind="bpe", num_words=270)
    assert 260 < tokenizer.vocabulary_size <= 270
    single = TextTokenizer.train(texts, kind="bpe", num_words=260)
    short, whole = numbers(tokenizer, "lowest"), numbers(single, "lowest")
    assert len(short) < len(whole) == 7
    assert len(set(whole)) == 7
    assert numbers(tokenizer, "Low") != numbers(tokenizer, "low")
    other = numbers(tokenizer, "日本 😀 \0")
    assert len(other) == 1 + 6 + 1 + 4 + 1 + 1  # every byte of UTF-8, since none was seen
    assert min(other[1:]) >= 4
    assert max(other) < tokenizer.vocabulary_size


def test_byte_pairs_are_the_same_in_another_process():
    texts = [" ".join(f"w{a}{b}" for b in range(40)) for a in range(40)]
    program = bare("unspool", "unspool.data") + (
        "from unspool.data._tokenizer_build import byte_pairs\n"
        "print(byte_pairs(sys.stdin.read().split('|'), 396).to_str())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], input="|".join(texts), capture_output=True, text=True, check=True
    )
    here = json.loads(TextTokenizer.train(texts, kind="bpe", num_words=400).to_json())
    assert json.loads(other.stdout) == here["tokenizer"]


@pytest.mark.parametrize(
    "tokenizer",
    [
        TextTokenizer.train(TEXTS),
        TextTokenizer.train(TEXTS, num_words=7),
        TextTokenizer.train(TEXTS, kind="bpe", num_words=270),
        TextTokenizer.from_word_index({"the": 1, "film": 2, "dog": 3}, num_words=6),
    ],
    ids=["words", "some words", "bpe", "word index"],
)
def test_json_brings_it_back(tokenizer, tmp_path):
    torch.save({"tokenizer": tokenizer.to_json()}, tmp_path / "x.ckpt")
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)["tokenizer"]
    back = TextTokenizer.from_json(stored)
    assert back.to_json() == stored
    assert back.vocabulary_size == tokenizer.vocabulary_size
    for text in [*TEXTS, "the unknown film DOG é"]:
        assert numbers(back, text) == numbers(tokenizer, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "received no tokenizer of unspool"),
        ("[]", "received no tokenizer of unspool"),
        ("{}", "received no tokenizer of unspool .*'format'"),
        (
            '{"format": "2", "vocabulary_size": 5, "tokenizer": {}}',
            "of the format '2'; expected 'unspool text tokenizer",
        ),
        (
            '{"format": "unspool text tokenizer 1", "vocabulary_size": 5, "tokenizer": {}}',
            "received a damaged tokenizer",
        ),
    ],
)
def test_other_strings_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        TextTokenizer.from_json(content)


@pytest.mark.parametrize(
    ("texts", "named", "message"),
    [
        (["!"], {}, "1 texts without a word"),
        ("the cat", {}, "received one text, 'the cat'; expected a list"),
        (TEXTS, {"kind": "letters"}, "received kind='letters'"),
        (TEXTS, {"num_words": 4}, "received num_words=4; expected 5 or more"),
        (TEXTS, {"kind": "bpe"}, "received kind='bpe' and num_words=None; expected num_words from 260 on"),
        (TEXTS, {"kind": "bpe", "num_words": 259}, "num_words=259; expected num_words from 260 on"),
    ],
)
def test_bad_arguments_are_refused(texts: Any, named: Any, message):
    with pytest.raises(DataError, match=message):
        TextTokenizer.train(texts, **named)


@pytest.mark.parametrize("index", [{}, {"a": 0}, {"a": 1, "b": 1}, {"a": 1, "b": 3}, {"a": "1"}])
def test_other_word_indices_are_refused(index):
    with pytest.raises(DataError, match="each rank from 1 to the number of words once"):
        TextTokenizer.from_word_index(index)


def test_what_is_no_text_is_refused():
    tokenizer = TextTokenizer.train(TEXTS)
    for text in (5, None, "half \ud800"):
        with pytest.raises(DataError, match="no text, or half a character"):
            tokenizer.encode(text)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="received one text"):
        tokenizer.encode_batch("the cat")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"needs tokenizers.*\n.*pip install 'unspool\[text\]'"):
        TextTokenizer.train(TEXTS)


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_real_reviews_become_the_numbers_of_keras(decoded):
    directory = Path(os.environ["UNSPOOL_DATA_DIR"])
    for name in ("imdb.npz", "imdb_reviews.jsonl.xz", "imdb_word_index.json"):
        if not (directory / "imdb" / name).exists():
            pytest.skip(f"{directory} has no imdb/{name}")
    texts = real_reviews(directory).texts
    # Keras's file was made of bytes, of which only A to Z were made lower case.
    rows = [row for row in range(0, 25000, 50) if not any(c.isupper() and not c.isascii() for c in texts[row])]
    assert len(rows) > 490
    for num_words in (None, 10000):
        tokenizer = TextTokenizer.from_word_index(load_imdb_word_index(data_dir=directory), num_words=num_words)
        keras = load_imdb("train", num_words=num_words, data_dir=directory, cache_dir=decoded)
        for row, sequence in zip(rows, tokenizer.encode_batch([texts[row] for row in rows]), strict=True):
            assert torch.equal(sequence, keras[row][0])


def test_characters_are_numbered_by_frequency_and_stay_as_they_are():
    tokenizer = TextTokenizer.train(["GATTACA", "Tab\n"], kind="char")
    # A: 3, T: 3, and 1 each in the order of their codes
    assert numbers(tokenizer, "TA\nzga") == [1, 5, 4, 6, 2, 2, 9]
    again = TextTokenizer.from_json(tokenizer.to_json())
    assert numbers(again, "GATTACA") == numbers(tokenizer, "GATTACA")
    assert len(numbers(tokenizer, "ab é ")) == 6
    assert TextTokenizer.train(["GATTACA"], kind="char", num_words=6).vocabulary_size == 6
