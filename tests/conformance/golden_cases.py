"""The golden files: what other libraries computed. `generate/golden_writer.py` describes their layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
TOLERANCES = {"float64": 1e-10, "float32": 2e-5}
"""How far a value may be off, as a share of the largest value of the array that it stands in."""


class GoldenCase(NamedTuple):
    """One call of another library: its meta, and its arrays as tensors by path."""

    meta: dict[str, Any]
    arrays: dict[str, Tensor]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all arrays."""
        return getattr(torch, self.meta["dtype"])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays below a path, under the rest of theirs, in the order of the file."""
        return {path.removeprefix(prefix): array for path, array in self.arrays.items() if path.startswith(prefix)}

    def leaf(self, path: str) -> Tensor:
        """Return a copy of an array that gradients can be taken of."""
        return self.arrays[path].clone().requires_grad_()

    def check(self, what: str, received: Tensor, expected: Tensor) -> None:
        """Compare one array, at the tolerance of its dtype."""
        assert received.shape == expected.shape, f"{what}: {list(received.shape)}, not {list(expected.shape)}"
        assert received.dtype == expected.dtype, f"{what}: {received.dtype}, not {expected.dtype}"
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        bound = TOLERANCES[self.meta["dtype"]] * largest
        error = float((received - expected).abs().max()) if expected.numel() else 0.0
        assert error <= bound, f"{what}: off by {error:.3e}; expected at most {bound:.3e}"

    def check_results(self, results: Mapping[str, Tensor]) -> None:
        """Compare outputs and final states; none may be missing."""
        cotangents = self.under("cotangent/")
        assert set(results) == set(cotangents)
        for path in cotangents:
            self.check(path, results[path].detach(), self.arrays[path])

    def check_gradients(
        self, results: Mapping[str, Tensor], leaves: Mapping[str, Tensor], expected: Mapping[str, Tensor]
    ) -> None:
        """Compare the gradients of the case's loss with respect to the leaves."""
        assert set(leaves) == set(expected)
        loss = torch.stack([(results[path] * factor).sum() for path, factor in self.under("cotangent/").items()])
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
        for (path, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            # A leaf that no real step has used has no gradient here, and zeros there.
            received = torch.zeros_like(leaf) if gradient is None else gradient
            self.check(f"gradient/{path}", received, expected[path])


def load_cases(oracle: str, groups: Mapping[str, int]) -> dict[str, GoldenCase]:
    """Load the files of an oracle, given the number of cases that each has.

    A missing file, or one of another number of cases, fails here: nothing is left out in silence.
    """
    cases = {}
    for group, count in groups.items():
        with np.load(GOLDEN / f"{oracle}_{group}.npz", allow_pickle=False) as file:
            names = [key.removesuffix("/meta") for key in file.files if key.endswith("/meta")]
            if len(names) != count:
                raise ValueError(f"{oracle}_{group}.npz has {len(names)} cases; expected {count}")
            for name in names:
                meta = json.loads(str(file[f"{name}/meta"]))
                cases[name] = GoldenCase(meta, _cut(file[f"{name}/values"], meta["arrays"]))
    return cases


def _cut(values: np.ndarray, shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Cut the flat values of a case into its arrays."""
    sizes = [int(np.prod(shape, dtype=int)) for shape in shapes.values()]
    pieces = torch.from_numpy(values).split(sizes)
    return {path: piece.view(shape) for (path, shape), piece in zip(shapes.items(), pieces, strict=True)}
