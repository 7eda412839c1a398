import gzip
import json

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
    assert all(0 < prediction.probability <= 1 for prediction in predictions)
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
    assert predict(checkpoint, tmp_path / "images.npy") == from_idx
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
    with pytest.raises(RunError, match=r"received --output .*x\.txt; expected a name that ends in \.csv or \.json"):
        write_predictions(tmp_path / "x.txt", predictions)
    with pytest.raises(RunError, match=r"cannot write .*No such file"):
        write_predictions(tmp_path / "none" / "x.csv", predictions)
