"""The models in `examples/` train alike before and after `accelerate`, and a checkpoint of one is one of the other."""

from __future__ import annotations

import importlib
import io
import sys
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as us
from examples import crf_tagger, packed_classifier, seq2seq_attention
from unspool.layers import AcceleratedGRU, AcceleratedLSTM

STEPS = 6
SMALL: dict[str, Any] = {"embedding": 12, "hidden": 16}
BATCH: dict[str, Any] = {"size": 6, "longest": 25}
# What is allowed, as a share of the largest value: of a loss at every step, and of a parameter after all of them.
# Adam divides a gradient by its size, so that a parameter with a small one doubles its rounding errors.
TOLERANCES = {torch.float32: (2e-5, 1e-3), torch.float64: (1e-10, 1e-10)}


@pytest.fixture(params=[packed_classifier, crf_tagger, seq2seq_attention], ids=lambda m: m.__name__.partition(".")[2])
def example(request, monkeypatch) -> ModuleType:
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)  # made-up data
    return request.param


def losses(example: ModuleType, model: nn.Module, batches: list[Any]) -> Tensor:
    torch.manual_seed(0)  # for dropout
    return torch.tensor(list(example.train(model, batches)), dtype=torch.float64)


def saved(model: nn.Module) -> dict[str, Tensor]:
    """Write a checkpoint and read it."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_steps_of_training_are_the_same_steps(example, dtype):
    before = example.build(0, **SMALL).to(dtype)
    after = us.accelerate(before, copy=True)
    assert any(isinstance(module, AcceleratedGRU | AcceleratedLSTM) for module in after.modules())
    batches = example.batches(STEPS, **BATCH)
    start = before.state_dict()["embedding.weight"].clone()
    close = partial(torch.testing.assert_close, rtol=0)
    loss, parameter = TOLERANCES[dtype]
    expected = losses(example, before, batches)
    assert len(expected) == STEPS
    close(losses(example, after, batches), expected, atol=loss * float(expected.abs().min()))
    for name, value in before.state_dict().items():
        close(after.state_dict()[name], value, atol=parameter * float(value.abs().max()))
    assert not torch.equal(before.state_dict()["embedding.weight"], start)


def test_a_checkpoint_goes_into_an_accelerated_model_and_back(example):
    batch = example.batches(1, **BATCH)[0]
    plain, other = example.build(1, **SMALL).eval(), us.accelerate(example.build(2, **SMALL)).eval()
    checkpoint = saved(plain)
    other.load_state_dict(checkpoint)
    again = saved(other)
    assert list(again) == list(checkpoint)
    assert all(torch.equal(again[name], value) for name, value in checkpoint.items())
    torch.testing.assert_close(example.loss(other, batch), example.loss(plain, batch), rtol=2e-5, atol=0)
    back = example.build(3, **SMALL).eval()
    back.load_state_dict(again)
    assert torch.equal(example.loss(back, batch), example.loss(plain, batch))


def test_a_checkpoint_of_a_trained_accelerated_model_goes_back(example):
    batches = example.batches(3, **BATCH)
    model = us.accelerate(example.build(0, **SMALL))
    losses(example, model, batches)
    checkpoint = saved(model)
    back = example.build(1, **SMALL)
    back.load_state_dict(checkpoint)
    assert all(torch.equal(saved(back)[name], value) for name, value in checkpoint.items())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in checkpoint.items())
    again = us.accelerate(back, copy=True).eval()
    assert torch.equal(example.loss(again, batches[0]), example.loss(model.eval(), batches[0]))


def test_a_batch_is_the_same_at_every_call_and_its_lengths_differ(example):
    (first,), (again,) = (example.batches(1, **BATCH) for _ in range(2))
    assert all(map(torch.equal, first, again))
    assert len(set(first.lengths.tolist())) > 1
    assert torch.equal(first.lengths, (first[0] != 0).sum(1))


def test_the_chain_sums_over_all_paths_and_finds_the_best():
    """The oracle is a list of all paths."""
    crf, lengths = crf_tagger.CRF(3).double(), [4, 1, 3]
    scores, real = torch.randn(3, 4, 3, dtype=torch.float64), torch.arange(4) < torch.tensor(lengths).unsqueeze(1)
    found, best = crf.log_partition(scores, real), crf.best(scores, real)
    for row, length in enumerate(lengths):
        paths = torch.cartesian_prod(*[torch.arange(3)] * length).reshape(-1, length)
        totals = crf.score(scores[row, :length].expand(len(paths), -1, -1), paths, torch.ones_like(paths).bool())
        torch.testing.assert_close(found[row], totals.logsumexp(0))
        assert best[row, :length].tolist() == paths[totals.argmax()].tolist()
        padded = torch.nn.functional.pad(paths, (0, 4 - length))
        whole = crf.score(scores[row].expand(len(paths), -1, -1), padded, real[row].expand(len(paths), -1))
        torch.testing.assert_close(whole, totals)


def test_what_is_written_is_what_a_told_decoder_would_say_next():
    model = us.accelerate(seq2seq_attention.build(0, **SMALL).double())
    (batch,) = seq2seq_attention.batches(1, **BATCH)
    written = model.write(batch.source, batch.lengths, 7)
    told = torch.cat([torch.full((len(written), 1), seq2seq_attention.START), written[:, :-1]], 1)
    assert torch.equal(model(batch.source, batch.lengths, told).argmax(2), written)


@pytest.mark.parametrize("options", [[], ["--accelerate"]], ids=["plain", "accelerated"])
def test_the_command_trains_and_says_what_on(example, options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [example.__name__, "--steps", "20", *options])
    monkeypatch.setattr(example, "build", partial(example.build, **SMALL))
    batches = example.batches
    monkeypatch.setattr(example, "batches", lambda count, *_, **options: batches(count, 4, longest=12, **options))
    example.main()
    printed = capsys.readouterr().out
    assert "made up: no UNSPOOL_DATA_DIR" in printed
    assert "step 20: loss" in printed


def test_plain_training_needs_nothing_of_unspool(example, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "unspool"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, example.__name__)
    module = importlib.import_module(example.__name__)
    assert module is not example
    with pytest.raises(ImportError):
        importlib.import_module("unspool")
    model = module.build(0, embedding=4, hidden=4)
    assert len(list(module.train(model, module.batches(2, 2, longest=9)))) == 2
