"""Classifiers of texts, alike but for what they do about padding; and who takes part in which way of batching.

Letters: B rows, T steps, H hidden features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from typing_extensions import override

from unspool.comparison._results import Mode
from unspool.comparison._reviews import WORDS
from unspool.data import SequenceBatch
from unspool.layers import LSTM


class Classifier(nn.Module):
    """What all contenders share.

    Parameters
    ----------
    size : int
        Features of the embedding and of the recurrent layer.
    layer : Module
        The recurrent layer, with the batch first.
    """

    def __init__(self, size: int, layer: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, size)
        self.layer = layer
        self.dense = nn.Linear(size, 1)

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the output of each row's last real step, (B, H), of embedded words (B, T, H), without lengths."""
        return self.layer(x)[0][torch.arange(len(x)), lengths - 1]

    @override
    def forward(self, batch: SequenceBatch) -> Tensor:
        """Return one number per row."""
        return self.dense(self.last(self.embedding(batch.inputs), batch.lengths)).squeeze(1)


class ByLengths(Classifier):
    """Gives the lengths to the layer, so that no padding is computed.

    Parameters
    ----------
    size, layer
        See `Classifier`.
    """

    @override
    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.layer(x, lengths=lengths)[1].h[0]


class Packed(Classifier):
    """Gives a `PackedSequence` to the layer.

    Parameters
    ----------
    size, layer
        See `Classifier`.
    """

    @override
    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1][0][0]


@dataclass(frozen=True)
class Way:
    """How a contender computes batches of one mode.

    Attributes
    ----------
    contender : str
    model : callable (size, longest) -> Classifier
    computes_padding : bool
    fixed : bool
        Whether batches are padded to a bound, and not only to their longest row.
    """

    contender: str
    model: Callable[[int, int], Classifier]
    computes_padding: bool
    fixed: bool


def _looped(kind: type[Classifier]) -> Callable[[int, int], Classifier]:
    return lambda size, _: kind(size, LSTM(size, size, batch_first=True))


def _unrolled(kind: type[Classifier]) -> Callable[[int, int], Classifier]:
    return lambda size, longest: kind(size, LSTM(size, size, batch_first=True, unroll=True, num_steps=longest))


def _torch(kind: type[Classifier]) -> Callable[[int, int], Classifier]:
    return lambda size, _: kind(size, nn.LSTM(size, size, batch_first=True))


def ways(mode: Mode, only: tuple[str, ...] = ()) -> list[Way]:
    """Return who runs a mode, and how: in `padded` everybody computes all steps up to one bound.

    Parameters
    ----------
    mode : {"padded", "bucketed", "same-length", "single", "ragged"}
    only : tuple of str
        The contenders that take part; all for none. PyTorch's packed sequences come with its padded ones.
    """
    return [way for way in _all_ways(mode) if not only or way.contender.replace("packed", "padded") in only]


def _all_ways(mode: Mode) -> list[Way]:
    if mode == "padded":
        return [
            Way("unspool dynamic", _looped(Classifier), True, True),
            Way("unspool static", _unrolled(Classifier), True, True),
            Way("torch nn.LSTM, padded", _torch(Classifier), True, True),
        ]
    found = [
        Way("unspool dynamic", _looped(ByLengths), False, False),
        Way("unspool static", _unrolled(ByLengths), False, True),
        Way("torch nn.LSTM, padded", _torch(Classifier), True, False),
        Way("torch nn.LSTM, packed", _torch(Packed), False, False),
    ]
    return [way for way in found if mode != "ragged" or not way.computes_padding]  # it would be `padded` once more
