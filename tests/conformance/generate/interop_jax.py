# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Parameter trees of Flax's cells and Haiku's cores, with what they put out.

Run as `python tests/conformance/generate/interop_jax.py` where JAX, Flax and Haiku are; see README.md beside this file.
"""

from collections.abc import Mapping
from typing import Any

import flax
import flax.linen
import haiku as hk
import jax
import numpy as np
from flax import nnx
from golden_writer import Draw, GoldenFiles

jax.config.update("jax_enable_x64", True)
VERSIONS = {"jax": jax.__version__, "flax": flax.__version__, "haiku": hk.__version__, "numpy": np.__version__}
BATCH, STEPS, INPUTS, UNITS = 2, 6, 3, 5


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree's leaves by path; names in it may have slashes themselves, so parts are divided by bars."""
    leaves = {}
    for name, value in tree.items():
        leaves |= flatten(value, f"{prefix}{name}|") if isinstance(value, Mapping) else {prefix + name: value}
    return leaves


def drawn(tree: Any, draw: Draw) -> Any:
    """The tree with drawn numbers in it."""
    return jax.tree.map(lambda leaf: jax.numpy.asarray(draw.weight(leaf.shape, UNITS)), tree)


def unroll(step: Any, carry: Any, inputs: np.ndarray) -> tuple[list[Any], Any]:
    """Call a step over time."""
    outputs = []
    for time in range(STEPS):
        carry, output = step(carry, inputs[:, time])
        outputs.append(output)
    return outputs, carry


def result(dtype: str, inputs: Any, tree: Any, outputs: list[Any], state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Meta and arrays of a case: the leaves of the state in the library's order."""
    arrays = {"inputs": inputs, **{f"params/{path}": np.asarray(leaf) for path, leaf in flatten(tree).items()}}
    arrays["outputs"] = np.stack([np.asarray(output) for output in outputs], 1)
    arrays |= {f"final_state/{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
    return {"dtype": dtype, "versions": VERSIONS}, arrays


def linen(name: str, cell: Any, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cell of flax.linen."""
    draw, key = Draw(name, dtype), jax.random.key(0)
    inputs = draw.inputs((BATCH, STEPS, INPUTS))
    carry = cell.initialize_carry(key, inputs[:, 0].shape)
    tree = drawn(cell.init(key, carry, inputs[:, 0])["params"], draw)
    outputs, state = unroll(lambda carry, x: cell.apply({"params": tree}, carry, x), carry, inputs)
    return result(dtype, inputs, tree, outputs, state)


def of_nnx(name: str, make: Any, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cell of flax.nnx."""
    draw, rngs = Draw(name, dtype), nnx.Rngs(0)
    inputs = draw.inputs((BATCH, STEPS, INPUTS))
    cell = make(INPUTS, UNITS, dtype=dtype, param_dtype=dtype, rngs=rngs)
    nnx.update(cell, drawn(nnx.state(cell, nnx.Param), draw))
    outputs, state = unroll(cell, cell.initialize_carry(inputs[:, 0].shape, rngs), inputs)
    return result(dtype, inputs, nnx.to_pure_dict(nnx.state(cell, nnx.Param)), outputs, state)


def haiku(name: str, make: Any, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Haiku core within a module."""

    def run(inputs: Any) -> Any:
        core = make()
        state = jax.tree.map(lambda leaf: leaf.astype(dtype), core.initial_state(BATCH))
        return hk.dynamic_unroll(core, inputs, state, time_major=False)

    draw = Draw(name, dtype)
    inputs = draw.inputs((BATCH, STEPS, INPUTS))
    transformed = hk.without_apply_rng(hk.transform(run))
    tree = drawn(transformed.init(jax.random.key(0), inputs), draw)
    outputs, state = transformed.apply(tree, inputs)
    return result(dtype, inputs, tree, list(np.moveaxis(np.asarray(outputs), 1, 0)), state)


def main() -> None:
    """Write the golden files."""
    files = GoldenFiles("interop")
    nn = flax.linen
    for dtype in ("float64", "float32"):
        real = {"param_dtype": dtype}
        cells = {
            "linen_lstm": nn.LSTMCell(UNITS, **real),
            "linen_optimized": nn.OptimizedLSTMCell(UNITS, **real),
            "linen_gru": nn.GRUCell(UNITS, **real),
            "linen_simple": nn.SimpleCell(UNITS, **real),
            "linen_lstm_relu": nn.LSTMCell(UNITS, activation_fn=nn.relu, gate_fn=nn.hard_sigmoid, **real),
        }
        for name, cell in cells.items():
            files.add("flax", f"{name}_{dtype}", *linen(name, cell, dtype))
        modern = {
            "lstm": nnx.LSTMCell,
            "optimized": nnx.OptimizedLSTMCell,
            "gru": nnx.GRUCell,
            "simple": nnx.SimpleCell,
        }
        for name, make in modern.items():
            files.add("flax", f"nnx_{name}_{dtype}", *of_nnx(name, make, dtype))
        cores = {
            "haiku_lstm": lambda: hk.LSTM(UNITS),
            "haiku_gru": lambda: hk.GRU(UNITS),
            "haiku_vanilla": lambda: hk.VanillaRNN(UNITS),
            "haiku_vanilla_one_bias": lambda: hk.VanillaRNN(UNITS, double_bias=False),
            "haiku_deep": lambda: hk.DeepRNN([hk.LSTM(UNITS), hk.LSTM(2), hk.GRU(4)], name="agent"),
        }
        for name, make in cores.items():
            files.add("haiku", f"{name}_{dtype}", *haiku(name, make, dtype))
    files.write()


if __name__ == "__main__":
    main()
