"""A file that Keras 3 has saved: every recurrent layer in it, by name."""

import io
import json
import zipfile
from pathlib import Path

import h5py
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
        with refused(ValueError, path.name, "expected an archive of config.json and model.weights.h5"):
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


def with_weights(path: Path, change) -> Path:
    """Copy the file with a change to its weights: `change` gets the open HDF5 file."""
    with zipfile.ZipFile(MODEL) as archive:
        config, weights = archive.read("config.json"), io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r+") as file:
        change(file)
    with zipfile.ZipFile(path, "w") as copy:
        copy.writestr("config.json", config)
        copy.writestr("model.weights.h5", weights.getvalue())
    return path


KERNEL = "layers/lstm/cell/vars/0"


def placed(make):
    """Return a change that puts another item of the same shape in the place of a kernel."""

    def change(file) -> None:
        shape = file[KERNEL].shape
        del file[KERNEL]
        make(file, shape)

    return change


def test_weights_in_other_files_are_never_read(tmp_path):
    """A file that is handed on would carry what it read from this machine."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(256)) * 40)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((4, 20), np.float32)
        file["vars"] = np.ones(3)

    def external(file, shape) -> None:
        file.create_dataset(KERNEL, shape, np.float32, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(file, shape) -> None:
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "kernel", shape)
        file.create_virtual_dataset(KERNEL, layout)

    def external_link(file, shape) -> None:
        file[KERNEL] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "kernel")

    def soft_link(file, shape) -> None:
        file[KERNEL] = h5py.SoftLink("/layers/lstm_1/cell/vars/0")

    def link_of_a_group(file) -> None:
        del file["layers/lstm/cell/vars"]
        file["layers/lstm/cell/vars"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "vars")

    path = tmp_path / "m.keras"
    for change, said in {
        placed(external): "lies in another file",
        placed(virtual): "lies in another file",
        placed(external_link): "is a link to",
        placed(soft_link): "is a link to",
        link_of_a_group: "is a link to",
    }.items():
        with refused(ValueError, "m.keras", "layer 'second'", said, "Do not trust this file"):
            load_keras(with_weights(path, change))


def test_what_says_that_it_is_huge_is_refused_before_it_is_made(tmp_path):
    def claim(file, shape) -> None:
        file.create_dataset(KERNEL, (3_000_000, 4_000_000), np.float32, chunks=(1, 1000))

    def chunk(file, shape) -> None:
        file.create_dataset(KERNEL, shape, np.float32, maxshape=(None, None), chunks=(30_000, 30_000))

    def many(file) -> None:
        for index in range(4, 300):
            file[f"layers/lstm/cell/vars/{index}"] = np.zeros(1)

    path = tmp_path / "m.keras"
    for change, said in {
        placed(claim): "48,000,00",
        placed(chunk): "3,600,00",
        many: "there are 299 arrays",
    }.items():
        with refused(ValueError, "m.keras", "layer 'second'", said):
            load_keras(with_weights(path, change))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w") as member:
            for _ in range(65):
                member.write(bytes(1 << 20))
    with refused(ValueError, "m.keras", "68,157,442 bytes in a file of", "at most 64 times"):
        load_keras(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("config.json", "{}")
    with refused(ValueError, "m.keras", "is packed by the method 14; expected deflate"):
        load_keras(path)
