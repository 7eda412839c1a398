"""Texts are classified as the rows of the data that the model was trained on."""

import gzip
import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.data.test_imdb import archive
from tests.refusal import refused
from tests.training.own_texts import reviews, small, write_table
from tests.training.small_sets import WRITERS, small_recipe
from unspool.data import DataError, MissingDataError, load_imdb, load_imdb_word_index, pad_sequences
from unspool.data.datasets import NAME_CHARACTERS, NUCLEOTIDES, encode_names, encode_nucleotides
from unspool.training import RunError, SequenceData, fit, imdb_recipe, load_module, predict, sources
from unspool.training.text_parts import load_parts

TEXTS = ["The film was superb.", "A flat, flat end; and much too long a film, too long by far!", "?"]
INDEX = {"the": 1, "film": 2, "was": 3, "fine": 4, "dull": 5, "rare": 6}


@pytest.fixture(scope="module", params=["dynamic", "static"])
def trained(request, tmp_path_factory):
    """A model of one's own texts that reads 5 words."""
    directory = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSPOOL_CACHE_DIR", str(directory / "cache"))
        path = write_table(directory / "reviews.csv", [(f"{text} Yes", label) for text, label in reviews()], ("a", "b"))
        recipe = small(path, text_column="a", label_column="b", max_length=5, execution=request.param, epochs=2)
        yield fit(recipe, directory / "run", accelerator="cpu", show=False)


def same(predictions, module, rows):
    """Assert that predictions are those of rows of a data set, one by one."""
    pad_to = module.recipe.num_steps if module.recipe.execution == "static" else None
    for prediction, (tokens, _) in zip(predictions, rows, strict=True):
        inputs, lengths = pad_sequences([tokens], pad_to=pad_to)
        with torch.inference_mode():
            best = module(inputs, lengths).softmax(-1)[0].max(-1)
        assert prediction.label == module.class_names[int(best.indices)]
        assert prediction.probability == pytest.approx(float(best.values), abs=1e-6)


def test_texts_are_classified_as_the_rows_of_the_data(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path))
    recipe = trained.recipe
    data = SequenceData(recipe)
    rows = [data.test[index] for index in range(len(data.test))]
    assert {len(tokens) for tokens, _ in rows} == {5}  # of 6
    texts = load_parts(recipe.options, recipe.held_out, recipe.limit_train, None)["test"].texts
    same(predict(trained.checkpoint, texts=texts), load_module(trained.checkpoint), rows)


def test_files_of_texts(trained, tmp_path):
    expected = predict(trained.checkpoint, texts=TEXTS)
    assert [prediction.index for prediction in expected] == [0, 1, 2]
    lines = "\ufeff" + "\r\n".join(TEXTS) + "\r\n"
    (tmp_path / "x.txt").write_bytes(lines.encode())
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"a": text}) + "\n" for text in TEXTS))
    write_table(tmp_path / "x.csv", zip(TEXTS, range(3), strict=True), ("a", "other"))
    for name in ("x.txt", "x.txt.gz", "x.jsonl", "x.csv"):
        found = predict(trained.checkpoint, tmp_path / name)
        assert {one.file for one in found} == {str(tmp_path / name)}
        assert [replace(one, file=None) for one in found] == expected
    (tmp_path / "x.tsv").write_text("words\tother\n" + "".join(f"{text}\té\n" for text in TEXTS), encoding="latin-1")
    found = predict(trained.checkpoint, tmp_path / "x.tsv", text_column="words", encoding="latin-1")
    assert [replace(one, file=None) for one in found] == expected


def test_mistakes_are_refused(trained, finished, tmp_path):
    checkpoint = trained.checkpoint
    with refused(RunError, "received neither", "--text", "--input"):
        predict(checkpoint)
    with refused(RunError, "received both", "--text", "--input"):
        predict(checkpoint, tmp_path / "x.txt", texts=["a"])
    with refused(DataError, "text 1: an empty text"):
        predict(checkpoint, texts=["a", " \n"])
    with refused(DataError, "text 0", "half a character"):
        predict(checkpoint, texts=["a\udce9"])
    with refused(DataError, "x.txt: no such file"):
        predict(checkpoint, tmp_path / "x.txt")
    (tmp_path / "x.txt").write_text("a\n\nb\n")
    with refused(DataError, "x.txt, line 2: an empty text"):
        predict(checkpoint, tmp_path / "x.txt")
    with refused(DataError, "x.csv, row 1 (line 2): no column 'a'; there are 'b'", "--text-column"):
        predict(checkpoint, write_table(tmp_path / "x.csv", [("c",)], ("b",)))
    with refused(DataError, "x.npy: unknown kind of file; expected", ".txt"):
        (tmp_path / "x.npy").touch()
        predict(checkpoint, tmp_path / "x.npy")
    with refused(RunError, "a model of sequences of numbers (vowels)", "--input"):
        predict(finished.checkpoint, texts=["a"])
    with refused(RunError, "a model of sequences of numbers (vowels)"):
        predict(finished.checkpoint, tmp_path / "x.csv", text_column="b")


@pytest.fixture
def imdb(tmp_path, monkeypatch):
    """Return what trains on reviews of up to 6 words, of which the model reads 4, and the directory of the data."""
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "load_imdb", partial(load_imdb, sha256=None))
    monkeypatch.setattr(sources, "load_imdb_word_index", partial(load_imdb_word_index, md5=None))
    archive(tmp_path / "imdb", [[1, 2, 3, 4], [1, 2, 3, 5], [4], [1, 2, 6, 1, 6, 5]] * 5, [1, 0] * 10)

    def train():
        recipe = imdb_recipe("gru", input_size=9, embedding_size=6, num_steps=4, held_out=4, batch_size=8, epochs=1)
        return fit(recipe, tmp_path / "run", data_dir=tmp_path, accelerator="cpu", show=False, overwrite=True)

    return train, tmp_path


def test_imdb_with_a_word_index(imdb):
    train, directory = imdb
    (directory / "imdb" / "imdb_word_index.json").write_text(json.dumps(INDEX))
    result = train()
    data = SequenceData(result.recipe, directory)
    rows = sources.load_imdb("train", num_words=9, maxlen=4, data_dir=directory)
    texts = ["The film was fine", "the film: was dull.", "FINE?", "The film (rare). The rare, unheard, dull!"]
    assert [rows[index][0].tolist() for index in range(4)] == [[4, 5, 6, 7], [4, 5, 6, 8], [1, 7], [2, 4, 2, 8]]
    same(predict(result.checkpoint, texts=texts), load_module(result.checkpoint), [rows[index] for index in range(4)])
    assert data.tokenizer() == load_module(result.checkpoint).tokenizer


def test_imdb_without_a_word_index(imdb):
    train, directory = imdb
    checkpoint = train().checkpoint
    with refused(RunError, "no tokenizer in this checkpoint (imdb)", "imdb_word_index.json", "train it again"):
        predict(checkpoint, texts=["The film was fine"])
    with refused(RunError, "no tokenizer in this checkpoint (imdb)"):
        predict(checkpoint, directory / "x.txt")


def test_a_missing_word_index_is_told_from_a_damaged_one(tmp_path):
    with refused(MissingDataError, "no IMDB word index in"):
        load_imdb_word_index(data_dir=tmp_path)
    (tmp_path / "imdb_word_index.json").write_text("{")
    with refused(DataError, "not the IMDB word index"):
        load_imdb_word_index(data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "execution", "classes", "texts"),
    [("names", "dynamic", 2, ["Novak", " de Berg ", "?"]), ("splice", "static", 3, ["ACGTAC", "ggtacn"])],
    ids=["names", "splice"],
)
def test_models_of_characters_need_no_tokenizer(name, classes, texts, execution, tmp_path, monkeypatch):
    WRITERS[name](monkeypatch, tmp_path)
    recipe = small_recipe(name, execution=execution, num_classes=classes)
    result = fit(recipe, tmp_path / "run", data_dir=tmp_path, accelerator="cpu", show=False)
    module = load_module(result.checkpoint)
    encode = sources.SOURCES[name].encode
    assert encode is not None
    same(predict(result.checkpoint, texts=texts), module, [(tokens, None) for tokens in encode(texts)])
    (tmp_path / "x.txt").write_text("\n".join(texts))
    assert len(predict(result.checkpoint, tmp_path / "x.txt")) == len(texts)
    if execution == "static":
        with refused(DataError, "text 0 has", f"unrolled for at most {recipe.num_steps}"):
            predict(result.checkpoint, texts=["A" * (recipe.num_steps + 1)])


def test_texts_of_characters_become_the_numbers_of_the_data():
    letters = encode_names(["Ab", " O'Neà\u4e00 "])
    assert [NAME_CHARACTERS[number - 2] for number in letters[0].tolist()] == ["A", "b"]
    assert letters[1].tolist()[-1] == 1
    assert len(letters[1]) == 6
    assert [NUCLEOTIDES[number - 1] for number in encode_nucleotides([" acgN"])[0].tolist()] == ["A", "C", "G", "N"]
    with refused(DataError, "sequence 1 has 'XZ' in it; expected letters of ACGT"):
        encode_nucleotides(["A", "zAx"])
