"""Put the vowels back: an encoder and a decoder with attention, in plain PyTorch.

    python examples/seq2seq_attention.py [--accelerate] [--steps N]

`t b, r nt t b` becomes `to be, or not to be`. The sentences are of Shakespeare's plays where the directory that
`UNSPOOL_DATA_DIR` names has them, else made up.

Letters: B sentences, S characters of the longest source, T of the longest target, H hidden size.
"""

import argparse
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

Split = Literal["train", "test"]
PAD, START = 0, 1
CHARACTERS = ["", "<", ">", *" abcdefghijklmnopqrstuvwxyz',.;:?!-"]


class Batch(NamedTuple):
    """Characters of sources [B, S] as numbers, 0 after the end; how many they are [B]; characters of targets [B, T]."""

    source: Tensor
    lengths: Tensor
    target: Tensor


class Translator(nn.Module):
    """A bidirectional GRU reads; another GRU writes, and looks back at what was read (Luong et al., 2015).

    Two layers each; both directions of the encoder together are as wide as the decoder, so that their dot product is
    the attention.
    """

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), embedding, padding_idx=PAD)
        self.encoder = nn.GRU(embedding, hidden // 2, 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(embedding, hidden, 2, batch_first=True)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.dense = nn.Linear(hidden, len(CHARACTERS))

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what was read at each step [B, S, H], and the last states, which the decoder starts from [2, B, H]."""
        packed = pack_padded_sequence(self.embedding(source), lengths, batch_first=True, enforce_sorted=False)
        output, h_n = self.encoder(packed)
        return pad_packed_sequence(output, batch_first=True)[0], torch.cat([h_n[::2], h_n[1::2]], 2)

    def decode(self, written: Tensor, read: Tensor, real: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of the characters that follow each one written [B, T, K], and the decoder's state."""
        output, state = self.decoder(self.embedding(written), state)
        similar = output @ read.transpose(1, 2)  # [B, T, S]
        weights = similar.masked_fill(~real.unsqueeze(1), -torch.inf).softmax(2)  # nothing is seen in padding
        return self.dense(torch.tanh(self.combine(torch.cat([weights @ read, output], 2)))), state

    def forward(self, source: Tensor, lengths: Tensor, written: Tensor) -> Tensor:
        """Return scores of the characters after each one of the target, which the decoder is told."""
        read, state = self.encode(source, lengths)
        return self.decode(written, read, source != PAD, state)[0]

    @torch.no_grad()
    def write(self, source: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """Return the likeliest character after each one that the decoder has written itself: [B, steps]."""
        read, state = self.encode(source, lengths)
        written = [torch.full((len(source), 1), START)]
        for _ in range(steps):
            scores, state = self.decode(written[-1], read, source != PAD, state)
            written.append(scores.argmax(2))
        return torch.cat(written[1:], 1)


def build(seed: int = 0, *, embedding: int = 64, hidden: int = 256) -> Translator:
    """Return a new model, the same one for the same seed."""
    torch.manual_seed(seed)
    return Translator(embedding, hidden)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross entropy of the targets' characters."""
    scores = model(batch.source, batch.lengths, batch.target[:, :-1])
    return nn.functional.cross_entropy(scores.flatten(0, 1), batch.target[:, 1:].flatten(), ignore_index=PAD)


def train(model: nn.Module, batches: Iterable[Batch]) -> Iterator[float]:
    """Take one step of Adam for each batch, and yield its loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for batch in batches:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield value.item()


def sentences(split: Split) -> list[str]:
    """Return sentences in small letters."""
    if plays := os.environ.get("UNSPOOL_DATA_DIR"):
        from unspool.data import load_tiny_shakespeare

        tokens, characters = load_tiny_shakespeare(split, data_dir=plays)
        text = re.sub(r"(^|\n\n).*:\n", " ", "".join(characters[token] for token in tokens.tolist()))  # who speaks
        return re.split(r"(?<=[.;:?!])\s+", re.sub(r"[^a-z',.;:?!-]+", " ", text.lower()))
    draw = random.Random(split)
    words = ["".join(draw.choice("bcdfglmnprst") + draw.choice("aeiou") for _ in range(1 + n % 3)) for n in range(300)]
    return [" ".join(draw.choices(words, k=2 + int(draw.lognormvariate(1.7, 0.7)))) + "." for _ in range(5_000)]


def batches(count: int, size: int = 64, *, longest: int = 150, split: Split = "train") -> list[Batch]:
    """Return batches of sentences of at most so many characters, drawn at random, the same ones at every call."""
    texts = [text for text in sentences(split) if 5 <= len(text) <= longest]
    chosen = random.Random(0).choices(texts, k=count * size)
    found = []
    for first in range(0, count * size, size):
        rows = chosen[first : first + size]
        sources = [numbers(re.sub("[aeiou]", "", row)) for row in rows]
        targets = [numbers(f"<{row}>") for row in rows]
        lengths = torch.tensor([len(source) for source in sources])
        found.append(Batch(pad_sequence(sources, batch_first=True), lengths, pad_sequence(targets, batch_first=True)))
    return found


def numbers(text: str) -> Tensor:
    """Return the numbers of a text's characters."""
    return torch.tensor([CHARACTERS.index(character) for character in text])


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerate", action="store_true", help="run both GRUs with unspool")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    model = build()
    if options.accelerate:
        import unspool as us

        us.accelerate(model)  # nothing else changes
    print("sentences:", "Shakespeare's" if os.environ.get("UNSPOOL_DATA_DIR") else "made up: no UNSPOOL_DATA_DIR")
    data = batches(options.steps)
    start = time.perf_counter()
    for step, value in enumerate(train(model, data), 1):
        if step % 20 == 0:
            print(f"step {step}: loss {value:.4f}, {1e3 * (time.perf_counter() - start) / step:.0f} ms a step")
    (test,) = batches(1, 3, split="test")
    for rows in zip(test.source, model.write(test.source, test.lengths, 150), strict=True):
        source, written = ("".join(CHARACTERS[number] for number in row.tolist()) for row in rows)
        print(f"{source}\n  {written.partition('>')[0]}")


if __name__ == "__main__":
    main()
