"""Seconds per epoch over rows of very different lengths, by the way in which rows are put into batches.

The model is an embedding, an LSTM and a dense layer on the output of each row's last real step. A training step is
forward, backward and an update by Adam; making the batches is not timed.

Letters: B rows, T steps, H hidden features.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unspool.comparison._classifiers import Way, ways
from unspool.comparison._results import BatchingResult, Mode, ModeResult, rounded
from unspool.data import (
    BucketBatchSampler,
    LengthBatchSampler,
    SameLengthBatchSampler,
    SequenceBatch,
    TokenDataset,
    collate,
)

BUCKET = 50
"""Steps between the bounds of buckets."""

TOLERANCE = 1e-4
"""Of the largest value."""

ROUNDS = 2
"""How often every batch is measured; the faster one counts, so that neither a start nor a disturbance does."""

MORE_SINGLE = 4
"""So many times more batches are measured where they are single rows, which vary most."""


MODES: tuple[Mode, ...] = ("padded", "bucketed", "same-length", "single", "ragged")


def compare_batching(
    reviews: TokenDataset,
    source: str,
    report: Callable[[str], None],
    *,
    batch: int,
    size: int,
    sampled: int,
    seed: int,
    only: tuple[str, ...] = (),
) -> BatchingResult:
    """Measure all ways of batching.

    Parameters
    ----------
    reviews : TokenDataset
    source : str
        Where they are from.
    report : callable
        Told of each mode in a line.
    batch : int
        Rows of a batch.
    size : int
        H, also of the embedding.
    sampled : int
        How many batches to measure in each mode.
    seed : int
        Of the order of the rows, and of the weights.
    only : tuple of str
        The contenders that take part; all for none.
    """
    lengths = reviews.lengths.numpy()
    longest = int(lengths.max())
    modes: list[ModeResult] = []
    left_out: list[str] = []
    for mode in MODES:
        report(f"batching: {mode}")
        epoch = _sampler(mode, lengths, batch, seed).batches(0)
        chosen = evenly(epoch, lengths, sampled * MORE_SINGLE if mode == "single" else sampled)
        torch.manual_seed(seed)
        trainers = [Trainer(way, mode, longest, size) for way in ways(mode, only)]
        found = _seconds(trainers, chosen, reviews, left_out, report)
        modes += [
            ModeResult(
                mode,
                trainer.way.contender,
                rounded(seconds / len(chosen) * len(epoch)),
                len(epoch),
                len(chosen),
                rounded(trainer.real_share(epoch, lengths)),
            )
            for trainer, seconds in found.items()
        ]
    return BatchingResult(source, len(reviews), longest, modes, left_out)


class Trainer:
    """A model, its optimizer, and batches as it takes them.

    Parameters
    ----------
    way : Way
    mode : {"padded", "bucketed", "same-length", "single", "ragged"}
    longest : int
        Steps of the longest row of all.
    size : int
        H.
    """

    def __init__(self, way: Way, mode: Mode, longest: int, size: int) -> None:
        self.way, self.mode, self.longest = way, mode, longest
        self.model = way.model(size, longest)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def batch(self, reviews: TokenDataset, rows: np.ndarray) -> SequenceBatch:
        """Make a batch.

        Parameters
        ----------
        reviews : TokenDataset
        rows : int array of shape (B,)
        """
        pairs = [reviews[row] for row in rows.tolist()]
        return collate(pairs, pad_to=self._padded_to(max(len(words) for words, _ in pairs)))

    def backward(self, batch: SequenceBatch) -> Tensor:
        """Compute the loss and, into `grad`, its gradients.

        Parameters
        ----------
        batch : SequenceBatch
        """
        self.optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(self.model(batch), batch.labels.float())
        loss.backward()
        return loss.detach()

    def step(self, batch: SequenceBatch) -> float:
        """Train on a batch, and return how long it took.

        Parameters
        ----------
        batch : SequenceBatch
        """
        start = time.perf_counter()
        self.backward(batch)
        self.optimizer.step()
        return time.perf_counter() - start

    def real_share(self, epoch: list[np.ndarray], lengths: np.ndarray) -> float:
        """Return how many of the tokens that are computed in an epoch are real, 0 to 1.

        Parameters
        ----------
        epoch : list of int array
            The rows of each batch.
        lengths : int array of shape (N,)
            Of all rows.
        """
        if not self.way.computes_padding:
            return 1.0
        computed = sum(len(rows) * self._padded_to(int(lengths[rows].max())) for rows in epoch)
        return sum(int(lengths[rows].sum()) for rows in epoch) / computed

    def _padded_to(self, needed: int) -> int:
        """Return the number of steps of a batch whose longest row needs so many."""
        if not self.way.fixed:
            return needed
        return min(self.longest, -(-needed // BUCKET) * BUCKET) if self.mode == "bucketed" else self.longest


def _seconds(
    trainers: list[Trainer],
    chosen: list[np.ndarray],
    reviews: TokenDataset,
    left_out: list[str],
    report: Callable[[str], None],
) -> dict[Trainer, float]:
    """Let trainers with the same weights take turns at the same batches; leave out those whose numbers are wrong."""
    twin = trainers[-1]  # PyTorch's layer, which is nobody's of ours
    right = []
    for trainer in trainers:
        trainer.model.load_state_dict(twin.model.state_dict())
        error = _difference(trainer, twin, reviews, chosen[0])
        if error <= TOLERANCE:
            right.append(trainer)
        else:
            left_out.append(f"{trainer.mode}, {trainer.way.contender}: wrong numbers, off by {error:.1e}")
            report(left_out[-1])
    rounds = [
        [[trainer.step(trainer.batch(reviews, rows)) for trainer in right] for rows in chosen] for _ in range(ROUNDS)
    ]
    fastest = np.array(rounds).min(0).sum(0)
    return dict(zip(right, fastest.tolist(), strict=True))


def _difference(trainer: Trainer, twin: Trainer, reviews: TokenDataset, rows: np.ndarray) -> float:
    """Return the largest difference in loss and gradients, each relative to its largest value."""
    found = []
    for one in (trainer, twin):
        loss = one.backward(one.batch(reviews, rows))
        found.append([loss, *(p.grad.clone() for p in one.model.parameters() if p.grad is not None)])
    # Rows of one step have no gradient of the recurrent weights.
    errors = [float((a - b).abs().max()) / (float(b.abs().max()) or 1.0) for a, b in zip(*found, strict=True)]
    return float(np.max(errors))  # not a number if one is not


def _sampler(mode: Mode, lengths: np.ndarray, batch: int, seed: int) -> LengthBatchSampler:
    if mode == "bucketed":
        bounds = range(BUCKET + 1, int(lengths.max()) + 1, BUCKET)  # a row as long as a bound is in the bucket above
        return BucketBatchSampler(lengths, list(bounds), batch, seed=seed)
    if mode in ("same-length", "single"):
        return SameLengthBatchSampler(lengths, batch if mode == "same-length" else 1, seed=seed)
    return BucketBatchSampler(lengths, [], batch, seed=seed)


def evenly(batches: list[np.ndarray], lengths: np.ndarray, count: int) -> list[np.ndarray]:
    """Return some of an epoch's batches: in the order of their tokens, at equal distances.

    Parameters
    ----------
    batches : list of int array
        The rows of each.
    lengths : int array of shape (N,)
        Of all rows.
    count : int
        How many to take, at most.
    """
    ranked = sorted(batches, key=lambda rows: int(lengths[rows].sum()))
    count = min(count, len(ranked))
    return [ranked[(2 * k + 1) * len(ranked) // (2 * count)] for k in range(count)]
