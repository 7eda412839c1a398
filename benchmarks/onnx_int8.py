"""Files of `export_onnx` in float and in int8: size, difference from the model, time in ONNX Runtime on one thread.

Run with ``python -m benchmarks.onnx_int8``. Times are the best of some calls, in microseconds per step.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

import unspool as us

INPUT, HIDDEN, LAYERS, STEPS = 64, 256, 2, 50


def per_step(path: Path, batch: int) -> float:
    """Return how long a step takes in a file of one step, or of whole sequences of so many, in microseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    engine = onnxruntime.InferenceSession(str(path), options)
    sizes: dict[Any, int] = {"batch": batch, "steps": STEPS}
    inputs: dict[str, np.ndarray] = {}
    for given in engine.get_inputs():
        shape: list[Any] = [sizes.get(axis, axis) for axis in given.shape]
        drawn = np.random.default_rng(0).normal(size=shape).astype("f")
        inputs[given.name] = np.full(batch, STEPS) if given.name == "lengths" else drawn
    steps = STEPS if "lengths" in inputs else 1
    calls = 2000 // steps
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        engine.run(None, inputs)
        best = min(best, time.perf_counter() - start)
    return best / steps * 1e6


def main() -> None:
    """Measure LSTM, GRU and SimpleRNN."""
    print(f"{LAYERS} layers of {HIDDEN} units; inputs of {INPUT}; whole sequences of {STEPS} steps")
    print(f"{'':<10}{'':<10}{'':<7}{'kB':>7}{'difference':>12}{'1 sequence':>12}{'8 sequences':>13}")
    kinds: list[Any] = [us.LSTM, us.GRU, us.SimpleRNN]
    with TemporaryDirectory() as folder:
        for kind in kinds:
            layer = kind(INPUT, HIDDEN, num_layers=LAYERS, batch_first=True)
            for streaming in (False, True):
                for int8 in (False, True):
                    file = us.export_onnx(layer, Path(folder, "a.onnx"), streaming=streaming, int8=int8)
                    name, form = "one step" if streaming else "whole", "int8" if int8 else "float"
                    times = [per_step(file.path, batch) for batch in (1, 8)]
                    figures = f"{file.size / 1e3:>7,.0f}{file.difference:>12.1g}{times[0]:>12.0f}{times[1]:>13.0f}"
                    print(f"{kind.__name__:<10}{name:<10}{form:<7}{figures}", flush=True)


if __name__ == "__main__":
    main()
