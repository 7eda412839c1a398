"""One training problem that all contenders solve, and what comes out when it is solved right.

Letters: T steps, B rows, I input features, H hidden features.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unspool.comparison._errors import ComparisonError
from unspool.comparison._settings import Settings
from unspool.comparison.peers.protocol import Batch, Task, read
from unspool.comparison.peers.unspool_layer import UnspoolLayer

CHECKED = ("outputs", "inputs", "weight_ih", "weight_hh", "bias_ih")
TOLERANCE = 1e-4
"""Of the largest value."""


def spread_lengths(steps: int, batch: int) -> Tensor:
    """Return int64 (B,): from 15 % to 100 % of T in equal distances, in a random order that is always the same.

    Parameters
    ----------
    steps, batch : int
        T and B.
    """
    even = torch.linspace(0.15 * steps, steps, batch).round().long().clamp(min=1)
    return even[torch.randperm(batch, generator=torch.Generator().manual_seed(7))]


class Problem:
    """Weights, a batch of sequences, and outputs and gradients by the reference backend.

    Parameters
    ----------
    settings : Settings
    steps : int
        T.
    folder : Path
        Where the arrays are kept for peers to read.

    Attributes
    ----------
    steps : int
    file : Path
        A NumPy archive, as `peers.protocol.read` reads it.
    task : dict
        What is to be built, but for the variant.
    expected : dict of str to array
        The right outputs, zero for padding, and gradients.
    """

    def __init__(self, settings: Settings, steps: int, folder: Path) -> None:
        self.steps = steps
        size, width, hidden = settings.batch, settings.input_size, settings.hidden_size
        bound = hidden**-0.5
        generator = np.random.default_rng(settings.seed)
        shapes = {
            "weight_ih": (4 * hidden, width),
            "weight_hh": (4 * hidden, hidden),
            "bias_ih": (4 * hidden,),
            "bias_hh": (4 * hidden,),
        }
        weights = {name: generator.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}
        inputs = generator.standard_normal((steps, size, width), np.float32)
        grad = generator.standard_normal((steps, size, hidden), np.float32)
        self.file = folder / f"problem-{steps}.npz"
        lengths = spread_lengths(steps, size)[None].numpy()
        np.savez(self.file, allow_pickle=False, **weights, inputs=inputs, lengths=lengths, grad=grad)
        self.task = {"cell": "LSTM", "ragged": True, "training": True}
        _, (batch,) = read(self.file)
        self._mask = batch.mask[:, :, None]
        self.expected = _reference(Task(**self.task, variant="reference", weights=weights, steps=steps), batch)

    def error_of(self, answer: Path) -> float:
        """Return the largest difference of a contender's numbers, each relative to the largest value of its kind.

        Parameters
        ----------
        answer : Path
            The archive that the contender has written.

        Raises
        ------
        ComparisonError
            If the numbers are wrong, or there are none.
        """
        try:
            with np.load(answer, allow_pickle=False) as file:
                found = {name: file[f"0 {name}"] for name in CHECKED}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ComparisonError(f"its numbers cannot be read ({error})") from error
        worst = 0.0
        for name, value in found.items():
            want = self.expected[name]
            if value.shape != want.shape:
                raise ComparisonError(f"wrong numbers: {name} of shape {value.shape}, expected {want.shape}")
            value = np.where(self._mask, value, 0) if name == "outputs" else value
            scale = float(np.abs(want).max()) or 1.0  # one step has no gradient of the recurrent weights
            error = float(np.abs(value - want).max()) / scale
            if not error <= TOLERANCE:  # also where it is not a number
                what = name if name == "outputs" else f"the gradient of {name}"
                raise ComparisonError(f"wrong numbers: {what} is off by {error:.1e} of its largest value")
            worst = max(worst, error)
        return worst


def _reference(task: Task, batch: Batch) -> dict[str, np.ndarray]:
    """Solve a problem with the reference backend."""
    layer = UnspoolLayer(task)
    placed = layer.place(batch)
    layer.build(placed)
    with torch.enable_grad():
        return layer.results(layer.run(placed))
