# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Keras 3's layers as plain data, with what they put out; and a `.keras` file.

Run as `python tests/conformance/generate/interop_keras3.py`; see README.md beside this file.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain kernels: the same rounding on more machines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import zipfile
from typing import Any

import keras
import numpy as np
from golden_writer import GOLDEN, Draw, GoldenFiles

L = keras.layers
VERSIONS = {"keras": keras.__version__, "numpy": np.__version__}
BATCH, STEPS, INPUTS, UNITS = 4, 6, 3, 5
SINGLE = ("lstm_leaky", "lstm_gelu", "gru", "both")
"""Layers in float32, the others in float64: TensorFlow has the constants of leaky_relu and gelu in float32 alone."""
MASKS = {"right": ["111111", "110000", "000000", "100000"], "gaps": ["101101", "011010", "000000", "000100"]}


def cells(dtype: str) -> Any:
    return L.StackedRNNCells(
        [
            L.LSTMCell(UNITS, dropout=0.25, dtype=dtype),
            L.GRUCell(2, reset_after=False, dtype=dtype),
            L.SimpleRNNCell(4, activation="relu", recurrent_dropout=0.5, dtype=dtype),
        ],
        dtype=dtype,
    )


def layers(dtype: str) -> dict[str, tuple[Any, str | None]]:
    """Every layer by name, with the mask that it is called with."""
    every = {"return_sequences": True, "return_state": True}
    before = {"reset_after": False, "recurrent_activation": "hard_sigmoid"}
    lstm = L.LSTM(UNITS, **every, dtype=dtype)
    backward = L.GRU(2, go_backwards=True, **every, dtype=dtype)
    return {
        "simple": (L.SimpleRNN(UNITS, dropout=0.25, recurrent_dropout=0.5, **every, dtype=dtype), None),
        "simple_linear": (L.SimpleRNN(UNITS, activation=None, use_bias=False, dtype=dtype), "right"),
        "lstm": (L.LSTM(UNITS, dropout=0.25, recurrent_dropout=0.5, **every, dtype=dtype), "gaps"),
        "lstm_softsign": (L.LSTM(UNITS, activation="softsign", recurrent_activation="hard_sigmoid", dtype=dtype), None),
        "lstm_leaky": (L.LSTM(UNITS, activation="leaky_relu", unroll=True, dtype=dtype), None),
        "lstm_gelu": (L.LSTM(UNITS, activation="gelu", dtype=dtype), None),
        "lstm_zero": (L.LSTM(UNITS, use_bias=False, zero_output_for_mask=True, **every, dtype=dtype), "gaps"),
        "lstm_backwards": (L.LSTM(UNITS, go_backwards=True, **every, dtype=dtype), "right"),
        "gru": (L.GRU(UNITS, return_state=True, dtype=dtype), "right"),
        "gru_no_bias": (L.GRU(UNITS, activation="elu", use_bias=False, **every, dtype=dtype), None),
        "gru_before": (L.GRU(UNITS, activation="silu", **before, **every, dtype=dtype), "gaps"),
        "gru_backwards": (L.GRU(UNITS, go_backwards=True, dtype=dtype), "gaps"),
        "rnn": (L.RNN(L.GRUCell(UNITS, dtype=dtype), **every, dtype=dtype), "gaps"),
        "stack": (L.RNN(cells(dtype), return_sequences=True, dtype=dtype), "right"),
        "stack_backwards": (L.RNN(cells(dtype), go_backwards=True, dtype=dtype), "gaps"),
        "both": (L.Bidirectional(lstm, dtype=dtype), "gaps"),
        "both_sum": (L.Bidirectional(L.GRU(UNITS, dtype=dtype), merge_mode="sum", dtype=dtype), "right"),
        "both_pair": (L.Bidirectional(lstm, merge_mode=None, backward_layer=backward, dtype=dtype), "right"),
        "both_stack": (L.Bidirectional(L.RNN(cells(dtype), dtype=dtype), merge_mode="ave", dtype=dtype), None),
    }


def evaluate(name: str, layer: Any, mask: str | None, dtype: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Draw inputs and weights, and call the layer."""
    draw = Draw(f"{name} {dtype}", dtype)
    inputs = draw.inputs((BATCH, STEPS, INPUTS))
    layer.build(inputs.shape)
    weights = [draw.weight(array.shape, UNITS) for array in layer.get_weights()]
    layer.set_weights(weights)
    rows = None if mask is None else MASKS[mask]
    live = None if rows is None else np.array([[step == "1" for step in row] for row in rows])
    results = [np.asarray(one) for one in keras.tree.flatten(layer(inputs, mask=live))]
    arrays = {"inputs": inputs, **{f"weight/{k}": array for k, array in enumerate(weights)}}
    arrays |= {f"result/{k}": array for k, array in enumerate(results)}
    return {"dtype": dtype, "mask": rows, "layer": keras.layers.serialize(layer), "versions": VERSIONS}, arrays


def model() -> Any:
    """A functional model with models and operations in it, whose layers are of many kinds."""
    words = keras.Input((STEPS,), name="words")
    encoder = keras.Sequential(
        [
            L.Embedding(7, INPUTS, mask_zero=True, name="embedding"),
            L.LSTM(UNITS, return_sequences=True, name="first"),
            L.Dropout(0.5),
            L.Bidirectional(L.GRU(2, return_sequences=True), name="both"),
        ],
        name="encoder",
    )
    x = encoder(words)
    x = keras.ops.sin(x) + 2.0 * x  # operations are no layers, but stand among them
    x = L.LSTM(UNITS, return_sequences=True, dropout=0.25, name="second")(x)
    inside = keras.Input((STEPS, UNITS))
    y = L.RNN([L.LSTMCell(2), L.GRUCell(3), L.LSTMCell(2)], return_sequences=True, name="stack")(inside)
    x = keras.Model(inside, L.LSTM(2, return_sequences=True, name="third")(y), name="decoder")(x)
    x = L.Add(name="added")([x, x])
    x = L.SimpleRNN(2, return_sequences=True, name="simple")(x)
    x = L.TimeDistributed(L.Dense(3), name="per_step")(x)
    return keras.Model(words, L.LSTM(2, name="last")(x))


def recurrent_layers(model: Any, prefix: str = "") -> dict[str, Any]:
    """The model's recurrent layers by the names that they should be found under."""
    found = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= recurrent_layers(layer, f"{prefix}{layer.name}/")
        elif isinstance(layer, L.RNN | L.Bidirectional):
            found[prefix + layer.name] = layer
    return found


def write_file(files: GoldenFiles) -> None:
    """Save the model, and what each recurrent layer in it makes of inputs of its own."""
    whole = model()
    arrays = {}
    for name, layer in recurrent_layers(whole).items():
        draw = Draw(name, "float32")
        layer.set_weights([draw.weight(array.shape, UNITS) for array in layer.get_weights()])
        width = layer.forward_layer.cell.kernel.shape[0] if name.endswith("both") else layer.get_weights()[0].shape[0]
        arrays[f"{name}/inputs"] = draw.inputs((2, STEPS, width))
        arrays[f"{name}/outputs"] = np.asarray(layer(arrays[f"{name}/inputs"]))
    path = GOLDEN / "model.keras"
    whole.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # Keras does not compress: 100 kB of gaps
        for name, content in members.items():
            archive.writestr(name, content)
    files.add("keras_file", "model", {"dtype": "float32", "versions": VERSIONS}, arrays)


def main() -> None:
    """Write the golden files."""
    files = GoldenFiles("interop")
    for dtype in ("float64", "float32"):
        for name, (layer, mask) in layers(dtype).items():
            if (dtype == "float64") != (name in SINGLE):
                files.add("keras", f"{name}_{dtype}", *evaluate(name, layer, mask, dtype))
    write_file(files)
    files.write()


if __name__ == "__main__":
    main()
