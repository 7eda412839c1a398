"""Which digit is being said? A GRU that hears one frame at a time, and says so as soon as it is sure.

    python examples/keyword_spotting.py [--epochs N] [--weights FILE]

The model goes from samples to scores: mel bands of a frame, a GRU of two layers, a linear layer. It is trained on whole
recordings, and then hears those of the test one frame at a time, by `us.stream`, as from a microphone. The recordings
are the Free Spoken Digit Dataset's where the directory that `UNSPOOL_DATA_DIR` names has them, else made-up tones.

Letters: B recordings, T frames of the longest, W samples of a frame, M mel bands, K digits.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unspool as us
from unspool.data import (
    BatchLoader,
    BucketBatchSampler,
    SequenceDataset,
    frame_samples,
    load_spoken_digits,
    mel_filters,
)

RATE, WINDOW, HOP = 8_000, 200, 80
"""Samples of a second, of a frame, and from one frame to the next."""
SHARES = (0.25, 0.5, 0.75, 1.0)


class LogMel(nn.Module):
    """The logarithm of the power of frames in mel bands: [..., W] -> [..., M], each frame by itself."""

    window: Tensor
    filters: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(RATE, WINDOW, bands).float(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute it; a band has at least the power that rounding to 16 bits leaves."""
        power = torch.fft.rfft(frames * self.window).abs().square()
        return (power @ self.filters).clamp(min=1e-8).log()


def build(seed: int = 0, *, bands: int = 40, hidden: int = 96) -> nn.Sequential:
    """Return a new model [B, T, W] -> [B, T, K], the same one for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(
        LogMel(bands),
        nn.LayerNorm(bands),  # how loud a voice is does not matter
        us.GRU(bands, hidden, num_layers=2, dropout=0.3, batch_first=True, return_state=False),
        nn.Dropout(0.3),
        nn.Linear(hidden, 10),
    )


def recordings(split: Literal["train", "test"]) -> SequenceDataset:
    """Return recordings as frames [T, W], and the digits."""
    if os.environ.get("UNSPOOL_DATA_DIR"):
        return load_spoken_digits(split, features="frames")
    draw = torch.Generator().manual_seed(len(split))
    labels = torch.arange(200 if split == "train" else 50) % 10
    sounds = []
    for digit in labels.tolist():  # a tone that rises or falls, from one of five pitches
        seconds = torch.arange(int(torch.randint(2_000, 4_000, (), generator=draw))) / RATE
        pitch = 400 * (1 + digit // 2) * (1 + (digit % 2 - 0.5) * seconds)
        noise = torch.randn(len(seconds), generator=draw)
        sounds.append(0.3 * torch.sin(2 * torch.pi * pitch * seconds) + 0.05 * noise)
    frames = [frame_samples(sound, window=WINDOW, hop=HOP) for sound in sounds]
    return SequenceDataset(frames, labels, [str(digit) for digit in range(10)])


def loss(model: nn.Module, inputs: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy at all frames; what follows a recording in a batch has no effect on it."""
    scores = model(inputs)
    real = torch.arange(inputs.shape[1]) < lengths.unsqueeze(1)
    return F.cross_entropy(scores[real], labels.repeat_interleave(lengths))


def train(model: nn.Module, dataset: SequenceDataset, epochs: int) -> Iterator[float]:
    """Take steps of Adam over epochs, and yield the mean loss of each."""
    sampler = BucketBatchSampler(dataset.lengths, [30, 40, 50, 60], 32, seed=0)
    loader = BatchLoader(dataset, sampler)
    optimizer = torch.optim.Adam(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * len(loader))
    model.train()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        losses = []
        for batch in loader:
            optimizer.zero_grad()
            value = loss(model, batch.inputs, batch.lengths, batch.labels)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            losses.append(value.item())
        yield sum(losses) / len(losses)
    model.eval()


class Heard(NamedTuple):
    """Scores of a recording after each of its frames [T, K], and the microseconds that each frame took."""

    scores: Tensor
    microseconds: list[float]


def hear(stream: us.Stream, frames: Tensor) -> Heard:
    """Give a new recording [T, W] to a stream, frame by frame."""
    stream.reset()
    scores, microseconds = [], []
    for frame in frames.unsqueeze(1):
        start = time.perf_counter()
        scores.append(stream.step(frame))
        microseconds.append(1e6 * (time.perf_counter() - start))
    return Heard(torch.cat(scores), microseconds)


def sure(scores: Tensor, threshold: float, over: int = 5) -> tuple[int, int] | None:
    """Return the first frame at which a digit is this likely on average over some frames, and the digit; or None."""
    likely = F.pad(scores.softmax(1).T, (over - 1, 0)).unfold(1, over, 1).mean(2)  # [K, T]
    best, digits = likely.max(0)
    found = (best >= threshold).nonzero()
    return (int(found[0]), int(digits[found[0]])) if len(found) else None


class Report(NamedTuple):
    """What came of hearing recordings frame by frame."""

    accuracy: list[float]  # after each of `SHARES` of the frames
    apart: float  # the largest difference of a score from that of the model over the whole recording
    sure: float  # the share of recordings in which the model was sure of a digit
    right: float  # the share of these digits that were right
    early: float  # after which share of the frames it was sure, in the median of these recordings
    microseconds: Tensor  # of each frame


@torch.no_grad()
def listen(model: nn.Module, dataset: SequenceDataset, threshold: float) -> Report:
    """Hear recordings frame by frame, and compare with the model over whole recordings."""
    stream = us.stream(model, stepwise=(LogMel,))
    hear(stream, torch.cat(list(dataset.sequences[:5])))  # the first steps take longer: the engine's program is made
    right, apart, microseconds, found = torch.zeros(len(SHARES)), 0.0, [], []
    for frames, label in dataset:
        scores, taken = hear(stream, frames)
        microseconds += taken
        apart = max(apart, float((scores - model(frames.unsqueeze(0))[0]).abs().max()))
        right += torch.tensor([int(scores[round(share * len(frames)) - 1].argmax()) == label for share in SHARES])
        if decision := sure(scores, threshold):
            frame, digit = decision
            found.append(((frame + 1) / len(frames), digit == label))
    early, correct = torch.tensor(found).T if found else torch.zeros(2, 1)
    return Report(
        (right / len(dataset)).tolist(),
        apart,
        len(found) / len(dataset),
        float(correct.mean()),
        float(early.median()),
        torch.tensor(microseconds),
    )


def main() -> None:
    """Train or load a model, let it listen, and print what it heard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threshold", type=float, default=0.95, help="how likely a digit is that the model is sure of")
    parser.add_argument("--weights", type=Path, help="a file to load, or to save after training where there is none")
    options = parser.parse_args()
    print("recordings:", "spoken digits" if os.environ.get("UNSPOOL_DATA_DIR") else "made up: no UNSPOOL_DATA_DIR")
    model = build()
    if options.weights and options.weights.exists():
        model.load_state_dict(torch.load(options.weights, weights_only=True))
        model.eval()
    else:
        start = time.perf_counter()
        for epoch, value in enumerate(train(model, recordings("train"), options.epochs), 1):
            print(f"epoch {epoch}: loss {value:.4f}, {(time.perf_counter() - start) / epoch:.1f} s an epoch")
        if options.weights:
            torch.save(model.state_dict(), options.weights)
    report = listen(model, recordings("test"), options.threshold)
    for share, accuracy in zip(SHARES, report.accuracy, strict=True):
        print(f"after {share:.0%} of a recording: {accuracy:.1%} right")
    print(f"sure in {report.sure:.1%} of them, by the median after {report.early:.0%}; then {report.right:.1%} right")
    print(f"scores frame by frame and over whole recordings differ by {report.apart:.1e} at most")
    p50, p90, p99 = report.microseconds.quantile(torch.tensor([0.5, 0.9, 0.99])).tolist()
    print(f"us per frame: p50 {p50:.0f}, p90 {p90:.0f}, p99 {p99:.0f}, max {float(report.microseconds.max()):.0f}")
    spent, heard = float(report.microseconds.sum()), 1e6 * HOP / RATE * len(report.microseconds)
    print(f"{len(report.microseconds):,} frames of {1e3 * HOP / RATE:.0f} ms: {heard / spent:.0f} times real time")


if __name__ == "__main__":
    main()
