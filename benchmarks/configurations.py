"""What is measured: shapes, cells, lengths, modes and the floors that each case is held against.

Letters: B rows, T steps, I input features, H hidden features, N real tokens, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

import unspool as us
from benchmarks.cells import LayerNormLSTMCell, MinimalGatedCell, PlainLSTMCell

Lengths = Literal["full", "ragged"]
Mode = Literal["forward", "train"]


@dataclass(frozen=True)
class Shape:
    """The shape of a batch.

    Attributes
    ----------
    name : str
    batch, steps, inputs, hidden : int
        B, T, I and H.
    """

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int

    def lengths(self, kind: Lengths) -> Tensor:
        """Return `[B]`: T for all rows, or from 15 % to 100 % of T in a random order that is always the same."""
        if kind == "full":
            return torch.full((self.batch,), self.steps)
        spread = torch.linspace(0.15 * self.steps, self.steps, self.batch).round().long().clamp(min=1)
        return spread[torch.randperm(self.batch, generator=torch.Generator().manual_seed(7))]


@dataclass(frozen=True)
class Kind:
    """A cell with its rival.

    Attributes
    ----------
    name : str
    gates : int
        G, the number of `[I + H, H]` products in a step.
    ours : callable (I, H, backend) -> Module
        The layer, time-major.
    torch_layer : callable (I, H) -> Module, optional
        The same layer of PyTorch, with the same state dict. None for cells that PyTorch does not have.
    builtin : callable (I, H, backend) -> Module, optional
        Our own layer with the same products, for a cell that a user has written.
    """

    name: str
    gates: int
    ours: Callable[[int, int, str], nn.Module]
    torch_layer: Callable[[int, int], nn.Module] | None = None
    builtin: Callable[[int, int, str], nn.Module] | None = None

    @property
    def is_builtin(self) -> bool:
        """Tell whether PyTorch has the cell too."""
        return self.torch_layer is not None


@dataclass(frozen=True)
class Target:
    """A floor (`at_least`) or a ceiling for one measured quantity.

    Attributes
    ----------
    quantity : str
        `"ratio"`, `"peak"` (a share), `"us_per_step"` or `"over_builtin"`.
    bound : float
    at_least : bool
    """

    quantity: str
    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Tell whether a value keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        text = {
            "ratio": f"{self.bound:g}x",
            "peak": f"{self.bound:.0%} of peak",
            "us_per_step": f"{self.bound:g} µs a step",
            "over_builtin": f"{self.bound:g}x the built-in's time",
        }
        return f"{sign} {text[self.quantity]}"


@dataclass(frozen=True)
class Case:
    """One row of the results."""

    shape: Shape
    kind: Kind
    lengths: Lengths
    mode: Mode

    @property
    def name(self) -> str:
        """Return the case in words."""
        return f"{self.shape.name} {self.kind.name} {self.lengths} {self.mode}"

    @property
    def tokens(self) -> int:
        """Return N."""
        return int(self.shape.lengths(self.lengths).sum())

    @property
    def gflop(self) -> float:
        """Return the work on real tokens in 10^9 operations: products only, three times as many for training."""
        shape = self.shape
        forward = 2 * self.tokens * (shape.inputs + shape.hidden) * self.kind.gates * shape.hidden
        return forward * (3 if self.mode == "train" else 1) / 1e9

    def shortened(self, steps: int) -> Case:
        """Return the same case with at most so many steps."""
        return replace(self, shape=replace(self.shape, steps=min(steps, self.shape.steps)))

    @property
    def targets(self) -> tuple[Target, ...]:
        """Return what the case is held against."""
        shape, kind, found = self.shape, self.kind, []
        if not kind.is_builtin:
            if self.mode == "train" and self.lengths == "ragged" and shape.batch > 1 and shape.steps >= 200:
                found.append(Target("ratio", 8.0))
            if kind.builtin is not None:
                found.append(Target("over_builtin", 1.25, at_least=False))
            return tuple(found)
        if shape.batch == 1:
            if kind.gates > 1 and self.mode == "forward":
                found.append(Target("us_per_step", 60.0 if shape.steps == 1 else 15.0, at_least=False))
            return tuple(found)
        if self.mode == "train":
            full, ragged = TRAIN_RATIOS[kind.name, shape.name]
            found.append(Target("ratio", full if self.lengths == "full" else ragged))
        elif self.lengths == "ragged":
            found.append(Target("ratio", 1.6))
        else:
            found.append(Target("ratio", 1.0 if kind.name == "LSTM" else 1.5))
        if kind.gates > 1:
            found.append(Target("peak", 0.75 if self.mode == "forward" else 0.60))
        return tuple(found)


SHAPES = (
    Shape("mnist", 64, 28, 28, 256),
    Shape("imdb", 32, 400, 128, 128),
    Shape("mid", 64, 100, 256, 256),
    Shape("big", 32, 50, 512, 512),
    Shape("b1", 1, 200, 256, 256),
    Shape("step", 1, 1, 256, 256),
)

QUICK = ("mnist", "imdb")
"""Names of the shapes of a quick run."""

KINDS = (
    Kind("LSTM", 4, lambda i, h, b: us.LSTM(i, h, backend=b), lambda i, h: nn.LSTM(i, h)),
    Kind("GRU", 3, lambda i, h, b: us.GRU(i, h, backend=b), lambda i, h: nn.GRU(i, h)),
    Kind("SimpleRNN", 1, lambda i, h, b: us.SimpleRNN(i, h, backend=b), lambda i, h: nn.RNN(i, h)),
    Kind("layer-norm LSTM", 4, lambda i, h, b: us.RNN(LayerNormLSTMCell(i, h), backend=b)),
    Kind("minimal gated unit", 2, lambda i, h, b: us.RNN(MinimalGatedCell(i, h), backend=b)),
    Kind("peephole LSTM", 4, lambda i, h, b: us.RNN(us.LSTMCell(i, h, peephole=True), backend=b)),
    Kind(
        "plain LSTM, user's", 4, lambda i, h, b: us.RNN(PlainLSTMCell(i, h), backend=b),
        builtin=lambda i, h, b: us.LSTM(i, h, backend=b),
    ),
)  # fmt: skip

TRAIN_RATIOS = {
    ("LSTM", "mnist"): (1.05, 1.7),
    ("LSTM", "imdb"): (1.6, 3.0),
    ("LSTM", "mid"): (1.05, 1.7),
    ("LSTM", "big"): (1.0, 1.6),
    ("GRU", "mnist"): (2.0, 3.0),
    ("GRU", "imdb"): (2.4, 4.0),
    ("GRU", "mid"): (1.6, 2.6),
    ("GRU", "big"): (1.4, 2.0),
    ("SimpleRNN", "mnist"): (1.5, 2.4),
    ("SimpleRNN", "imdb"): (2.0, 3.2),
    ("SimpleRNN", "mid"): (1.1, 2.0),
    ("SimpleRNN", "big"): (1.2, 1.8),
}
"""Floors for training against the better of torch padded and packed: (full, ragged)."""


def cases(shapes: tuple[str, ...] = (), kinds: tuple[str, ...] = (), quick: bool = False) -> Iterator[Case]:
    """Yield the cases of these shapes and cells; all of them where none are named.

    A quick run leaves out, of the cells that a user has written, all but ragged training: Python loops are slow.

    Raises
    ------
    ValueError
        If there is no shape or cell of that name.
    """
    for given, known in ((shapes, [s.name for s in SHAPES]), (kinds, [k.name for k in KINDS])):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"received {unknown[0]!r}; expected one of {', '.join(map(repr, known))}.")
    for shape in SHAPES:
        for kind in KINDS:
            if (shapes and shape.name not in shapes) or (kinds and kind.name not in kinds):
                continue
            # The lengths of one row cannot be ragged, and a single step is there for the cost of a call.
            some: tuple[Lengths, ...] = ("full", "ragged") if shape.batch > 1 else ("full",)
            modes: tuple[Mode, ...] = ("forward", "train") if shape.steps > 1 else ("forward",)
            if quick and not kind.is_builtin and shape.steps > 1:
                some, modes = some[-1:], ("train",)
            yield from (Case(shape, kind, lengths, mode) for lengths in some for mode in modes)
