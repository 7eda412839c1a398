"""What is measured: shapes, cells, lengths and modes.

Letters: B rows, T steps, I input features, H hidden features, K batches, N real tokens, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

import unspool as us
from benchmarks.cells import LayerNormLSTMCell, MinimalGatedCell, PlainLSTMCell
from benchmarks.lengths import reviews, reviews_missing, spread_lengths

Lengths = Literal["full", "ragged", "real"]
Mode = Literal["forward", "train"]


@dataclass(frozen=True)
class Shape:
    """The shape of a batch.

    Attributes
    ----------
    name : str
    batch, steps, inputs, hidden : int
        B, T, I and H.
    reviews : int
        K, for batches whose lengths are those of film reviews, cut to T; 0 for one batch with lengths made up.
    """

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    reviews: int = 0

    def lengths(self, kind: Lengths) -> Tensor:
        """Return `[K, B]`. The steps of a batch are those of its longest row."""
        if kind == "full":
            return torch.full((1, self.batch), self.steps)
        if kind == "ragged":
            return spread_lengths(self.steps, self.batch)[None]
        return reviews(self.steps, self.batch, self.reviews)


@dataclass(frozen=True)
class Kind:
    """A cell, and what it is compared with.

    Attributes
    ----------
    name : str
    gates : int
        G, the number of `[I + H, H]` products in a step.
    cell : callable (I, H) -> Module
        One step.
    layer : callable (I, H, **options) -> Module, optional
        Our layer of it, time-major; `us.RNN` over the cell by default.
    torch_layer : callable (I, H) -> Module, optional
        The same layer of PyTorch, with the same state dict. None for cells that PyTorch does not have.
    builtin : callable (I, H) -> Module, optional
        Our own layer with the same products, for a cell that a user has written.
    """

    name: str
    gates: int
    cell: Callable[[int, int], nn.Module]
    layer: Callable[..., nn.Module] | None = None
    torch_layer: Callable[[int, int], nn.Module] | None = None
    builtin: Callable[[int, int], nn.Module] | None = None

    @property
    def is_builtin(self) -> bool:
        """Tell whether PyTorch has the cell too."""
        return self.torch_layer is not None

    def ours(self, inputs: int, hidden: int, **options: Any) -> nn.Module:
        """Return our layer.

        Parameters
        ----------
        inputs, hidden : int
            I and H.
        **options
            Of the layer.
        """
        return self.layer(inputs, hidden, **options) if self.layer else us.RNN(self.cell(inputs, hidden), **options)


@dataclass(frozen=True)
class Case:
    """One row of the results.

    Attributes
    ----------
    shape : Shape
    kind : Kind
    lengths : {"full", "ragged", "real"}
    mode : {"forward", "train"}
    """

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
    def share(self) -> float:
        """Return the share of real tokens in padded batches."""
        lengths = self.shape.lengths(self.lengths)
        return self.tokens / int(lengths.max(1).values.sum() * self.shape.batch)

    @property
    def gflop(self) -> float:
        """Return the work on real tokens in 10^9 operations: products only, three times as many for training."""
        shape = self.shape
        forward = 2 * self.tokens * (shape.inputs + shape.hidden) * self.kind.gates * shape.hidden
        return forward * (3 if self.mode == "train" else 1) / 1e9

    def shortened(self, steps: int) -> Case:
        """Return the same case with at most so many steps; lengths of reviews, which would all be cut, become spread.

        Parameters
        ----------
        steps : int
        """
        lengths: Lengths = "ragged" if self.lengths == "real" else self.lengths
        return replace(self, shape=replace(self.shape, steps=min(steps, self.shape.steps), reviews=0), lengths=lengths)


SHAPES = (
    Shape("mnist", 64, 28, 28, 256),
    Shape("imdb", 32, 400, 128, 128),
    Shape("mid", 64, 100, 256, 256),
    Shape("big", 32, 50, 512, 512),
    Shape("b1", 1, 200, 256, 256),
    Shape("step", 1, 1, 256, 256),
    Shape("imdb-400", 32, 400, 128, 128, reviews=2),
    Shape("imdb-1000", 32, 1000, 128, 128, reviews=2),
)

QUICK = ("mnist", "imdb")
"""Names of the shapes of a quick run."""

KINDS = (
    Kind("LSTM", 4, us.LSTMCell, us.LSTM, nn.LSTM),
    Kind("GRU", 3, us.GRUCell, us.GRU, nn.GRU),
    Kind("SimpleRNN", 1, us.SimpleRNNCell, us.SimpleRNN, nn.RNN),
    Kind("layer-norm LSTM", 4, LayerNormLSTMCell),
    Kind("minimal gated unit", 2, MinimalGatedCell),
    Kind("peephole LSTM", 4, lambda i, h: us.LSTMCell(i, h, peephole=True)),
    Kind("plain LSTM, user's", 4, PlainLSTMCell, builtin=us.LSTM),
)


def cases(shapes: tuple[str, ...] = (), kinds: tuple[str, ...] = (), quick: bool = False) -> Iterator[Case]:
    """Yield the cases of these shapes and cells; all of them where none are named.

    Shapes with the lengths of reviews are left out where there are none. A quick run leaves out, of the cells that a
    user has written, all but ragged training: Python loops are slow.

    Parameters
    ----------
    shapes, kinds : tuple of str
        Names.
    quick : bool

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
        if (shapes and shape.name not in shapes) or (shape.reviews and reviews_missing()):
            continue
        for kind in KINDS:
            if not (kinds and kind.name not in kinds) and (kind.is_builtin or not shape.reviews):
                yield from _cases_of(shape, kind, quick)


def _cases_of(shape: Shape, kind: Kind, quick: bool) -> Iterator[Case]:
    # The lengths of one row cannot be ragged, and a single step is there for the cost of a call.
    lengths: tuple[Lengths, ...] = ("full", "ragged") if shape.batch > 1 else ("full",)
    modes: tuple[Mode, ...] = ("forward", "train") if shape.steps > 1 else ("forward",)
    if shape.reviews:
        lengths = ("real",)
    elif quick and not kind.is_builtin and shape.steps > 1:
        lengths, modes = lengths[-1:], ("train",)
    yield from (Case(shape, kind, some, mode) for some in lengths for mode in modes)
