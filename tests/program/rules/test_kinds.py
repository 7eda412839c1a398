"""What writes in place is right or refused; what has no rule is refused by name and line."""

from __future__ import annotations

import pytest
import torch

from tests.program.rules.spellings import STATEMENTS, posed, step_of
from tests.program.steps import StepCell, run_program
from unspool.program.read import read_step
from unspool.program.source import TraceError


@pytest.mark.parametrize("text", STATEMENTS)
def test_writing_in_place_is_right_or_refused(text):
    cell, (x, h) = StepCell(step_of(text)), posed()
    want = cell(x, h)[0].detach()
    try:
        recording = read_step(cell, x, h, None)
    except TraceError:
        return
    (got,), _ = run_program(recording.program, recording, cell, x, h)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


REFUSED = {
    # random draws
    "h.bernoulli()": "bernoulli",
    "torch.rand_like(h) + h": "rand_like",
    "h + torch.randn(h.shape[0], 6)": "randn",
    "F.dropout(h, 0.5)": "dropout",
    "F.gumbel_softmax(h, dim=1)": "gumbel_softmax",
    # Python that depends on values
    "h * float(h[0, 0])": "__getitem__",
    "h * h.sum(1).tolist()[0]": "tolist",
    "h * h[:, 0].max().item()": "max",
    "h * h.sum().item()": "sum",
    "h.tolist()": "tolist",
    "h if h.sum() > 0 else x": "torch.where",
    "(torch.zeros(len(h), 6) + m.v).sum(0) * h": "does not treat the rows alike",
    "(torch.zeros(len(h), 6) + m.v).cumsum(0) * h": "does not treat the rows alike",
    "h if (h > 0).any() else x": "any",
    "h if bool((h > 0)[:, 0].all(0)) else x": "all",
    "x if h[:, :1].sum(1).squeeze(0).bool() else h": "bool",
    # what mixes rows
    "h + h.norm()": "norm",
    "h.flip(0)": "flip",
    "h.flip(0, 1)": "flip",
    "h.roll(1, 0)": "roll",
    "h.roll(1)": "roll",
    "h.cumsum(0)": "cumsum",
    "h @ h.t()": "torch.Tensor.t ",
    "torch.einsum('bi,ci->bc', h, h)": "einsum",
    "h.mean(0) + h": "mean",
    "h.sum() + h": "sum",
    "h.max() * h": "max",
    "h.std() * h": "std",
    "h[0] + h": "__getitem__",
    "h[torch.arange(h.shape[0] - 1, -1, -1)] + h": "",
    "h[h > 0].sum() + h": "__getitem__",
    "h.t().t()": "torch.Tensor.t ",
    "h.permute(1, 0).permute(1, 0)": "permute",
    "h.softmax(0)": "softmax",
    "F.layer_norm(h, h.shape)": "layer_norm",
    "F.batch_norm(h, None, None, training=True)": "its rows influence each other",
    "F.normalize(h, dim=0)": "normalize",
    "torch.cat([h, x])[:h.shape[0]]": "cat",
    # what there is no operation for
    "h.sort(1).values": "sort",
    "h.median(1, keepdim=True).values + h": "median",
    "torch.erfinv(h.tanh() * 0.9)": "erfinv",
    "h.index_select(1, torch.tensor([1, 0]))": "index_select",
    "h[:, torch.tensor([1, 0, 2, 3, 4, 5])]": "__getitem__",
    "F.conv1d(h.unsqueeze(1), m.v[:5].view(1, 1, 5), padding=2).squeeze(1)": "conv1d",
    "h + h.argmax(1, keepdim=True)": "argmax",
    "h + torch.argmin(h, 1, keepdim=True)": "argmin",
    "h.topk(2, 1).values.sum(1, keepdim=True) + h": "topk",
    "h.gather(1, h.max(1, keepdim=True).indices)": "indices of torch.Tensor.max",
    "h.max(1, keepdim=True)[1] * h": "indices of torch.Tensor.max",
    "F.one_hot(torch.min(h, dim=1)[1], 6) * h": "indices of torch.min",
    "h.norm(3, 1, True) + h": "norm",
    "h * h.shape[0]": "the number of rows",
    "torch.bmm(h.view(-1, 2, 3).transpose(0, 1), m.w.view(4, 3, 3)[:2]).transpose(0, 1).flatten(1)": "first axis",
    "torch.matmul(h, m.w.view(4, 3, 3).mT.reshape(2, 6, 3)).sum(0)": "matmul",
    "F.linear(h.repeat(1, 150).view(-1, 150, 6), m.w).mean(1)": "multiplies 150 vectors",
    "torch.einsum('nm,bmf->bnf', m.w[:2, :2], h.repeat(1, 50).view(-1, 2, 150)).flatten(1)": "multiplies 150 vectors",
    "torch.einsum('bii->bi', h.unsqueeze(2) * h.unsqueeze(1))": "einsum",
    "h.allclose(x)": "allclose",
    "torch.nn.InstanceNorm1d(2, track_running_stats=True)(h.view(-1, 2, 3)).flatten(1)": "running statistics",
    "h.to(torch.float32)": "Tensor.to ",
    "h.float().double()": "float",
    "h.long() + h": "long",
    "h.expand(2, -1, -1)[0]": "expand",
    # writing in place
    "torch.mul(h, x, out=torch.zeros(h.shape, dtype=h.dtype))": "out=",
    "h.add_(1)": "add_",
    "x.mul_(2) + h": "mul_",
    "F.relu(h, inplace=True)": "relu",
    "m.v.data.add_(0.0) + h": "",
    "h.__setitem__((slice(None), 0), 1.0)": "__setitem__",
    "m.v.data.__setitem__(0, 1.0)": "",
}


@pytest.mark.parametrize(("text", "name"), REFUSED.items(), ids=list(REFUSED))
def test_what_has_no_rule_is_refused_by_name_and_line(text, name):
    cell, (x, h) = StepCell(step_of(text)), posed()
    with pytest.raises(TraceError) as caught:
        read_step(cell, x, h, None)
    assert name in str(caught.value)
    assert "(<string>:1 in <lambda>" in str(caught.value)
