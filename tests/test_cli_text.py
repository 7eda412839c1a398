"""The commands for texts: what they print, and what they say to each mistake."""

import csv
import gzip
import json
from functools import partial

import pytest

from tests.data.test_imdb import archive
from tests.test_cli import run, words
from tests.training.own_texts import reviews, write_table
from unspool.data import load_imdb
from unspool.training import sources

QUICK = ["--epochs", "1", "--batch-size", "8", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)
    return tmp_path


def trained(place, *options):
    write_table(place / "my reviews.csv", reviews(), ("review", "stars"))
    command = ["train", "text", "--data", "my reviews.csv", "--text-column", "review", "--label-column", "stars"]
    run(*command, *QUICK, *options)
    return command, place / "runs" / "text-my reviews-gru-dynamic-ragged-seed0" / "best.ckpt"


def test_help_names_the_options():
    text = words(run("train", "text", "--help").stdout)
    for part in ("--data", "--text-column", "--label-column", "--test", "--encoding", "--tokenizer", "--num-words"):
        assert part in text
    assert "--data-dir" not in text
    text = words(run("predict", "--help").stdout)
    for part in ("--text", "--text-column", "--input", "--encoding"):
        assert part in text


def test_train_evaluate_and_predict(place):
    command, checkpoint = trained(place)
    assert "on 6 sequences" in run("evaluate", checkpoint, "--accelerator", "cpu").stdout
    table = words(run("predict", checkpoint, "--text", "The film was fine.", "--text", "A flat end").stdout)
    assert "probability 0 " in table
    write_table(place / "new.csv", [("The film was fine.",), ("A flat end",)], ("review",))
    run("predict", checkpoint, "--input", "new.csv", "--output", "new-classes.csv")
    with (place / "new-classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        assert row["label"] in ("good", "bad")
        assert f"{row['index']} {row['label']} {float(row['probability']):.4f}" in table
    (place / "elsewhere").mkdir()
    (place / "my reviews.csv").rename(place / "elsewhere" / "my reviews.csv")
    moved = run("evaluate", checkpoint, "--data-dir", place / "elsewhere", "--accelerator", "cpu")
    assert "on 6 sequences" in moved.stdout
    write_table(place / "my reviews.csv", reviews()[1:], ("review", "stars"))
    outcome = run(*command, *QUICK, "--resume", code=2)
    assert outcome.stderr.startswith(f"error: {place / 'my reviews.csv'} has changed since the run in ")


def test_names_of_classes_are_printed_as_they_are(place):
    classes = {"a": "[red]κακό", "b": ":ok: 良い"}
    rows = [(f"{word} {number}", label) for word, label in classes.items() for number in range(4)]
    write_table(place / "x.csv", rows)
    run("train", "text", "--data", "x.csv", *QUICK)
    output = run("evaluate", "runs/text-x-gru-dynamic-ragged-seed0/best.ckpt", "--accelerator", "cpu").stdout
    assert "[red]κακό" in output
    assert ":ok: 良い" in output
    predicted = run("predict", "runs/text-x-gru-dynamic-ragged-seed0/best.ckpt", "--text", "a").stdout
    assert "[red]κακό" in predicted or ":ok: 良い" in predicted


GOOD = "".join(f"text {number},{'yn'[number % 2]}\n" for number in range(20))
TABLE = f"text,label\n{GOOD}"

MISTAKES = {
    "no file": (None, [], "x.csv: no such file"),
    "a directory": ("directory", [], "x.csv: a directory; expected a name that ends in .csv"),
    "no such column": (TABLE, ["--text-column", "review"], "no column 'review'; there are 'text', 'label'"),
    "no such label column": (TABLE, ["--label-column", "stars"], "no column 'stars'; there are 'text', 'label'"),
    "another encoding": (TABLE.encode() + b"caf\xe9,y\n", [], "0xe9, which is not utf-8"),
    "no encoding of this name": (TABLE, ["--encoding", "utf-7000"], "received encoding='utf-7000'"),
    "UTF-16": (TABLE.encode("utf-16"), [], "byte 0 of the file is 0xff, which is not utf-8"),
    "an empty text": (f"{TABLE} ,y\n", [], "row 21 (line 22): an empty text"),
    "no label": (f"{TABLE}more,\n", [], "no label in the column 'label'"),
    "one class": ("text,label\na,y\nb,y\nc,y\n", [], "every label in the column 'label' is 'y'"),
    "no rows": ("text,label\n", [], "no rows"),
    "an empty file": ("", [], "no rows"),
    "an open quote": (f'{TABLE}"more,y\n', [], "damaged quotes"),
    "too few texts": ("text,label\na,y\nb,y\nc,n\n", [], "too few different texts of the class 'n': 1; expected 3"),
    "no words": ("text,label\n" + "".join(f"{'!' * n},{'yn'[n % 2]}\n" for n in range(1, 9)), [], "without a word"),
    "bpe with few pieces": (TABLE, ["--tokenizer", "bpe", "--num-words", "100"], "num_words from 260 on"),
    "a test file with another label": (TABLE, ["--test", "test.csv"], "the label 'z'; expected one of 'n', 'y'"),
    "a test file that is missing": (TABLE, ["--test", "none.csv"], "none.csv: no such file"),
    "another kind of device": (TABLE, ["--accelerator", "tpus"], "accelerator=tpus"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_training_get_one_message_and_leave_nothing(mistake, place):
    content, options, message = MISTAKES[mistake]
    if content == "directory":
        (place / "x.csv").mkdir()
    elif content is not None:
        (place / "x.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (place / "test.csv").write_text("text,label\na,z\n")
    refused(run("train", "text", "--data", "x.csv", *options, code=2), message)
    assert not (place / "runs").exists()
    assert mistake == "another kind of device" or not (place / "cache").exists()


def refused(outcome, message):
    assert outcome.stderr.startswith("error: ")
    assert message in outcome.stderr
    assert outcome.stderr.count("error: ") == 1
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("ending", [".csv.gz", ".jsonl.gz", ".tsv.gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_stream(ending, share, place):
    content = gzip.compress(TABLE.encode())
    (place / f"x{ending}").write_bytes(content[: int(len(content) * share)])
    refused(run("train", "text", "--data", f"x{ending}", code=2), "damaged or truncated gzip stream")
    assert [path.name for path in place.iterdir()] == [f"x{ending}"]


def test_mistakes_in_predicting_get_one_message(place):
    _, checkpoint = trained(place)
    (place / "x.txt").write_text("a\n\nb\n")
    (place / "latin.txt").write_bytes(b"caf\xe9\n")
    for options, message in [
        ([], "received neither; expected either --text"),
        (["--text", "a", "--input", "x.txt"], "received both of them; expected either --text"),
        (["--text", ""], "text 0: an empty text"),
        (["--text", "a", "--text", " "], "text 1: an empty text"),
        (["--input", "x.txt"], "x.txt, line 2: an empty text"),
        (["--input", "none.txt"], "none.txt: no such file"),
        (["--input", "latin.txt"], "latin.txt, line 1: byte 3 of the file is 0xe9"),
        (["--input", "my reviews.csv", "--text-column", "title"], "no column 'title'"),
        (["--text", "a", "--output", "x.doc"], "ends in .csv, .parquet or .json"),
    ]:
        refused(run("predict", checkpoint, *options, code=2), message)
    assert not (place / "x.doc").exists()


def test_texts_for_a_model_of_others(place):
    run("train", "vowels", "--hidden-size", "4", "--limit-train", "18", *QUICK, "--output-dir", "vowels")
    outcome = run("predict", "vowels/last.ckpt", "--text", "a fine film", code=2)
    refused(outcome, "a model of sequences of numbers (vowels), which has no use for texts; pass --input FILE")


def damage_checksum(path):
    path.write_bytes(path.read_bytes() + b" ")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMDB_MISTAKES = {
    "no archive": ({}, "imdb.npz", lambda path: path.unlink(), "no IMDB in"),
    "another checksum": ({}, "imdb.npz", damage_checksum, "not the IMDB archive: it has sha256"),
    "a truncated archive": ({"sha256": None}, "imdb.npz", truncate, "damaged or truncated archive"),
    "an empty archive": ({"sha256": None}, "imdb.npz", lambda path: path.write_bytes(b""), "damaged or truncated"),
    "a damaged word index": ({"sha256": None}, "imdb_word_index.json", truncate, "not the IMDB word index"),
}


@pytest.mark.parametrize("where", ["directory", "cache"])
@pytest.mark.parametrize("mistake", IMDB_MISTAKES)
def test_mistakes_in_imdb_get_one_message_and_leave_nothing(mistake, where, place, monkeypatch):
    named, file, damage, message = IMDB_MISTAKES[mistake]
    folder = place / ("data" if where == "directory" else "cache") / "imdb"
    archive(folder)
    (folder / "imdb_word_index.json").write_text(json.dumps({"the": 1, "film": 2}))
    damage(folder / file)
    # Without a network: what is not in the cache cannot be downloaded.
    monkeypatch.setattr(sources, "load_imdb", partial(load_imdb, mirrors=(), **named))
    monkeypatch.setattr(sources, "load_imdb_word_index", partial(sources.load_imdb_word_index, mirrors=()))
    if "word index" not in mistake:
        (folder / "imdb_word_index.json").unlink()
    before = sorted(path.name for path in folder.iterdir())
    options = ["--data-dir", "data"] if where == "directory" else []
    if mistake == "no archive" and where == "cache":
        message = "imdb.npz cannot be downloaded" if not named else "no such file"
    refused(run("train", "imdb", *options, code=2), message)
    assert not (place / "runs").exists()
    assert sorted(path.name for path in folder.iterdir()) == before
    assert where == "cache" or not (place / "cache").exists()
