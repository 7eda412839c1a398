"""A file that Keras 3 has saved: every recurrent layer in it, by name."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conformance.golden_cases import GOLDEN, load_cases
from tests.refusal import refused
from unspool.interop import load_keras

MODEL = GOLDEN / "model.keras"
CASE = load_cases("interop", {"keras_file": 1})["model"]
NAMES = ["encoder/first", "encoder/both", "second", "decoder/stack", "decoder/third", "simple", "last"]
OTHERS = {"words": "InputLayer", "encoder/embedding": "Embedding", "added": "Add", "per_step": "TimeDistributed"}


def test_every_layer_is_found_and_computes_what_keras_computed():
    layers, left_out = load_keras(MODEL)
    assert list(layers) == NAMES
    assert OTHERS.items() <= left_out.items()
    for name, layer in layers.items():
        CASE.check(name, layer.eval()(CASE.arrays[f"{name}/inputs"]).detach(), CASE.arrays[f"{name}/outputs"])


def rewritten(path: Path, change) -> Path:
    """Copy the file with another configuration."""
    with zipfile.ZipFile(MODEL) as archive, zipfile.ZipFile(path, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                model = json.loads(content)
                content = json.dumps(change(model) or model).encode()
            copy.writestr(name, content)
    return path


def layer_of(model, name):
    return next(layer["config"] for layer in model["config"]["layers"] if layer["config"].get("name") == name)


def test_a_layer_that_cannot_be_converted_is_named_and_can_be_left_aside(tmp_path):
    path = rewritten(tmp_path / "m.keras", lambda model: layer_of(model, "second").update(activation="mish"))
    with refused(ValueError, "m.keras", "layer 'second'", "Keras's 'mish'"):
        load_keras(path)
    assert list(load_keras(path, names=["last"]).layers) == ["last"]
    second = load_keras(path, activations={"mish": torch.nn.functional.mish}).layers["second"]
    assert second(torch.randn(1, 2, 4)).shape == (1, 2, 5)


def test_unknown_names_and_models_are_refused(tmp_path):
    with refused(ValueError, "no recurrent layer first", "encoder/first"):
        load_keras(MODEL, names=["first"])
    path = rewritten(tmp_path / "m.keras", lambda model: model.update(class_name="MyModel"))
    with refused(ValueError, "MyModel", "expected one of Sequential, Functional", "from_keras"):
        load_keras(path)

    def another_kind(model) -> None:
        layer = next(layer for layer in model["config"]["layers"] if layer["config"].get("name") == "last")
        layer["class_name"] = "GRU"

    with refused(ValueError, "layer 'last'", "no weights at 'layers/gru/cell'"):
        load_keras(rewritten(tmp_path / "gru.keras", another_kind))


def test_weights_of_another_layer_are_refused(tmp_path):
    path = rewritten(tmp_path / "m.keras", lambda model: layer_of(model, "second").update(name="third"))
    with refused(ValueError, "'layers/lstm' are those of 'second'", "expected 'third'"):
        load_keras(path)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.keras"
    text.write_text("no archive")
    empty = tmp_path / "empty.keras"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("config.json", "{}")
    truncated = tmp_path / "truncated.keras"
    truncated.write_bytes(MODEL.read_bytes()[:1000])
    for path in (text, empty, truncated):
        with refused(ValueError, path.name, "Expected an archive of config.json and model.weights.h5"):
            load_keras(path)
    with pytest.raises(FileNotFoundError):
        load_keras(tmp_path / "none.keras")


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with refused(ImportError, "reading a .keras file needs h5py", "unspool[interop]"):
        load_keras(MODEL)


def test_the_weights_are_copies():
    first, second = (load_keras(MODEL, names=["last"]).layers["last"] for _ in range(2))
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert np.abs(next(second.parameters()).detach().numpy()).max() > 0
