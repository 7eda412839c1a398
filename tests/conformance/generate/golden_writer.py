"""What the generators share: numbers drawn from a case's name, and the layout of a golden file.

A golden file is one compressed `.npz` without pickles, with two arrays for each case (one per array of the case
would double the size of the files):

- `<case>/meta`, JSON text: function or layer, cells and options, sizes, dtype, lengths or mask, versions, and
  `arrays`, the shape of every array by its path;
- `<case>/values`, all arrays of the case, flat, in the order of `arrays`.

| path | what it is |
| --- | --- |
| `inputs` | what went in, in the oracle's layout |
| `initial_state/<k>` | leaf k of the initial states in the oracle's order; only where given |
| `weight/<name>` | a weight under the oracle's own name and in its own layout |
| `outputs/<k>`, `final_state/<k>` | what came out |
| `cotangent/<path>` | the fixed factor of that output in the loss, sum over outputs of (output * cotangent) |
| `gradient/<path>` | the loss's gradient with respect to inputs, an initial state or a weight |
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
GRID = 256
"""Drawn numbers are multiples of 1/GRID: exact in float32 and float64, and small once compressed."""


class Draw:
    """Uniform numbers whose seed is the case's name, so that no case depends on another."""

    def __init__(self, name: str, dtype: str):
        self._generator = np.random.default_rng(zlib.crc32(name.encode()))
        self._dtype = dtype

    def uniform(self, shape: tuple[int, ...], bound: float) -> np.ndarray:
        """Multiples of 1/GRID in [-bound, bound]."""
        ticks = round(bound * GRID)
        return (self._generator.integers(-ticks, ticks + 1, shape) / GRID).astype(self._dtype)

    def inputs(self, shape: tuple[int, ...]) -> np.ndarray:
        """Inputs of a layer."""
        return self.uniform(shape, 2.0)

    def state(self, shape: tuple[int, ...]) -> np.ndarray:
        """An initial state, or a cotangent."""
        return self.uniform(shape, 1.0)

    def weight(self, shape: tuple[int, ...], hidden_size: int) -> np.ndarray:
        """A weight: matrices small enough for long sequences to stay out of saturation."""
        return self.uniform(shape, max(1.5 / hidden_size**0.5, 0.25) if len(shape) == 2 else 0.5)


class GoldenFiles:
    """Collects the arrays of many cases, one `.npz` per group."""

    def __init__(self, prefix: str):
        self._prefix = prefix
        self._groups: dict[str, dict[str, np.ndarray]] = {}

    def add(self, group: str, name: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Add one case; a name is used once in all groups."""
        if any(f"{name}/meta" in stored for stored in self._groups.values()):
            raise ValueError(f"two cases are called {name!r}")
        for path, array in arrays.items():
            if array.dtype != meta["dtype"] or not np.all(np.isfinite(array)):
                raise ValueError(f"{name}/{path} is not finite, or not of dtype {meta['dtype']}")
        shapes = {path: array.shape for path, array in arrays.items()}
        stored = self._groups.setdefault(group, {})
        stored[f"{name}/meta"] = np.array(json.dumps({"case": name, **meta, "arrays": shapes}))
        stored[f"{name}/values"] = np.concatenate([array.ravel() for array in arrays.values()])

    def write(self) -> None:
        """Write every group and say how many cases and bytes it has."""
        GOLDEN.mkdir(exist_ok=True)
        for group, stored in self._groups.items():
            path = GOLDEN / f"{self._prefix}_{group}.npz"
            np.savez_compressed(path, allow_pickle=False, **stored)  # pyright: ignore[reportArgumentType]
            cases = sum(key.endswith("/meta") for key in stored)
            print(f"{path.name}: {cases} cases, {path.stat().st_size:,} bytes")


def check_clipped(name: str, array: np.ndarray, bound: float | None) -> None:
    """Refuse a clipping case in which nothing, or everything, is clipped."""
    if bound is None:
        return
    share = float(np.mean(np.abs(array) == np.asarray(bound, array.dtype)))
    if not 0.0 < share < 1.0:
        raise ValueError(f"{name}: a share of {share} is clipped at {bound}; choose another bound")
