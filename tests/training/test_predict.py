import gzip
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.test_mnist import make_small
from tests.training.conftest import tiny
from unspool.data import DataError, load_japanese_vowels
from unspool.training import Prediction, RunError, evaluate, fit, mnist_recipe, predict
from unspool.training.tables import write_predictions


@pytest.fixture(scope="session")
def unrolled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unrolled")
    fit(tiny(execution="static", epochs=1), directory, accelerator="cpu", show=False)
    return directory / "best.ckpt"


def write_jsonl(path, sequences):
    path.write_text("".join(json.dumps(sequence.tolist()) + "\n" for sequence in sequences))
    return path


def test_the_test_utterances_are_classified_as_in_the_evaluation(finished, tmp_path):
    checkpoint = finished.directory / "best.ckpt"
    test = load_japanese_vowels("test")
    predictions = predict(checkpoint, write_jsonl(tmp_path / "test.jsonl", test.sequences))
    assert [prediction.index for prediction in predictions] == list(range(370))
    assert all(0 < (prediction.probability or 0) <= 1 for prediction in predictions)
    confusion = np.zeros((9, 9), int)
    for label, prediction in zip(test.labels.tolist(), predictions, strict=True):
        confusion[label, test.class_names.index(prediction.label)] += 1
    assert confusion.tolist() == evaluate(checkpoint, accelerator="cpu").confusion


def test_a_static_model_takes_what_fits(finished, unrolled, tmp_path):
    short = write_jsonl(tmp_path / "short.jsonl", [np.zeros((3, 12)), np.zeros((29, 12))])
    assert len(predict(unrolled, short)) == 2
    long = write_jsonl(tmp_path / "long.jsonl", [np.zeros((30, 12))])
    assert len(predict(finished.directory / "best.ckpt", long)) == 1
    with pytest.raises(DataError, match=r"sequence 0 has 30 steps; this model is unrolled for at most 29\. Shorten"):
        predict(unrolled, long)


def test_another_number_of_channels_is_refused(finished, tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [np.zeros((3, 12)), np.zeros((5, 4))])
    with pytest.raises(DataError, match=r"sequence 1 has 4 values a step \(5 steps\); .* \(vowels, gru\) expects 12"):
        predict(finished.directory / "best.ckpt", path)


def test_images_are_classified_from_idx_and_npy(tmp_path, monkeypatch):
    directory = make_small(monkeypatch, tmp_path / "data", train=20, test=10)
    recipe = mnist_recipe("simple_rnn", epochs=1, batch_size=10, held_out=10, threads=1)
    fit(recipe, tmp_path / "run", data_dir=directory, accelerator="cpu", show=False)
    checkpoint = tmp_path / "run" / "best.ckpt"
    source = directory / "t10k-images-idx3-ubyte.gz"
    from_idx = predict(checkpoint, source)
    assert len(from_idx) == 10
    images = np.frombuffer(gzip.decompress(source.read_bytes()), np.uint8, offset=16).reshape(10, 28, 28)
    np.save(tmp_path / "images.npy", images.astype(np.float32))
    both = predict(checkpoint, [source, tmp_path / "images.npy"])
    assert both[:10] == from_idx
    assert [replace(one, file=str(source)) for one in both[10:]] == from_idx
    np.save(tmp_path / "images.npy", images / 255)
    with pytest.raises(DataError, match=r"no pixel is above 1; expected pixels from 0 to 255"):
        predict(checkpoint, tmp_path / "images.npy")
    np.save(tmp_path / "images.npy", images.astype(np.float32) - 300)
    with pytest.raises(DataError, match=r"sequence 0 has values from -300 to .*; expected pixels from 0 to 255"):
        predict(checkpoint, tmp_path / "images.npy")


def test_predictions_are_written_as_csv_and_json(tmp_path):
    predictions = [Prediction(0, "3", 0.75), Prediction(1, "9", 0.5)]
    write_predictions(tmp_path / "x.csv", predictions)
    assert (tmp_path / "x.csv").read_text() == "index,label,probability\n0,3,0.75\n1,9,0.5\n"
    write_predictions(tmp_path / "x.json", predictions)
    assert json.loads((tmp_path / "x.json").read_text())[1] == {"index": 1, "label": "9", "probability": 0.5}
    with pytest.raises(RunError, match=r"received --output .*x\.txt; expected .* \.csv, \.parquet or \.json"):
        write_predictions(tmp_path / "x.txt", predictions)
    for name in ("x.csv", "x.json", "x.parquet"):
        with pytest.raises(RunError, match=r"cannot write .*No such file"):
            write_predictions(tmp_path / "none" / name, predictions)


def test_all_probabilities_are_written_and_only_what_users_wrote_is_escaped(tmp_path):
    shares = {"=1+1": 0.75, "b": 0.25}
    predictions = [
        Prediction(0, "=1+1", 0.75, shares, "@x.csv", 0, "-"),
        Prediction(1, "b", 0.5, {"b": 0.5, "-2": 0.5}, "y.csv", 3, "\uff1dA1"),
    ]
    write_predictions(tmp_path / "x.csv", predictions)
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == (
        "file,index,step,word,label,probability,p_=1+1,p_b,p_-2\n"
        "'@x.csv,0,0,'-,'=1+1,0.75,0.75,0.25,\n"
        "y.csv,1,3,'\uff1dA1,b,0.5,,0.5,0.5\n"
    )
    write_predictions(tmp_path / "x.json", predictions)
    first = json.loads((tmp_path / "x.json").read_text())[0]
    assert first["probabilities"] == shares
    assert (first["file"], first["step"], first["word"]) == ("@x.csv", 0, "-")


def test_parquet_is_polars(tmp_path, monkeypatch):
    predictions = [Prediction(0, "a", 0.75, {"a": 0.75, "b": 0.25}, "x.csv")]
    monkeypatch.setitem(sys.modules, "polars", None)  # not installed
    with pytest.raises(RunError, match="writing Parquet needs polars, which is not installed"):
        write_predictions(tmp_path / "x.parquet", predictions)
    assert list(tmp_path.iterdir()) == []
    given = {}

    def data_frame(columns):
        given.update(columns)
        return SimpleNamespace(write_parquet=lambda file: file.write(b"PAR1"))

    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=data_frame))
    write_predictions(tmp_path / "x.parquet", predictions)
    assert (tmp_path / "x.parquet").read_bytes() == b"PAR1"
    names = ("file", "index", "label", "probability", "p_a", "p_b")
    assert given == dict(zip(names, [["x.csv"], [0], ["a"], [0.75], [0.75], [0.25]], strict=True))
