"""Calls of accelerated modules beside calls of PyTorch's: layouts, packing, what is refused, derivatives.

What PyTorch's own tests (`test/test_nn.py`, `test/nn/test_packed_sequence.py`) ask of `nn.RNN`, `nn.LSTM` and `nn.GRU`.
Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

import unspool as us
from tests.conformance.cases import covering
from tests.conformance.oracle import leaves_of
from tests.layers.torch_pairs import F64, KINDS, B, H, I, T, assert_same, kinds, pair, plain, run, state_for, three

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

FLAGS = [False, True]


@pytest.mark.parametrize(
    "options", covering({"name": list(KINDS), "batch_first": FLAGS, "bidirectional": FLAGS, "bias": FLAGS}), ids=str
)
def test_batches_and_single_sequences_with_and_without_a_state(options):
    ours, theirs = pair(**options)
    for batch, given in product([B, None], [False, True]):
        rows = () if batch is None else (B,)
        shape = (*rows, T, I) if options["batch_first"] else (T, *rows, I)
        x, hx = torch.randn(shape, dtype=F64), state_for(theirs, batch) if given else None
        assert_same(run(ours, x, hx), run(theirs, x, hx))


@kinds
def test_no_state_is_a_state_of_zeros(name):
    ours, _ = pair(name, bidirectional=True)
    x = torch.randn(T, B, I, dtype=F64)
    zeros = pytree.tree_map(torch.zeros_like, state_for(ours))
    assert all(torch.equal(a, b) for a, b in zip(leaves_of(ours(x)), leaves_of(ours(x, zeros)), strict=True))


@three
def test_an_empty_batch(name):
    ours, theirs = pair(name)
    for module in (ours, theirs):
        output, state = module(torch.zeros(T, 0, I, dtype=F64))
        assert output.shape == (T, 0, H)
        assert {leaf.shape for leaf in leaves_of(state)} == {(2, 0, H)}
        output.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@three
def test_no_steps_are_allowed_here(name):
    """PyTorch refuses them. Here the outputs are empty and the state stays, as for a row of length 0."""
    ours, theirs = pair(name, dtype=torch.float32)
    x, hx = torch.zeros(0, B, I), state_for(theirs)
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        theirs(x, hx)
    assert us.accelerate(theirs)(x, hx)[0].shape == (0, B, H)
    output, state = ours(x, hx)
    assert output.shape == (0, B, H)
    assert all(torch.equal(a, b) for a, b in zip(leaves_of(state), leaves_of(hx), strict=True))


def of(module: Any, *leaves: torch.Tensor) -> Any:
    """Return the state that a module takes, of these leaves or of the first one twice."""
    return (*leaves, *leaves)[:2] if isinstance(module, nn.LSTM) else leaves[0]


x32, h32 = torch.zeros(T, B, I), torch.zeros(2, B, H)
WRONG: dict[str, Any] = {
    "no axes": lambda m: m(torch.zeros(())),
    "one axis": lambda m: m(torch.zeros(I)),
    "four axes": lambda m: m(x32[None]),
    "input size": lambda m: m(torch.zeros(T, B, I + 1)),
    "input size, single sequence": lambda m: m(torch.zeros(T, I + 1)),
    "input dtype": lambda m: m(x32.double()),
    "integers": lambda m: m(x32.long()),
    "batch": lambda m: m(torch.zeros(T, B + 4, I), of(m, h32)),
    "batch of the state": lambda m: m(x32, of(m, torch.zeros(2, B + 4, H))),
    "hidden size": lambda m: m(x32, of(m, torch.zeros(2, B, H + 3))),
    "hidden size of the second": lambda m: m(x32, of(m, h32, torch.zeros(2, B, H + 3)) if of(m, h32) is not h32 else 0),
    "layers of the state": lambda m: m(x32, of(m, torch.zeros(7, B, H))),
    "state of a single sequence": lambda m: m(x32, of(m, h32[:, 0])),
    "state of a batch": lambda m: m(x32[:, 0], of(m, h32)),
    "layers of a single sequence": lambda m: m(x32[:, 0], of(m, h32[:1, 0])),
    "batch first": lambda m: m(x32.transpose(0, 1), of(m, h32)),
    "another device": lambda m: m(x32.to("meta")),
    "state on another device": lambda m: m(x32, of(m, h32.to("meta"))),
    "no tensor": lambda m: m([[0.0] * I]),
    "None": lambda m: m(None),
    "no argument": lambda m: m(),
    "an unknown argument": lambda m: m(x32, length=[1]),
    "three positional arguments": lambda m: m(x32, None, [1] * B),
    "packed, state of another batch": lambda m: m(pack_sequence([x32[:, 0]]), of(m, h32)),
    "packed, input size": lambda m: m(pack_sequence([torch.zeros(T, I + 1)])),
}
MORE_IS_REFUSED = {
    ("LSTM", "packed, state of another batch"): "PyTorch's kernel for packed sequences reads the state unchecked",
    ("LSTM", "packed, input size"): "PyTorch's kernel for packed sequences reads the input unchecked",
}
"""Calls that `torch.nn` lets pass, and why not here."""


@pytest.mark.parametrize("case", WRONG)
@three
def test_wrong_calls_raise_what_torch_raises(name, case):
    ours, theirs = pair(name, dtype=torch.float32)
    if (name, case) in MORE_IS_REFUSED:
        WRONG[case](theirs)
        error: type[Exception] = RuntimeError
    else:
        with pytest.raises((RuntimeError, ValueError, TypeError, AttributeError)) as caught:
            WRONG[case](theirs)
        error = caught.type
    for module in (ours, us.accelerate(theirs)):
        with pytest.raises(error) as refused:
            WRONG[case](module)
        assert refused.type is error


@three
def test_states_of_another_dtype_are_refused_by_our_own_check(name):
    """PyTorch raises RuntimeError from within its kernels."""
    ours, theirs = pair(name, dtype=torch.float32)
    with pytest.raises(RuntimeError):
        theirs(x32, of(theirs, h32.double()))
    with pytest.raises(TypeError, match=r"hx has dtype torch\.float64; expected torch\.float32"):
        ours(x32, of(ours, h32.double()))


@pytest.mark.parametrize("way", covering({"name": list(KINDS), "enforce_sorted": FLAGS, "batch_first": FLAGS}), ids=str)
def test_packing_unpacking_and_their_gradients(way):
    name, enforce_sorted, batch_first = way.values()
    ours, theirs = pair(name, batch_first=batch_first, bidirectional=True)
    lengths = [5, 4, 1] if enforce_sorted else [1, 5, 4]
    x = torch.randn(B, T, I, dtype=F64) if batch_first else torch.randn(T, B, I, dtype=F64)
    for hx, total in product([None, state_for(theirs)], [None, T + 2]):
        found = []
        for module in (ours, theirs):
            given = x.clone().requires_grad_()
            packed = pack_padded_sequence(given, lengths, batch_first, enforce_sorted)
            output, state = module(packed, hx)
            padded, counted = pad_packed_sequence(output, batch_first, -1.0, total)
            assert counted.tolist() == lengths
            loss = padded.square().sum() + torch.cat([leaf.flatten() for leaf in leaves_of(state)]).sum()
            gradients = torch.autograd.grad(loss, [given, *module.parameters()])
            found.append({f"{k}": v for k, v in enumerate([padded, *leaves_of(state), *gradients])})
        assert_same(*found)


@three
def test_sequences_packed_from_a_list_and_each_alone(name):
    ours, theirs = pair(name, bidirectional=True)
    rows = [torch.randn(n, I, dtype=F64) for n in (2, 5, 1)]
    output, state = ours(pack_sequence(rows, enforce_sorted=False))
    padded, _ = pad_packed_sequence(output)
    for b, row in enumerate(rows):
        alone, final = theirs(row)
        torch.testing.assert_close(padded[: len(row), b], alone)
        torch.testing.assert_close([leaf[:, b] for leaf in leaves_of(state)], leaves_of(final))


@kinds
def test_tensors_that_are_views(name):
    ours, theirs = pair(name)
    x = torch.randn(T, B, 2 * I, dtype=F64)[..., ::2]
    hx = pytree.tree_map(lambda leaf: leaf.transpose(0, 1).contiguous().transpose(0, 1), state_for(theirs))
    for given in (x, x.flip(0), x[:1].expand(T, B, I), torch.randn(I, B, T, dtype=F64).permute(2, 1, 0)):
        expected = theirs(given, hx)
        torch.testing.assert_close(ours(given, hx), expected, rtol=1e-10, atol=1e-12)


@three
def test_many_backward_passes_through_one_graph(name):
    ours, _ = pair(name)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    loss = ours(x)[0].sum()
    first = torch.autograd.grad(loss, [x, *ours.parameters()], retain_graph=True)
    for _ in range(3):
        again = torch.autograd.grad(loss, [x, *ours.parameters()], retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@kinds
def test_second_derivatives(name):
    x, found = torch.randn(T, B, I, dtype=F64), []
    for module in pair(name, bidirectional=True):
        given = x.clone().requires_grad_()
        parameters = list(module.parameters())
        gradients = torch.autograd.grad(module(given)[0].square().sum(), [given, *parameters], create_graph=True)
        penalty = torch.stack([g.square().sum() for g in gradients]).sum()
        found.append({f"{k}": g for k, g in enumerate(torch.autograd.grad(penalty, [given, *parameters]))})
    assert_same(*found)


@pytest.mark.parametrize("use_reentrant", [False, True])
@three
def test_activation_checkpoints(name, use_reentrant):
    ours, theirs = pair(name, dropout=0.5)

    class Checkpointed(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x, hx):
            return checkpoint(self.inner, x, hx, use_reentrant=use_reentrant)

    # The reentrant kind cannot be differentiated by `grad`, so by `backward`.
    x, found = torch.randn(T, B, I, dtype=F64), []
    for module in (ours, theirs, Checkpointed(ours)):
        torch.manual_seed(1)
        module.zero_grad()
        given = x.clone().requires_grad_()
        module(given, None)[0].square().sum().backward()
        gradients: list[Any] = [leaf.grad for leaf in (given, *module.parameters())]
        found.append({f"{k}": gradient for k, gradient in enumerate(gradients)})
    assert_same(found[0], found[1])
    assert_same(found[2], found[1])


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@three
def test_anomaly_mode(name):
    ours, theirs = pair(name)
    x = torch.randn(T, B, I, dtype=F64)
    with torch.autograd.detect_anomaly(check_nan=True):
        assert_same(run(ours, x), run(theirs, x))
        given = x.clone().requires_grad_()
        with pytest.raises(RuntimeError, match="returned nan values"):
            (ours(given)[0] * float("nan")).sum().backward()


@three
def test_outputs_changed_in_place_are_noticed_by_the_backward_pass(name):
    """As by PyTorch's fused kernels, which keep the outputs too; not by its other ones, which stack copies of them."""
    ours, _ = pair(name)
    fused = nn.LSTM(I, H, 2)
    for module, dtype in ((ours, F64), (fused, torch.float32)):
        output, _ = module(torch.randn(T, B, I, dtype=dtype))
        output.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


@three
def test_modes_without_gradients(name):
    ours, theirs = pair(name)
    x = torch.randn(T, B, I, dtype=F64)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output, state = ours(x)
            torch.testing.assert_close((output, state), theirs(x), rtol=1e-10, atol=1e-12)
        assert not output.requires_grad
        assert output.is_inference() == (mode is torch.inference_mode)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)], ids=["bfloat16", "float16"]
)
@three
def test_half_precision(name, dtype, limit):
    """The engine has none: PyTorch's kernel runs what it can, the reference backend the rest."""
    theirs = plain(name, dtype=dtype)
    ours = us.accelerate(theirs, copy=True)
    x = torch.randn(T, B, I, dtype=dtype)
    packed = pack_padded_sequence(x, torch.tensor([5, 2, 3]), enforce_sorted=False)
    for given in (x, packed):
        torch.testing.assert_close(ours(given), theirs(given), rtol=0, atol=0)
        (decision,) = us.explain(ours, given).decisions
        assert decision.chosen == "torch.nn"
        assert decision.reasons["native"] == [f"the input is {dtype}; the engine has float32 and float64"]
    output, state = ours(x, lengths=[T] * B)
    expected, final = theirs(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=limit, atol=limit)
    torch.testing.assert_close(leaves_of(state), leaves_of(final), rtol=limit, atol=limit)
    assert {d.chosen for d in us.explain(ours, x, lengths=[T] * B).decisions} == {"reference"}


HALVES = [torch.bfloat16, torch.float16]


@three
def test_shapes_on_the_device_meta(name):
    theirs = plain(name).to("meta")
    x = torch.empty(60, B, I, dtype=F64, device="meta")
    assert us.accelerate(theirs, copy=True)(x)[0].shape == theirs(x)[0].shape


@pytest.mark.parametrize(
    ("name", "steps", "dtype"),
    [way.values() for way in covering({"name": ["RNN", "LSTM", "GRU"], "steps": [1, 60], "dtype": HALVES})],
)
def test_autocast_leaves_batches_without_lengths_to_torch(name, steps, dtype):
    """The engine does not run there, and the dtype of the results shall not depend on the number of steps."""
    theirs = plain(name, dtype=torch.float32)
    ours, x = us.accelerate(theirs, copy=True), torch.randn(steps, B, I)
    with torch.autocast("cpu", dtype):
        packed = pack_padded_sequence(x, torch.full((B,), steps))
        ragged = pack_padded_sequence(x, torch.arange(steps, steps - B, -1).clamp(min=1))
        for given in ((x,), (x, state_for(theirs)), (packed,), (ragged,), (x.to(dtype),)):
            torch.testing.assert_close(ours(*given), taken_by_torch(theirs, *given), rtol=0, atol=0)
        (decision,) = us.explain(ours, x).decisions
    assert decision.chosen == "torch.nn"
    assert "torch.autocast is on" in decision.reasons["native"][0]


def taken_by_torch(module: Any, *given: Any) -> Any:
    """Call a module of PyTorch's; with what it would cast to where this processor's oneDNN has no kernel for that."""
    try:
        return module(*given)
    except RuntimeError as error:
        assert "could not create a primitive descriptor" in str(error)  # noqa: PT017  (it need not be raised)
    dtype = torch.get_autocast_dtype("cpu")
    input, *states = given
    return module(input.to(dtype), *[tuple(leaf.to(dtype) for leaf in hx) for hx in states])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_an_lstm_on_any_processor(dtype):
    """PyTorch's own call ends in an error of oneDNN where that has no LSTM of the dtype."""
    theirs = plain("LSTM", dtype=torch.float32)
    ours = us.accelerate(theirs, copy=True)
    x = torch.randn(T, B, I, requires_grad=True)
    with torch.autocast("cpu", dtype):
        output, (h, c) = ours(x)
        output.float().square().sum().backward()
    assert {leaf.dtype for leaf in (output, h, c)} == {dtype}
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    expected, _ = theirs(x.detach())
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=2e-2)
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in ours.parameters())


# PyTorch traces its own checks of sizes with a warning.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:DeprecationWarning")
@three
def test_traces_hold_operations_of_torch(name):
    """`torch.jit.trace` sees no operation of the engine, so it is given PyTorch's, for any number of steps."""
    ours = us.accelerate(plain(name))
    x, longer = torch.randn(T, B, I, dtype=F64), torch.randn(2 * T, B + 1, I, dtype=F64)
    traced: Any = torch.jit.trace(ours, x)
    for given in (x, longer):
        torch.testing.assert_close(traced(given), ours(given), rtol=1e-10, atol=1e-12)
    with pytest.raises(us.BackendError, match=r"torch\.jit\.trace is recording"):
        torch.jit.trace(us.accelerate(ours, backend="native"), x)
