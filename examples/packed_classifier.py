"""Is a film review positive or negative? An LSTM over packed sequences, in plain PyTorch.

    python examples/packed_classifier.py [--accelerate] [--steps N]

The reviews are IMDB's where the directory that `UNSPOOL_DATA_DIR` names has them, else made up.

Letters: B reviews, T words of the longest.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

WORDS = 10_000


class Batch(NamedTuple):
    """Words [B, T] as numbers, 0 after the end of a review; numbers of words [B]; labels [B]."""

    words: Tensor
    lengths: Tensor
    labels: Tensor


class Classifier(nn.Module):
    """An embedding, an LSTM, and a linear layer over its last state."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.dense = nn.Linear(hidden, 2)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Return a score for each of the two classes: [B, 2]."""
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        _, (h_n, _) = self.lstm(packed)  # packed, so that h_n is the state after the last word, not after padding
        return self.dense(self.dropout(h_n[-1]))


def build(seed: int = 0, *, embedding: int = 128, hidden: int = 256) -> Classifier:
    """Return a new model, the same one for the same seed."""
    torch.manual_seed(seed)
    return Classifier(embedding, hidden)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross entropy of a batch."""
    return nn.functional.cross_entropy(model(batch.words, batch.lengths), batch.labels)


def train(model: nn.Module, batches: Iterable[Batch]) -> Iterator[float]:
    """Take one step of Adam for each batch, and yield its loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield value.item()


def batches(count: int, size: int = 32, *, longest: int = 400, split: str = "train") -> list[Batch]:
    """Return batches of reviews drawn at random, the same ones at every call; a long review keeps its last words."""
    draw = np.random.default_rng(0)
    if imdb := os.environ.get("UNSPOOL_DATA_DIR"):
        from unspool.data import load_imdb

        data = load_imdb("train" if split == "train" else "test", num_words=WORDS, maxlen=longest, data_dir=imdb)
        reviews = [data[row] for row in draw.choice(len(data), count * size, replace=False).tolist()]
    else:
        reviews = made_up_reviews(count * size, longest, seed=1 if split == "train" else 2)
    found = []
    for first in range(0, count * size, size):
        words = [review for review, _ in reviews[first : first + size]]
        lengths = torch.tensor([len(review) for review in words])
        labels = torch.tensor([label for _, label in reviews[first : first + size]])
        found.append(Batch(pad_sequence(words, batch_first=True), lengths, labels))
    return found


def made_up_reviews(count: int, longest: int, seed: int) -> list[tuple[Tensor, int]]:
    """Return rows of words with labels. Even words praise, odd words blame; rare words are rare as in a language."""
    draw = np.random.default_rng(seed)
    reviews = []
    for length in np.clip(longest * np.exp(draw.normal(-0.7, 0.7, count)), 2, longest).astype(int).tolist():
        label = int(draw.integers(2))
        words = 2 * (1 + draw.zipf(1.3, length) % (WORDS // 2 - 1))  # even
        blames = draw.random(length) < (0.4 if label else 0.6)
        reviews.append((torch.from_numpy(words - blames), label))
    return reviews


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Return the share of reviews whose label the model finds."""
    model.eval()
    right = [model(batch.words, batch.lengths).argmax(1) == batch.labels for batch in batches]
    return float(torch.cat(right).float().mean())


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerate", action="store_true", help="run the LSTM with unspool")
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    model = build()
    if options.accelerate:
        import unspool as us

        us.accelerate(model)  # nothing else changes
    print("reviews:", "IMDB" if os.environ.get("UNSPOOL_DATA_DIR") else "made up: no UNSPOOL_DATA_DIR")
    data = batches(options.steps)
    start = time.perf_counter()
    for step, value in enumerate(train(model, data), 1):
        if step % 20 == 0:
            print(f"step {step}: loss {value:.4f}, {1e3 * (time.perf_counter() - start) / step:.0f} ms a step")
    print(f"accuracy on other reviews: {accuracy(model, batches(10, split='test')):.3f}")


if __name__ == "__main__":
    main()
