"""Which mark follows each word? A bidirectional LSTM with a linear-chain CRF, in plain PyTorch.

    python examples/crf_tagger.py [--accelerate] [--steps N]

The marks were taken out of speeches in Shakespeare's plays where the directory that `UNSPOOL_DATA_DIR` names has them,
else of made-up ones, and the model puts them back.

Letters: B speeches, T words of the longest, K tags.
"""

import argparse
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

Split = Literal["train", "test"]
WORDS, MARKS = 8_000, ["", ",", ".", ";", ":", "?", "!"]


class Batch(NamedTuple):
    """Words [B, T] as numbers, 0 after the end of a speech; numbers of words [B]; the mark after each word [B, T]."""

    words: Tensor
    lengths: Tensor
    tags: Tensor


class CRF(nn.Module):
    """A linear chain (Lafferty et al., 2001): what follows what, what comes first, and what comes last."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.moves = nn.Parameter(torch.empty(tags, tags).uniform_(-0.1, 0.1))  # [from, to]
        self.first = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))
        self.last = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))

    def forward(self, scores: Tensor, tags: Tensor, real: Tensor) -> Tensor:
        """Return the negative log likelihood of the tags [B], given the scores [B, T, K] and where words are [B, T]."""
        return self.log_partition(scores, real) - self.score(scores, tags, real)

    def score(self, scores: Tensor, tags: Tensor, real: Tensor) -> Tensor:
        """Return the score of one path of tags: [B]."""
        words = (scores.gather(2, tags.unsqueeze(2)).squeeze(2) * real).sum(1)
        moves = (self.moves[tags[:, :-1], tags[:, 1:]] * real[:, 1:]).sum(1)
        end = tags.gather(1, real.sum(1, keepdim=True) - 1).squeeze(1)
        return self.first[tags[:, 0]] + words + moves + self.last[end]

    def log_partition(self, scores: Tensor, real: Tensor) -> Tensor:
        """Return the logarithm of the sum over all paths, by the forward algorithm: [B]."""
        start, *steps = scores.unbind(1)
        alpha = self.first + start
        for step, live in zip(steps, real.unbind(1)[1:], strict=True):
            longer = torch.logsumexp(alpha.unsqueeze(2) + self.moves, 1) + step
            alpha = torch.where(live.unsqueeze(1), longer, alpha)
        return torch.logsumexp(alpha + self.last, 1)

    def best(self, scores: Tensor, real: Tensor) -> Tensor:
        """Return the path of the highest score, by Viterbi's algorithm: [B, T]."""
        start, *steps = scores.unbind(1)
        alpha, origins = self.first + start, []
        stay = torch.arange(len(self.first)).expand_as(alpha)
        for step, live in zip(steps, real.unbind(1)[1:], strict=True):
            longer, origin = (alpha.unsqueeze(2) + self.moves).max(1)
            alpha = torch.where(live.unsqueeze(1), longer + step, alpha)
            origins.append(torch.where(live.unsqueeze(1), origin, stay))  # in padding the path stays where it ended
        path = [(alpha + self.last).argmax(1, keepdim=True)]
        for origin in reversed(origins):
            path.append(origin.gather(1, path[-1]))
        return torch.cat(path[::-1], 1)


class Tagger(nn.Module):
    """An embedding, an LSTM in both directions, a score for each tag, and the chain."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * hidden, len(MARKS))
        self.crf = CRF(len(MARKS))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Return the scores of the tags: [B, T, K]."""
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.dense(output)


def build(seed: int = 0, *, embedding: int = 128, hidden: int = 256) -> Tagger:
    """Return a new model, the same one for the same seed."""
    torch.manual_seed(seed)
    return Tagger(embedding, hidden)


def loss(model: Tagger, batch: Batch) -> Tensor:
    """Return the mean negative log likelihood of a batch."""
    return model.crf(model(batch.words, batch.lengths), batch.tags, batch.words > 0).mean()


def train(model: Tagger, batches: Iterable[Batch]) -> Iterator[float]:
    """Take one step of Adam for each batch, and yield its loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch in batches:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        yield value.item()


def text(split: Split) -> str:
    """Return speeches with an empty line between two of them, each after a line with the name of who speaks."""
    if plays := os.environ.get("UNSPOOL_DATA_DIR"):
        from unspool.data import load_tiny_shakespeare

        tokens, characters = load_tiny_shakespeare(split, data_dir=plays)
        return "".join(characters[token] for token in tokens.tolist())
    draw = random.Random(split)
    words = ["and", "but", "why", *(f"word{chr(97 + n)}" for n in range(20))]
    rows = [" ".join(draw.choices(words, k=1 + int(draw.lognormvariate(2.6, 1.0)))) for _ in range(5_000)]
    speeches = "\n\n".join(f"FOOL:\n{row}." for row in rows)
    return speeches.replace(" and", ", and").replace(" but", "; but").replace(" why", "? why")


def batches(count: int, size: int = 32, *, longest: int = 128, split: Split = "train") -> list[Batch]:
    """Return batches of speeches drawn at random, the same ones at every call; a long speech keeps its first words."""
    pattern = re.compile(r"([a-z'-]+)([,.;:?!]?)")  # a word, and the mark that follows it
    known = Counter(word for word, _ in pattern.findall(text("train").lower())).most_common(WORDS - 2)
    number = {word: place for place, (word, _) in enumerate(known, 2)}  # 1 stands for all others
    speeches = [pattern.findall(lines.partition("\n")[2].lower())[:longest] for lines in text(split).split("\n\n")]
    chosen = random.Random(0).choices([speech for speech in speeches if speech], k=count * size)
    found = []
    for first in range(0, count * size, size):
        rows = chosen[first : first + size]
        words = [torch.tensor([number.get(word, 1) for word, _ in row]) for row in rows]
        tags = [torch.tensor([MARKS.index(mark) for _, mark in row]) for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        found.append(Batch(pad_sequence(words, batch_first=True), lengths, pad_sequence(tags, batch_first=True)))
    return found


@torch.no_grad()
def accuracy(model: Tagger, batch: Batch) -> tuple[float, float]:
    """Return what share of all places the model finds right, and of those with a mark."""
    real = batch.words > 0
    right = model.crf.best(model(batch.words, batch.lengths), real) == batch.tags
    return float(right[real].float().mean()), float(right[real & (batch.tags > 0)].float().mean())


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerate", action="store_true", help="run the LSTM with unspool")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    model = build()
    if options.accelerate:
        import unspool as us

        us.accelerate(model)  # nothing else changes
    print("speeches:", "Shakespeare's" if os.environ.get("UNSPOOL_DATA_DIR") else "made up: no UNSPOOL_DATA_DIR")
    data = batches(options.steps)
    start = time.perf_counter()
    for step, value in enumerate(train(model, data), 1):
        if step % 20 == 0:
            print(f"step {step}: loss {value:.4f}, {1e3 * (time.perf_counter() - start) / step:.0f} ms a step")
    places, marks = accuracy(model, batches(1, 200, split="test")[0])
    print(f"right in other speeches: {places:.3f} of all places, {marks:.3f} of those with a mark")


if __name__ == "__main__":
    main()
