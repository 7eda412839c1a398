"""The model that hears one frame at a time: what it hears is what it would of the whole recording."""

from __future__ import annotations

import os
import sys
from functools import partial

import pytest
import torch

import unspool as us
from examples import keyword_spotting as spotting
from unspool.data import SequenceDataset, collate, log_mel

DATA = os.environ.get("UNSPOOL_DATA_DIR")
RECORDINGS = spotting.recordings
small = partial(spotting.build, bands=20, hidden=16)


@pytest.fixture(autouse=True)
def made_up_data(monkeypatch):
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


def few(split) -> SequenceDataset:
    """Return a fifth of the recordings: every digit as often."""
    whole = RECORDINGS(split)
    count = len(whole) // 5
    return SequenceDataset(whole.sequences[:count], whole.labels[:count], whole.class_names)


def test_the_bands_of_frames_are_those_of_the_recording():
    sound = torch.randn(3_000) / 10
    frames = sound.unfold(0, spotting.WINDOW, spotting.HOP)
    expected = log_mel(sound, spotting.RATE, window=spotting.WINDOW, hop=spotting.HOP, bands=40)
    torch.testing.assert_close(spotting.LogMel(40)(frames), expected, rtol=0, atol=1e-4)


def test_frame_by_frame_is_the_whole_recording():
    model, dataset = small().double().eval(), few("test")
    dataset = SequenceDataset([frames.double() for frames in dataset.sequences], dataset.labels, dataset.class_names)
    report = spotting.listen(model, dataset, threshold=0.0)
    assert 0 < report.apart < 1e-12
    assert len(report.microseconds) == int(dataset.lengths.sum())
    assert report.sure == 1
    assert spotting.listen(model, dataset, threshold=1.1).sure == 0


def test_accuracy_is_counted_after_shares_of_the_frames(monkeypatch):
    """The model says the digit that the scores of a frame are for; it is right in the second half alone."""
    dataset = SequenceDataset(
        list(torch.zeros(2, 8, spotting.WINDOW)), torch.tensor([3, 4]), [str(k) for k in range(10)]
    )
    heard = iter([3, 3, 4])  # the first is to warm up

    def hear(stream, frames):
        scores = torch.zeros(len(frames), 10)
        scores[:, 0] = 1
        scores[len(frames) // 2 :, next(heard)] = 50
        return spotting.Heard(scores, [1.0] * len(frames))

    monkeypatch.setattr(spotting, "hear", hear)
    report = spotting.listen(small().eval(), dataset, threshold=0.75)
    assert report.accuracy == [0, 0, 1, 1]
    assert (report.sure, report.right) == (1, 1)
    assert report.early == 1  # four of the last five frames


def test_sure_is_the_first_frame_at_which_a_digit_is_likely_on_average():
    scores = torch.zeros(12, 10)
    scores[2, 7] = 50  # once is not enough
    scores[5:, 3] = 50
    assert spotting.sure(scores, 0.95, over=4) == (8, 3)
    assert spotting.sure(scores, 0.95, over=1) == (2, 7)
    assert spotting.sure(scores[:8], 0.95, over=4) is None
    assert spotting.sure(scores[5:8], 0.5, over=4) == (1, 3)  # before the recording, no digit is likely


def test_padding_has_no_effect_on_the_loss():
    model = small().eval()
    batch = collate([few("train")[row] for row in range(6)])
    other = batch.inputs.clone()
    for row, length in enumerate(batch.lengths.tolist()):
        other[row, length:] = 0.5
    assert not torch.equal(other, batch.inputs)
    assert torch.equal(spotting.loss(model, other, *batch[1:]), spotting.loss(model, *batch))
    alone = [spotting.loss(model, frames[None], torch.tensor([len(frames)]), torch.tensor([label]))
             for frames, label in (few("train")[row] for row in range(6))]  # fmt: skip
    mean = (torch.stack(alone) * batch.lengths).sum() / batch.lengths.sum()
    torch.testing.assert_close(spotting.loss(model, *batch), mean)


def test_the_command_trains_and_goes_on_with_its_weights(monkeypatch, capsys, tmp_path):
    weights = tmp_path / "weights.pt"
    monkeypatch.setattr(sys, "argv", ["keyword_spotting.py", "--epochs", "2", "--weights", str(weights)])
    monkeypatch.setattr(spotting, "build", small)
    monkeypatch.setattr(spotting, "recordings", few)
    spotting.main()
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "recordings: made up: no UNSPOOL_DATA_DIR"
    assert first[2].startswith("epoch 2: loss")
    spotting.main()
    again = capsys.readouterr().out.splitlines()
    assert again[1:5] == first[3:7]
    assert "after 100% of a recording" in again[4]
    assert any(line.startswith("us per frame: p50") for line in again)
    assert "times real time" in again[-1]


def test_a_model_in_training_does_not_listen():
    with pytest.raises(ValueError, match="dropout"):
        us.stream(small(), stepwise=(spotting.LogMel,))


@pytest.mark.skipif(not DATA, reason="no UNSPOOL_DATA_DIR")
def test_the_recordings_are_those_of_the_data_set(monkeypatch):
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(DATA))
    dataset = spotting.recordings("test")
    assert len(dataset) == 300
    assert dataset.input_size == spotting.WINDOW
