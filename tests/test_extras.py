"""Without an optional package, what needs it says which extra has it."""

from __future__ import annotations

from tests.backends.processes import run_python

PROGRAM = """
import importlib, sys, warnings

warnings.simplefilter("error")
for name in "lightning torchmetrics rich typer pooch tokenizers plotly safetensors h5py onnx polars".split():
    sys.modules[name] = None  # not installed

import unspool
from unspool import data, interop
from unspool.data import _download

layer = unspool.GRU(2, 3)
ATTEMPTS = {
    "cli": lambda: importlib.import_module("unspool.cli"),
    "training": lambda: importlib.import_module("unspool.training"),
    "report": lambda: importlib.import_module("unspool.report"),
    "save": lambda: interop.save(layer, "unspool-no-such-directory/layer.safetensors"),
    "load": lambda: interop.load("unspool-no-such-directory/layer.safetensors"),
    "onnx": lambda: unspool.export_onnx(layer, "layer.onnx"),
    "words": lambda: data.TextTokenizer.train(["a b"]),
    "tables": lambda: data.read_table("no-such-table.csv"),
    "download": lambda: _download.download("a", _download.Path("b"), (), known_hash="", called="It"),
}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
    except (ImportError, data.DataError, SystemExit) as error:
        print(f"{name}:", type(error).__name__, *str(error).split())
"""

EXPECTED = {  # what is missing first, and the extra that has it
    "cli": ("rich", "train"),
    "training": ("lightning", "train"),
    "report": ("lightning", "train"),
    "save": ("safetensors", "interop"),
    "load": ("safetensors", "interop"),
    "onnx": ("onnx", "onnx"),
    "words": ("tokenizers", "text"),
    "tables": ("polars", "data"),
    "download": ("pooch", "train"),
}


def test_what_needs_a_missing_package_names_it_and_its_extra():
    messages = dict(line.split(": ", 1) for line in run_python(PROGRAM).splitlines())
    assert messages.keys() == EXPECTED.keys()
    for name, (package, extra) in EXPECTED.items():
        assert f"needs {package}" in messages[name]
        assert messages[name].startswith("SystemExit ") == (name == "cli")  # a command ends without a traceback
        assert f"not installed. Install it with: pip install 'unspool[{extra}]'" in messages[name]
