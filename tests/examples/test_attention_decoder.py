"""The decoder with attention inside of its step: compiled, exported, writing, trained by the command."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
import torch
from examples.attention_decoder import START, Read, Translator

import unspool as us
from examples import attention_decoder, seq2seq_attention

SMALL: dict[str, Any] = {"embedding": 6, "hidden": 8}


@pytest.fixture(autouse=True)
def made_up_data(monkeypatch):
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


def model_and_batch(rows: int = 5) -> tuple[Translator, tuple[torch.Tensor, ...]]:
    (batch,) = seq2seq_attention.batches(1, rows, longest=25)
    return attention_decoder.build(0, **SMALL).double(), (batch.source, batch.lengths, batch.target[:, :-1])


def test_the_step_runs_natively_with_the_numbers_of_a_plain_loop():
    model, (source, lengths, written) = model_and_batch()
    read, state = model.encode(source, lengths)
    x, cell = model.embedding(written), model.decoder.cell
    outputs = []
    for t in range(x.shape[1]):
        y, state = cell(x[:, t], state, read)
        outputs.append(y)
    real = (written != 0).unsqueeze(2)
    expected = torch.where(real, model.dense(torch.stack(outputs, 1)), model.dense.bias)
    torch.testing.assert_close(model(source, lengths, written), expected)
    if "no engine" not in us.info().engine:
        decisions = us.explain(model, source, lengths, written).decisions
        assert [decision.chosen for decision in decisions] == ["native"] * 3


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_it_compiles_whole():
    model, given = model_and_batch()
    torch._dynamo.reset()
    loss = torch.compile(model, backend="eager", fullgraph=True)(*given).square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = torch.autograd.grad(model(*given).square().sum(), list(model.parameters()))
    torch.testing.assert_close(gradients, expected)
    torch._dynamo.reset()


def fixed(source: torch.Tensor, lengths: torch.Tensor, written: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Give a batch the number of slots that every batch of an exported program has."""
    return torch.nn.functional.pad(source, (0, 32 - source.shape[1])), lengths, written.contiguous()


def test_it_exports_for_any_batch():
    model, given = model_and_batch()
    model = model.eval()
    rows, steps = torch.export.Dim("rows"), torch.export.Dim("steps")
    shapes = ({0: rows}, {0: rows}, {0: rows, 1: steps})
    program = torch.export.export(model, fixed(*given), dynamic_shapes=shapes).module()
    _, others = model_and_batch(7)
    with torch.no_grad():
        for x in (fixed(*given), fixed(*others)):
            torch.testing.assert_close(program(*x), model(*x))


def test_what_is_written_is_what_a_told_decoder_would_say_next():
    model, (source, lengths, _) = model_and_batch()
    written = model.write(source, lengths, 7)
    assert written.shape == (5, 7)
    told = torch.cat([torch.full((5, 1), START), written[:, :-1]], 1)
    assert torch.equal(model(source, lengths, told).argmax(2), written)


def test_padding_is_never_looked_at():
    model, (source, lengths, written) = model_and_batch()
    read, state = model.encode(source, lengths)
    spoilt = Read(torch.where(read.real.unsqueeze(2), read.outputs, 1e6), read.real)
    x = model.embedding(written)
    torch.testing.assert_close(model.decoder(x, state, constants=spoilt)[0], model.decoder(x, state, constants=read)[0])


def test_the_command_trains_and_writes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["attention_decoder", "--steps", "20"])
    monkeypatch.setattr(attention_decoder, "build", partial(attention_decoder.build, **SMALL))
    monkeypatch.setattr(attention_decoder, "batches", partial(attention_decoder.batches, longest=25))
    attention_decoder.main()
    assert "step 20: loss" in capsys.readouterr().out
