"""Every spelling that has a rule gives PyTorch's own numbers.

Letters: B batch, H features.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.backends.test_native import ROWS
from tests.program.steps import TRACED, H, Posed, StepCell, assert_same, operations, run_program
from unspool._nest import map_leaves
from unspool.program import rules
from unspool.program.trace import TraceError, find_function, trace

# Each works on x (the step's input), h (the state) and m (the cell, with parameters), all with H features.
UNARY = """
-h; torch.neg(h); h.neg(); torch.negative(h); h.negative()
torch.reciprocal(h + 3); (h + 3).reciprocal(); 1 / (h + 3)
torch.exp(h); h.exp(); torch.log(h.abs() + 1); (h.abs() + 1).log(); torch.log1p(h.abs()); h.abs().log1p()
torch.expm1(h); h.expm1(); torch.sqrt(h.abs() + 1); (h.abs() + 1).sqrt(); torch.rsqrt(h.abs() + 1)
(h.abs() + 1).rsqrt()
torch.square(h); h.square(); h ** 2; h.pow(2); torch.pow(h, 2.0); abs(h); h.abs(); torch.absolute(h)
torch.sign(h); h.sign(); torch.sgn(h)
torch.sigmoid(h); h.sigmoid(); F.sigmoid(h); torch.special.expit(h)
torch.tanh(h); h.tanh(); F.tanh(h); torch.relu(h); h.relu(); F.relu(h); F.relu6(4 * h)
F.leaky_relu(h); F.leaky_relu(h, 0.3); F.elu(h); F.elu(h, 0.7); F.gelu(h); F.gelu(h, approximate="tanh"); F.silu(h)
F.softplus(h); F.softplus(h, 2.0, 3.0); F.softsign(h); F.hardsigmoid(3 * h); F.hardtanh(h); F.hardtanh(h, -0.2, 0.4)
F.logsigmoid(h); torch.erf(h); h.erf(); torch.sin(h); h.sin(); torch.cos(h); h.cos()
h.clamp(-0.5, 0.5); torch.clamp(h, min=-0.1); h.clamp(max=0.1); torch.clip(h, -0.2, 0.2); h.clamp_min(0.1)
torch.clamp_max(h, 0.1); h.clip(max=0.3); F.dropout(h, 0.5, False); F.dropout(h, 0.0, True)
h.clone(); h.contiguous(); h.to(torch.float64); h.double(); h.type_as(x); h.to(x)
torch.nn.Sigmoid()(h); torch.nn.GELU()(h); torch.nn.Softplus()(h); torch.nn.Hardtanh(-0.3, 0.2)(h); torch.nn.ReLU()(h)
torch.nn.LeakyReLU(0.2)(h); torch.nn.ELU(0.3)(h); torch.nn.Identity()(h); torch.nn.Dropout(0.5).eval()(h)
"""

BINARY = """
h + x; x + h; torch.add(h, x); h.add(x); h + 1; 1 + h; h + m.v; m.v + h; h + m.one; h + m.v[0]
h - x; x - h; torch.sub(h, x); h.sub(x); torch.subtract(h, x); h - 2; 2 - h; m.v - h; torch.rsub(h, x)
h * x; torch.mul(h, x); h.mul(m.v); torch.multiply(h, x); 3 * h; h * 3.5; h * torch.tensor(2.0)
h / (x.abs() + 1); torch.div(h, m.positive); h.div(2); torch.divide(h, 4.0); torch.true_divide(h, m.positive)
2.0 / (h.abs() + 1); m.v / (h.abs() + 1)
torch.minimum(h, x); torch.maximum(h, m.v); torch.max(h, x); torch.min(h, x)
(h.abs() + 1) ** 1.5; torch.pow(h.abs() + 1, x); (h.abs() + 1).pow(m.positive); (h.abs() + 1) ** m.positive; 2 ** h
2.0 ** h; torch.pow(2.0, h); h ** 3; h ** -1
torch.where(h > x, h, x); torch.where(h >= 0, h, 0.0); torch.where(h < 0.1, 1.0, h); torch.where(h <= x, m.v, h)
torch.where((h > 0) & (x > 0), h, -h); torch.where((h > 0) | (x > 0), h, -h); torch.where(~(h > 0), h, 2 * h)
torch.where(torch.logical_not(h > 0), h, x); torch.where(torch.logical_and(h > 0, x < 0), h, x)
torch.where(torch.logical_or(h > 0, x < 0), h, x); torch.where(h == 0, x, h); torch.where(h != x, x, h)
torch.where(h.gt(0), h, x); torch.where(torch.lt(h, x), h, x); torch.where(h.ge(0), h, x)
torch.where(torch.le(h, 0), h, x)
torch.where(h.eq(x), h, x); torch.where(h.ne(x), h, x); torch.where(torch.greater(h, x), h, x)
torch.where(torch.less(h, x), h, x)
h.masked_fill(h > 0, -1.0); h.masked_fill(x > 0, 0.5); (h > 0).to(h.dtype) * x; (h > 0).double() * x
h * (x > 0); h * (h > 0)
torch.lerp(h, x, 0.3); h.lerp(x, 0.25); torch.lerp(h, x, torch.sigmoid(x)); torch.lerp(x, h, m.v); torch.lerp(h, x, h)
torch.addcmul(h, x, m.v); torch.addcmul(h, x, h, value=0.5); torch.addcmul(x, h, h)
h + h[:, :1]; h[:, 2:3] * x; h - h.mean(1, keepdim=True); x + h.sum(-1, keepdim=True); h * x[:, :1]; x[:, :1] - h
h + torch.zeros_like(h); h * torch.ones_like(x); h + torch.full_like(h, 0.5); h + h.new_zeros(H)
h + h.new_ones(h.shape)
h + torch.zeros(h.shape[0], H, dtype=h.dtype); h * torch.arange(6.0, dtype=h.dtype)
h + torch.eye(6, dtype=h.dtype)[0]
"""

REDUCTIONS = """
h.sum(1, keepdim=True).expand(-1, 6); h.sum(-1, keepdim=True) + h; h.mean(1, keepdim=True) + x
torch.sum(h, 1, keepdim=True) * x; torch.mean(h, dim=-1, keepdim=True) + h; h.sum(dim=(1,), keepdim=True) + h
h.amax(1, keepdim=True) + h; torch.amax(h, -1, keepdim=True) + h; h.amax(dim=1).unsqueeze(1) + x
h.sum(1)[:, None] + h; h.mean(1).unsqueeze(-1) * x; h.sum(1).view(-1, 1) * x; h.mean(1).reshape(h.shape[0], 1) + h
h.view(-1, 2, 3).sum(-1).sum(-1, keepdim=True) + h
h.view(-1, 2, 3).mean(2, keepdim=True).expand(-1, 2, 3).flatten(1)
h.view(-1, 3, 2).amax(-1, keepdim=True).expand(-1, 3, 2).reshape(-1, 6)
torch.softmax(h, 1); F.softmax(h, dim=-1); h.softmax(-1); h.softmax(dim=1); torch.log_softmax(h, 1)
F.log_softmax(h, dim=-1)
h.log_softmax(1); torch.nn.Softmax(1)(h); torch.nn.Softmax(-1)(h + x); h.view(-1, 2, 3).softmax(-1).flatten(1)
F.layer_norm(h, (6,)); F.layer_norm(h, (6,), m.v); F.layer_norm(h, (6,), m.v, m.positive)
F.layer_norm(h, (6,), None, m.v, 0.1)
F.layer_norm(h, [6], eps=1e-3); F.rms_norm(h, (6,)); F.rms_norm(h, (6,), m.v); F.rms_norm(h, (6,), m.v, 1e-2)
torch.nn.LayerNorm(6, dtype=torch.float64)(h); F.layer_norm(h.view(-1, 2, 3), (3,)).flatten(1)
"""

PRODUCTS = """
F.linear(h, m.w); F.linear(h, m.w, m.v); h @ m.w; torch.matmul(h, m.w); h.matmul(m.w.t()); torch.mm(h, m.w)
h.mm(m.w.T)
torch.addmm(m.v, h, m.w); torch.addmm(x, h, m.w); F.linear(torch.cat([h, x], 1), m.u); torch.cat([x, h], -1) @ m.w2
F.linear(x, m.w) + F.linear(h, m.w); F.linear(h, m.w.t()); F.linear(h, 2 * m.w); F.linear(h, m.w2[:6])
F.linear(h, m.u[:, 6:])
F.linear(x, m.w2).chunk(2, 1)[1] * h; F.linear(h, m.w2)[:, 6:]
h @ torch.linalg.qr(m.w)[0]; F.linear(h, m.w.exp()); F.linear(h * x, m.w) * F.linear(x, m.w)
"""

MOVES = """
h.chunk(2, 1)[0].sum(1, keepdim=True) + h; torch.cat(h.chunk(3, dim=-1)[::-1], 1)
torch.cat(torch.chunk(h, 2, 1), dim=1)
torch.cat(h.split(2, 1), -1); torch.cat(torch.split(h, [1, 2, 3], dim=1)[::-1], 1)
torch.cat(torch.tensor_split(h, 4, dim=1), 1)
torch.cat(h.split_with_sizes([4, 2], 1)[::-1], 1); torch.stack(h.unbind(1), 1); torch.stack(h.unbind(1)[::-1], dim=1)
torch.cat([h[:, 3:], x[:, :3]], 1); torch.cat((x[:, -1:], h[:, :-1]), dim=1); torch.hstack([h[:, :2], x[:, 2:]])
torch.concat([h[:, :4], h[:, :2]], 1); torch.concatenate([h[:, :4], x[:, :2]], 1)
torch.cat([h, x], 1)[:, 3:9]; h.narrow(1, 0, 3).sum(1, keepdim=True) + h; torch.narrow(torch.cat([h, x], 1), 1, 2, 6)
h.select(1, 2).unsqueeze(1) + h; h[:, 2].unsqueeze(1) * x; h[:, -1, None] + h; h[..., :2].mean(-1, keepdim=True) + h
h[:]
h.view(-1, 6); h.view(h.shape[0], 2, 3).view(h.shape[0], -1); h.reshape(-1, 3, 2).flatten(1)
h.unflatten(1, (2, 3)).flatten(1)
h.unsqueeze(1).squeeze(1); h[:, None].squeeze(1); h[:, None, :][:, 0]; h.view_as(x); h.reshape_as(x)
torch.flatten(h.view(-1, 2, 3), 1)
h.unsqueeze(2).expand(-1, 6, 4).mean(2); h.unsqueeze(1).expand(-1, 4, 6)[:, 1]; h[:, :1].expand_as(x)
h[:, :1].broadcast_to(h.shape)
(h.unsqueeze(2) * x.unsqueeze(1)).sum(2); (h.unsqueeze(1) * x.unsqueeze(2)).mean(2)
(h[:, :, None] + x[:, None, :]).amax(2)
(h.unsqueeze(1) * m.w).sum(2); (m.w * h.unsqueeze(2)).sum(2); (h.unsqueeze(1) - m.w).square().mean(-1)
h.view(-1, 2, 3)[:, 1].sum(1, keepdim=True) + h; h.view(-1, 2, 3).unbind(1)[0].mean(1, keepdim=True) * x
"""

IN_PLACE = """
y = h + 0; y += x; y -= 1; y *= h; y /= 2; r = y
y = h * 2; y.add_(x).mul_(0.5); y.tanh_(); r = y
y = h @ m.w; y.sigmoid_().neg_(); r = y
y = h + x; F.relu(y, inplace=True); r = y * 2
y = h + x; torch.relu_(y); r = y * 2
y = h + x; y.clamp_(-0.1, 0.2); r = y
y = h * 1; z = y * 3; y.exp_(); r = y + z
y = h * 2; y.copy_(x); r = y + h
y = h * 2; y.zero_(); r = y + h
y = h * 2; y.fill_(0.5); r = y + h
y = torch.zeros_like(h); y += h; r = y
y = torch.zeros_like(h); y += 1; r = y + h
y = torch.zeros(h.shape[0], 6, dtype=h.dtype); y[:, :3] = h[:, :3]; r = y
y = h * 2; y[:, 0] = 1.0; r = y
y = h * 2; z = y.view(-1, 2, 3); z += 1; r = y
y = h * 2; z = y[:, :3]; z.tanh_(); r = y
y = h * 2; z = y; z += 1; r = y + z
y = h * 2; y = F.dropout(y, 0.0, True, inplace=True); r = y
y = h * 2; y.detach_(); r = y
y = h * 1; a = y + 1; y += a; b = y * a; r = b
y = h * 1; z = y.clone(); y += 1; r = y * z
y = h * 1; z = y.contiguous(); y += 1; r = y * z
y = h * 1; z = y.to(y.dtype); y += 1; r = y * z
y = x * 2; y += 1; r = y * h
y = x * 2; z = y.view(-1, 6); z += 1; r = y * h
"""


def spellings(text: str) -> list[str]:
    return [part.strip() for line in text.strip().splitlines() for part in line.split(";") if part.strip()]


EXPRESSIONS = [*map(spellings, (UNARY, BINARY, REDUCTIONS, PRODUCTS, MOVES))]
NAMES = {"torch": torch, "F": F, "H": H}


def step_of(text: str) -> Any:
    """Make a step of an expression, or of statements that end in r = ..."""
    if " r = " in text:
        code = compile("\n".join(part.strip() for part in text.split(";")), "step.py", "exec")

        def run(x: Any, h: Any, m: Any) -> Any:
            local = {**NAMES, "x": x, "h": h, "m": m}
            exec(code, local)
            return local["r"]

        return run
    return eval(f"lambda x, h, m: {text}", NAMES)


def posed(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return tuple(torch.randn(batch, H, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("text", [text for group in EXPRESSIONS for text in group])
def test_a_spelling_gives_the_numbers_of_pytorch(text):
    cell, (x, h) = StepCell(step_of(text)), posed()
    traced = trace(cell, x, h, None)
    (got,), _ = run_program(traced.program, traced, cell, x, h)
    want, _ = cell(x, h)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("text", [text for group in EXPRESSIONS for text in group if "h.T" not in text])
def test_a_spelling_of_inputs_alone_leaves_the_loop(text):
    """With the input in place of the state: either a rule or a call to PyTorch."""
    function = step_of(text)
    cell, (x, h) = StepCell(lambda a, b, m: function(a * 0.5, a, m) + b), posed()
    traced = trace(cell, x, h, None)
    (got,), _ = run_program(traced.program, traced, cell, x, h)
    torch.testing.assert_close(got, cell(x, h)[0], rtol=1e-10, atol=1e-11)
    in_loop = [v.op for v in traced.program.live() if v.in_loop and v.op not in ("state", "expand")]
    assert in_loop == ["add", "mul"]  # the mul is the cell's own new state


@pytest.mark.parametrize("text", [line.strip() for line in IN_PLACE.strip().splitlines()])
def test_writing_in_place_is_right_or_refused(text):
    cell, (x, h) = StepCell(step_of(text)), posed()
    want = cell(x, h)[0].detach()
    try:
        traced = trace(cell, x, h, None)
    except TraceError:
        return
    (got,), _ = run_program(traced.program, traced, cell, x, h)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


def test_every_rule_is_met_by_a_spelling():
    """A rule without a test here is a rule that nobody has seen work."""
    reached: set[str] = set()

    class Noting(dict):
        def get(self, key, default=None):
            if key in self:
                reached.add(key)
            return super().get(key, default)

    before, rules.RULES = rules.RULES, Noting(rules.RULES)
    try:
        for text in [*(t for g in EXPRESSIONS for t in g), *(line.strip() for line in IN_PLACE.strip().splitlines())]:
            cell, (x, h) = StepCell(step_of(text)), posed()
            try:
                trace(cell, x, h, None)
            except TraceError:
                continue
    finally:
        rules.RULES = before
    elsewhere = set("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())  # torch.nn's cells: see `ROWS`
    aliases = {name for name in rules.RULES if any(rules.RULES[name] is rules.RULES[r] for r in reached)}
    assert rules.RULES.keys() - aliases - elsewhere == set()


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_a_cell_gives_its_own_numbers(row):
    posed = Posed(row)
    assert_same(posed.run(posed.trace.program), posed.eager())


def test_row_inputs_that_are_booleans():
    for row in ROWS:
        if "zoneout in training" in str(row):
            posed = Posed(row)
            got = posed.run(posed.trace.program)
            rows = posed.rows
            posed.rows = None if rows is None else map_leaves(lambda leaf: leaf != 0, rows)
            assert_same(got, posed.eager())


REFUSED = {
    "h.bernoulli()": "bernoulli",
    "torch.rand_like(h) + h": "rand_like",
    "h + torch.randn(h.shape[0], 6)": "randn",
    "F.dropout(h, 0.5)": "dropout",
    "h * float(h[0, 0])": "",
    "h * h.sum(1).tolist()[0]": "tolist",
    "h * h.sum().item()": "sum",
    "h + h.norm()": "norm",
    "h.flip(1)": "flip",
    "h.roll(1, 1)": "roll",
    "h.sort(1).values": "sort",
    "h.cumsum(1)": "cumsum",
    "h.std(1, keepdim=True) + h": "std",
    "h @ h.t()": "",
    "h.mean(0) + h": "mean",
    "h.sum() + h": "sum",
    "h[:, ::2].sum(1, keepdim=True) + h": "__getitem__",
    "h[0] + h": "__getitem__",
    "h[h > 0].sum() + h": "",
    "h.t().t()": "",
    "h.softmax(0)": "softmax",
    "torch.max(h, 1, keepdim=True).values + h": "max",
    "torch.erfinv(h.tanh() * 0.9)": "erfinv",
    "h.index_select(1, torch.tensor([1, 0]))": "index_select",
    "F.batch_norm(h, None, None, training=True)": "batch_norm",
    "h.tolist()": "tolist",
    "torch.einsum('bi,ij->bj', h, m.w)": "einsum",
    "torch.mul(h, x, out=torch.zeros(h.shape, dtype=h.dtype))": "out=",
    "h if h.sum() > 0 else x": "sum",
    "h if (h > 0).any() else x": "",
    "h + h.argmax(1, keepdim=True)": "argmax",
    "torch.bmm(h.unsqueeze(1), h.unsqueeze(2)).squeeze(1) + h": "bmm",
    "h.add_(1)": "add_",
    "x.mul_(2) + h": "mul_",
    "m.v.data.add_(0.0) + h": "",
    "h + torch.nn.functional.normalize(h)": "normalize",
    "torch.add(h, x, alpha=2)": "add",
    "h.floor()": "floor",
    "h // 1": "",
    "h % 1": "",
}


@pytest.mark.parametrize(("text", "name"), REFUSED.items(), ids=list(REFUSED))
def test_what_has_no_rule_is_refused_by_name_and_line(text, name):
    cell, (x, h) = StepCell(step_of(text)), posed()
    with pytest.raises(TraceError) as caught:
        trace(cell, x, h, None)
    assert name in str(caught.value)


def test_functions_are_found_by_name():
    assert find_function("torch.nn.functional.embedding") is F.embedding
    assert find_function("torch.Tensor.tanh") is torch.Tensor.tanh
    for name in ("os.system", "torch.nothing", "torch", "torch.nn"):
        with pytest.raises(TraceError):
            find_function(name)


def test_a_trace_touches_neither_random_state_nor_parameters():
    posed = Posed(TRACED[0])
    before = torch.get_rng_state()
    trace(posed.cell, posed.x, posed.state, None)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in posed.cell.parameters())


def test_operations_carry_the_users_line():
    cell, (x, h) = StepCell(lambda x, h, m: torch.tanh(h @ m.w) + x), posed()
    program = trace(cell, x, h, None).program
    sources = {v.source for v in program.live() if v.op in ("tanh", "product")}
    assert len(sources) == 1
    assert sources.pop().startswith("test_trace.py:")
    assert operations(program, "param") == ["transpose"]
