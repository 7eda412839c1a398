"""Put the vowels back, with attention inside of the loop: a cell of one's own that is given what was read as constants.

    python -m examples.attention_decoder [--steps N]

The task and the data are those of `seq2seq_attention.py`. There the decoder is a GRU, and attention comes after it.
Here what was seen goes into the next step (input feeding: Luong et al., 2015), so attention is part of the step.

Letters: B sentences, S characters of the longest source, T of the longest target, E embedding size, H hidden size.
"""

import argparse
import os
import time
from typing import Any, NamedTuple

import torch
from examples.seq2seq_attention import CHARACTERS, PAD, START, batches, train
from torch import Tensor, nn

import unspool as us


class Read(NamedTuple):
    """What the decoder may look at: the encoder's outputs [B, S, H], and which of them are real [B, S]."""

    outputs: Tensor
    real: Tensor


class AttentiveState(NamedTuple):
    """State of a GRU [B, H], and what attention made of it at the last step [B, H]."""

    h: Tensor
    seen: Tensor


class AttentiveCell(us.Cell):
    """One step of a decoder that looks back: a GRU over the input and what was seen last; then attention."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__(AttentiveState(hidden, hidden))  # type: ignore[arg-type]
        self.gru = us.GRUCell(embedding + hidden, hidden)
        self.combine = nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor, state: AttentiveState, read: Read) -> tuple[Tensor, AttentiveState]:
        """Return what is seen at this step [B, H], and the new state."""
        h, _ = self.gru(torch.cat([x, state.seen], 1), state.h)
        similar = (read.outputs @ h.unsqueeze(2)).squeeze(2)  # [B, S]
        weights = similar.masked_fill(~read.real, -torch.inf).softmax(1)  # nothing is seen in padding
        context = (weights.unsqueeze(1) @ read.outputs).squeeze(1)
        seen = torch.tanh(self.combine(torch.cat([context, h], 1)))
        return seen, AttentiveState(h, seen)


class Translator(nn.Module):
    """A bidirectional GRU reads; an attentive cell writes."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), embedding, padding_idx=PAD)
        self.encoder = us.GRU(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.decoder = us.RNN(AttentiveCell(embedding, hidden), batch_first=True)
        self.dense = nn.Linear(hidden, len(CHARACTERS))

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Read, AttentiveState]:
        """Return what was read, and the state that the decoder starts from."""
        # The engine has a program of the cell for each number of slots: few numbers, few programs.
        source = nn.functional.pad(source, (0, -source.shape[1] % 16), value=PAD)
        outputs, h_n = self.encoder(self.embedding(source), lengths=lengths)
        h = torch.cat([h_n[0], h_n[1]], 1)
        return Read(outputs, source != PAD), AttentiveState(h, torch.zeros_like(h))

    def forward(self, source: Tensor, lengths: Tensor, written: Tensor) -> Tensor:
        """Return scores of the characters after each one of the target, which the decoder is told: [B, T, K]."""
        read, state = self.encode(source, lengths)
        real = (written != PAD).sum(1)
        outputs, _ = self.decoder(self.embedding(written), state, lengths=real, constants=read)
        return self.dense(outputs)

    @torch.no_grad()
    def write(self, source: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """Return the likeliest character after each one that the decoder has written, 0 after the end: [B, T]."""
        read, start = self.encode(source, lengths)
        end = CHARACTERS.index(">")

        def loop(now: int, output: Any, state: Any, _: Any) -> Any:
            first = torch.full((len(source),), START)
            characters = first if output is None else self.dense(output).argmax(1)
            finished = (characters == end) | (now >= steps)
            return (
                finished,
                self.embedding(characters),
                start if output is None else state,
                emitted(now, characters),
                None,
            )

        def emitted(now: int, characters: Tensor) -> Tensor:
            return characters if now else characters.new_zeros(())  # at first an example of what one row emits

        written, _, _ = us.raw_rnn(self.decoder.cell, loop, constants=read)
        return written.transpose(0, 1)


def build(seed: int = 0, *, embedding: int = 64, hidden: int = 128) -> Translator:
    """Return a new model, the same one for the same seed."""
    torch.manual_seed(seed)
    return Translator(embedding, hidden)


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    print("sentences:", "Shakespeare's" if os.environ.get("UNSPOOL_DATA_DIR") else "made up: no UNSPOOL_DATA_DIR")
    model = build()
    start = time.perf_counter()
    for step, value in enumerate(train(model, batches(options.steps)), 1):
        if step % 20 == 0:
            print(f"step {step}: loss {value:.4f}, {1e3 * (time.perf_counter() - start) / step:.0f} ms a step")
    (test,) = batches(1, 3, split="test")
    for rows in zip(test.source, model.write(test.source, test.lengths, 150), strict=True):
        source, written = ("".join(CHARACTERS[number] for number in row.tolist()) for row in rows)
        print(f"{source}\n  {written.partition('>')[0]}")


if __name__ == "__main__":
    main()
