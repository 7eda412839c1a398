# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Variables of trained TensorFlow 1 graphs under their own names, with what the graphs put out; and a checkpoint.

Run as `python tests/conformance/generate/interop_tensorflow1.py`; see README.md beside this file.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # rnn_cell.* live in tf_keras since TensorFlow 2.16
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain kernels: the same rounding on more machines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from golden_writer import GOLDEN, Draw, GoldenFiles

v1 = tf.compat.v1
v1.disable_eager_execution()
v1.logging.set_verbosity(v1.logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)  # every cell warns that it is deprecated

VERSIONS = {"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__, "numpy": np.__version__}
BATCH, STEPS, INPUTS, UNITS = 4, 6, 3, 5
LENGTHS = [6, 2, 0, 1]
rnn = v1.nn.rnn_cell


def lstm(**options: Any) -> Any:
    return rnn.LSTMCell(UNITS, **options)


def deep() -> Any:
    """Twelve layers: `cell_10` comes after `cell_9`."""
    return rnn.MultiRNNCell([rnn.BasicLSTMCell(2) for _ in range(12)])


ONE: dict[str, Callable[[], Any]] = {
    "rnn": lambda: rnn.BasicRNNCell(UNITS),
    "basic_lstm": lambda: rnn.BasicLSTMCell(UNITS),
    "lstm_forget_bias_0": lambda: lstm(forget_bias=0.0),
    "lstm_peephole": lambda: lstm(use_peepholes=True, cell_clip=0.3),
    "lstm_projected": lambda: lstm(num_proj=2, proj_clip=0.2),
    "gru": lambda: rnn.GRUCell(UNITS),
    "mixed": lambda: rnn.MultiRNNCell([rnn.GRUCell(2), lstm(num_proj=4), rnn.BasicRNNCell(3)]),
    "deep": deep,
}


def train(outputs: Any) -> Any:
    """An operation of Adam, whose slots stand among the variables of real checkpoints."""
    return v1.train.AdamOptimizer().minimize(tf.reduce_sum(outputs))


def run(name: str, dtype: str, build: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Build a graph, give its variables drawn values, and run it."""
    with tf.Graph().as_default(), v1.Session() as session:
        draw = Draw(name, dtype)
        inputs = draw.inputs((BATCH, STEPS, INPUTS))
        outputs, states = build(tf.constant(inputs))
        train(tf.concat(tf.nest.flatten(outputs), -1))
        session.run(v1.global_variables_initializer())
        for variable in v1.trainable_variables():
            variable.load(draw.weight(tuple(variable.shape), UNITS), session)
        variables = {v.name: session.run(v) for v in v1.global_variables() if v.dtype.base_dtype.name == dtype}
        results = session.run(tf.nest.flatten(outputs) + tf.nest.flatten(states))
        if name == "bidirectional" and dtype == "float32":
            v1.train.Saver().save(session, str(GOLDEN / "tensorflow1.ckpt"), write_meta_graph=False, write_state=False)
    arrays = {"inputs": inputs, **{f"variable/{name}": array for name, array in variables.items()}}
    arrays |= {f"result/{k}": array for k, array in enumerate(results)}
    return {"dtype": dtype, "lengths": LENGTHS, "versions": VERSIONS}, arrays


def dynamic(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """`dynamic_rnn` of a cell."""
    return lambda inputs: v1.nn.dynamic_rnn(make(), inputs, LENGTHS, dtype=inputs.dtype)


def bidirectional(inputs: Any) -> Any:
    """`bidirectional_dynamic_rnn` of two kinds of cells."""
    cells = lstm(use_peepholes=True), rnn.GRUCell(2)
    return v1.nn.bidirectional_dynamic_rnn(*cells, inputs, LENGTHS, dtype=inputs.dtype)


def main() -> None:
    """Write the golden files."""
    files = GoldenFiles("interop")
    for dtype in ("float64", "float32"):
        for name, make in ONE.items():
            if dtype == "float64" or name in ("lstm_peephole", "gru"):
                files.add("tensorflow1", f"{name}_{dtype}", *run(name, dtype, dynamic(make)))
        files.add("tensorflow1", f"bidirectional_{dtype}", *run("bidirectional", dtype, bidirectional))
    files.write()


if __name__ == "__main__":
    main()
