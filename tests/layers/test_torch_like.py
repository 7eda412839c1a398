"""SimpleRNN, LSTM and GRU against `torch.nn`: names, values, gradients, every layout; and lengths against rows alone.

Letters: B batch, T steps, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from tests.conformance.cases import covering
from tests.conformance.oracle import RELATIVE, map_leaves
from tests.refusal import refused
from unspool import GRU, LSTM, LSTMState, SimpleRNN

# PyTorch's own layers warn of this, once per process.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

B, T, I, H = 4, 6, 3, 5  # noqa: E741
F64 = torch.float64

KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "SimpleRNN": (SimpleRNN, nn.RNN, {}),
    "SimpleRNN relu": (SimpleRNN, nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (LSTM, nn.LSTM, {}),
    "LSTM projection": (LSTM, nn.LSTM, {"proj_size": 2}),
    "GRU": (GRU, nn.GRU, {}),
}
FACTORS: dict[str, list[Any]] = {
    "num_layers": [1, 2, 3], "bidirectional": [False, True], "bias": [True, False], "batch_first": [True, False]
}  # fmt: skip
OPTIONS = covering(FACTORS)


def make(name: str, dtype: torch.dtype = F64, **options: Any) -> tuple[Any, Any]:
    """Return our layer and PyTorch's with the same parameters."""
    ours, theirs, extra = KINDS[name]
    a, b = ours(I, H, dtype=dtype, **extra, **options), theirs(I, H, dtype=dtype, **extra, **options)
    a.load_state_dict(b.state_dict())
    return a, b


def random_hx(layer: Any, batch: int | None, dtype: torch.dtype = F64) -> Any:
    """Return a random initial state in PyTorch's layout; without a batch axis where `batch` is None."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    rows = () if batch is None else (batch,)
    h = torch.randn(count, *rows, getattr(layer, "proj_size", 0) or H, dtype=dtype)
    return (h, torch.randn(count, *rows, H, dtype=dtype)) if isinstance(layer, LSTM | nn.LSTM) else h


def close(actual: Any, expected: Any, dtype: torch.dtype = F64) -> None:
    def compare(a: Tensor, b: Tensor) -> None:
        assert a.shape == b.shape
        assert (a - b).abs().max() <= RELATIVE[dtype] * max(b.abs().max().item(), 1e-2)

    map_leaves(compare, tuple(actual) if isinstance(actual, tuple) else actual, expected)


@pytest.mark.parametrize("options", covering({"name": list(KINDS), **FACTORS}), ids=str)
def test_outputs_states_and_gradients_equal_torch_and_state_dicts_go_both_ways(options):
    ours, theirs = make(**options)
    shape = (B, T, I) if options["batch_first"] else (T, B, I)
    x, hx = torch.randn(shape, dtype=F64), random_hx(theirs, B)
    found = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        state = map_leaves(lambda leaf: leaf.clone().requires_grad_(), hx)
        output, final = layer(inputs, state)
        finals = list(final) if isinstance(final, tuple) else [final]
        starts = list(state) if isinstance(state, tuple) else [state]
        values = torch.cat([leaf.flatten() for leaf in (output, *finals)])
        loss = values @ torch.linspace(0, 1, len(values), dtype=F64)
        gradients = torch.autograd.grad(loss, [inputs, *starts, *layer.parameters()])
        found.append((output, *finals, *gradients))
    close(*found)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for key, value in ours.state_dict().items():
        assert value.shape == theirs.state_dict()[key].shape
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    close(ours(x)[0], theirs(x)[0])
    assert [[tuple(p.shape) for p in group] for group in ours.all_weights] == [
        [tuple(p.shape) for p in group] for group in theirs.all_weights
    ]


@pytest.mark.parametrize("name", KINDS)
def test_single_precision_equals_torch(name):
    ours, theirs = make(name, torch.float32, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, I)
    expected = theirs(x)
    actual = ours(x)
    close(actual[0], expected[0], torch.float32)
    close(actual[1], expected[1], torch.float32)


def test_positional_arguments_are_those_of_torch():
    # In torch.nn's code, but not in its documentation, GRU and RNN take proj_size before the device too.
    kinds: list[tuple[Any, Any, tuple[Any, ...]]] = [
        (LSTM, nn.LSTM, (I, H, 2, False, True, 0.25, True, 2, "cpu", F64)),
        (GRU, nn.GRU, (I, H, 2, False, True, 0.25, True)),
        (SimpleRNN, nn.RNN, (I, H, 2, "relu", False, True, 0.25, True)),
    ]
    for ours, theirs, arguments in kinds:
        a, b = ours(*arguments), theirs(*arguments)
        assert {k: (v.shape, v.dtype) for k, v in a.state_dict().items()} == {
            k: (v.shape, v.dtype) for k, v in b.state_dict().items()
        }
        for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional", "input_size", "hidden_size"):
            assert getattr(a, name) == getattr(b, name)
        a.flatten_parameters()


@pytest.mark.parametrize("options", covering({"name": list(KINDS), **FACTORS, "num_layers": [1, 2]}), ids=str)
def test_unbatched_input(options):
    ours, theirs = make(**options)
    x, hx = torch.randn(T, I, dtype=F64), random_hx(theirs, None)
    for state in (None, hx):
        actual, expected = ours(x, state), theirs(x, state)
        close(actual[0], expected[0])
        close(actual[1], expected[1])
    output, _ = ours(x, lengths=[2])
    close(output[:2], theirs(x[:2])[0])
    assert not output[2:].any()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [SimpleRNN, LSTM, GRU])
def test_the_last_output_of_unbatched_input(kind, batch_first):
    output, state = kind(I, H, batch_first=batch_first, return_sequences=False)(torch.randn(T, I))
    assert output.shape == (H,)
    assert all(leaf.shape == (1, H) for leaf in (state if isinstance(state, tuple) else [state]))


SEQUENCES = [torch.randn(n, I, dtype=F64) for n in (2, 6, 1, 4)]


@pytest.mark.parametrize("options", OPTIONS[::3], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_packed_sequences(name, options):
    ours, theirs = make(name, **options)
    for sorted_rows, given in product([True, False], [False, True]):
        rows = sorted(SEQUENCES, key=len, reverse=True) if sorted_rows else SEQUENCES
        packed = pack_sequence(rows, enforce_sorted=sorted_rows)
        hx = random_hx(theirs, len(rows)) if given else None
        (output, state), (expected, expected_state) = ours(packed, hx), theirs(packed, hx)
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, expected.batch_sizes)
        for name_of_order in ("sorted_indices", "unsorted_indices"):
            order, expected_order = getattr(output, name_of_order), getattr(expected, name_of_order)
            assert (order is None) == (expected_order is None)
            assert order is None or torch.equal(order, expected_order)
        close(output.data, expected.data)
        close(state, expected_state)


@pytest.mark.parametrize("name", KINDS)
def test_packed_sequences_have_gradients(name):
    ours, theirs = make(name, bidirectional=True)
    found = []
    for layer in (ours, theirs):
        padded = torch.ones(6, 4, I, dtype=F64).requires_grad_()
        packed = pack_padded_sequence(padded, [2, 6, 1, 4], enforce_sorted=False)
        output, _ = pad_packed_sequence(layer(packed)[0])
        found.append(torch.autograd.grad(output.square().sum(), [padded, *layer.parameters()]))
    close(*found)


@pytest.mark.parametrize("name", KINDS)
def test_packed_sequences_have_second_gradients(name):
    x, found = torch.randn(5, 3, I, dtype=F64), []
    for layer in make(name, bidirectional=True):
        given = x.clone().requires_grad_()
        wanted = [given, *layer.parameters()]
        output = layer(pack_padded_sequence(given, [2, 5, 1], enforce_sorted=False))[0].data
        gradients = torch.autograd.grad(output.square().sum(), wanted, create_graph=True)
        found.append(torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), wanted))
    close(*found)


@pytest.mark.parametrize("name", KINDS)
def test_lengths_equal_torch_on_each_row_alone(name):
    """PyTorch is the oracle here: each row is cut to its length and run through `torch.nn` by itself."""
    ours, theirs = make(name, num_layers=2, bidirectional=True, batch_first=True)
    lengths = [3, 0, 6, 1]
    x, hx = torch.randn(B, T, I, dtype=F64), random_hx(theirs, B)
    poisoned = x.clone()
    for b, n in enumerate(lengths):
        poisoned[b, n:] = float("nan")
    poisoned.requires_grad_()
    output, state = ours(poisoned, hx, lengths=lengths)
    states = state if isinstance(state, tuple) else (state,)
    starts = hx if isinstance(hx, tuple) else (hx,)
    loss = torch.zeros((), dtype=F64)
    for b, n in enumerate(lengths):
        start = map_leaves(lambda leaf, b=b: leaf[:, b : b + 1].contiguous(), hx)
        assert not output[b, n:].any()
        if n == 0:
            for leaf, given in zip(states, starts, strict=True):
                close(leaf[:, b], given[:, b])
            continue
        expected, final = theirs(x[b : b + 1, :n], start)
        close(output[b : b + 1, :n], expected)
        for leaf, other in zip(states, final if isinstance(final, tuple) else (final,), strict=True):
            close(leaf[:, b : b + 1], other)
        loss = loss + expected.square().sum()
    actual = torch.autograd.grad(output.square().sum(), [poisoned, *ours.parameters()])
    close(actual[1:], torch.autograd.grad(loss, list(theirs.parameters())))
    assert actual[0].isfinite().all()
    assert not actual[0][1].any()


@pytest.mark.parametrize("name", KINDS)
def test_lengths_equal_packing(name):
    ours, theirs = make(name, torch.float32, num_layers=2, bidirectional=True, batch_first=True)
    x, lengths = torch.randn(B, T, I), torch.tensor([2, 6, 1, 4])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, expected_state = theirs(packed)
    output, state = ours(x, lengths=lengths)
    close(output, pad_packed_sequence(expected, batch_first=True)[0], torch.float32)
    close(state, expected_state, torch.float32)
    ours.return_sequences = False
    last, features = ours(x, lengths=lengths)[0], output.shape[2] // 2
    close(last, torch.cat([output[range(B), lengths - 1, :features], output[:, 0, features:]], 1), torch.float32)
    close(ours(packed)[0], last, torch.float32)


@pytest.mark.parametrize("kind", [SimpleRNN, LSTM, GRU])
def test_reverse_layers_are_the_backward_half_of_a_bidirectional_one(kind):
    both = kind(I, H, bidirectional=True, batch_first=True)
    reverse = kind(I, H, reverse=True, batch_first=True)
    reverse.load_state_dict({k.removesuffix("_reverse"): v for k, v in both.state_dict().items() if "reverse" in k})
    x, lengths = torch.randn(B, T, I), [3, 0, 6, 1]
    assert torch.equal(reverse(x, lengths=lengths)[0], both(x, lengths=lengths)[0][..., H:])
    backwards = kind(I, H, go_backwards=True, batch_first=True)
    backwards.load_state_dict(reverse.state_dict())
    assert torch.equal(backwards(x, lengths=lengths)[0], reverse(x, lengths=lengths)[0].flip(1))


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_masks_and_resets_reach_every_layer_and_direction(kind):
    layer = kind(I, H, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(1, T, I)
    real = [0, 2, 3, 5]
    mask = torch.zeros(1, T, dtype=torch.bool)
    mask[0, real] = True
    output, state = layer(x, mask=mask)
    expected, expected_state = layer(x[:, real])
    torch.testing.assert_close(output[:, real], expected)
    torch.testing.assert_close(state, expected_state)
    # A reset cuts the sequence for one direction before the step, for the other one after it: so do two of them.
    halves = torch.cat([layer(x[:, :3])[0], layer(x[:, 3:])[0]], 1)
    resets = torch.zeros(1, T, dtype=torch.bool)
    resets[0, 3] = True
    forward = kind(I, H, batch_first=True)
    forward.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
    joined = torch.cat([forward(x[:, :3])[0], forward(x[:, 3:])[0]], 1)
    torch.testing.assert_close(forward(x, resets=resets)[0], joined)
    assert halves.shape == layer(x, resets=resets)[0].shape
    # A sequence without a batch axis has a mask and resets without one, with time first too.
    alone = kind(I, H, num_layers=2, bidirectional=True)
    alone.load_state_dict(layer.state_dict())
    for run in (layer, alone):
        torch.testing.assert_close(run(x[0], mask=mask[0])[0], output[0])
        torch.testing.assert_close(run(x[0], resets=resets[0].tolist())[0], layer(x, resets=resets)[0][0])
        with refused(ValueError, "mask has shape [1, 6]", "expected booleans of shape [T]", "mask.flatten()"):
            run(x[0], mask=mask)


def test_the_state_of_an_lstm_is_named():
    output, state = LSTM(I, H, num_layers=2)(torch.randn(T, B, I))
    assert isinstance(state, LSTMState)
    assert state.c.shape == (2, B, H)
    assert torch.equal(state.h[-1], output[-1])


@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_fewer_biases(kind):
    layer = kind(I, H, num_layers=2, recurrent_bias=False)
    assert [name for name in layer.state_dict() if "bias" in name] == ["bias_ih_l0", "bias_ih_l1"]
    assert layer(torch.randn(T, B, I))[0].shape == (T, B, H)
    assert layer.all_weights[0][-1] is layer.bias_ih_l0


def test_parameter_counts_of_the_published_models():
    def count(*layers: nn.Module) -> int:
        return sum(p.numel() for layer in layers for p in layer.parameters())

    def one_bias(kind: Any, *sizes: int, **options: Any) -> Any:
        return kind(*sizes, recurrent_bias=False, **options)

    head = nn.Linear(256, 10)
    assert count(one_bias(SimpleRNN, 28, 256), one_bias(SimpleRNN, 256, 256), head) == 206_858
    assert count(one_bias(LSTM, 28, 256), one_bias(LSTM, 256, 256), head) == 819_722
    assert count(GRU(28, 256), GRU(256, 128), nn.Linear(128, 10)) == 369_162
    assert count(one_bias(LSTM, 128, 128)) == 131_584


def test_activations_of_layers():
    layer = LSTM(I, H, activation="relu", recurrent_activation="hard_sigmoid")
    assert (layer(torch.randn(T, B, I))[0] >= 0).all()
    plain = GRU(I, H, reset_after=False)
    after = GRU(I, H)
    after.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(torch.ones(T, B, I))[0], after(torch.ones(T, B, I))[0])
    assert (SimpleRNN(I, H, activation=torch.sigmoid)(torch.randn(T, B, I))[0] > 0).all()


WRONG_OPTIONS: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({"num_layers": 0}, ValueError, ("num_layers is 0", "expected an int of at least 1")),
    ({"num_layers": 1.5}, ValueError, ("num_layers is 1.5", "expected an int")),
    ({"dropout": 1.5, "num_layers": 2}, ValueError, ("dropout is 1.5", "expected a probability of dropping in [0, 1]")),
    ({"dropout": -0.5}, ValueError, ("dropout is -0.5", "expected a probability")),
    ({"bidirectional": True, "reverse": True}, ValueError, ("bidirectional=True runs both ways", "no reverse")),
    ({"bidirectional": True, "go_backwards": True}, ValueError, ("bidirectional=True", "or go_backwards")),
    ({"hidden_size": 0}, ValueError, ("hidden_size is 0", "expected at least 1")),
    ({"input_dropout": 1.0}, ValueError, ("dropout is 1.0", "expected a probability of dropping in [0, 1)")),
    ({"recurrent_dropout": 2.0}, ValueError, ("recurrent_dropout is 2.0", "expected a probability")),
    ({"init": "he"}, ValueError, ("init is 'he'", "expected 'torch', 'keras'")),
    ({"activation": "tan"}, ValueError, ("activation is 'tan'", "expected one of tanh")),
    ({"num_steps": 3}, ValueError, ("num_steps is 3 with unroll=False", "expected a positive number with unroll=True")),
    ({"num_steps": 0, "unroll": True}, ValueError, ("num_steps is 0", "expected a positive number")),
    ({"num_steps": 2.5, "unroll": True}, TypeError, ("num_steps is 2.5", "expected an int, or None")),
    ({"pad_output": "same"}, ValueError, ("pad_output is 'same'", "expected 'zero' or 'repeat'")),
    ({"backend": "warp"}, ValueError, ("backend is 'warp'", "expected one of 'auto'")),
    ({"output": True}, TypeError, ("received ['output']", "among input_size", "recurrent_dropout", "go_backwards")),
    ({"bias": 0.5}, TypeError, ("bias is 0.5", "expected True or False")),
    ({"bidirectional": "yes"}, TypeError, ("bidirectional is 'yes'", "expected True or False")),
    ({"batch_first": 1}, TypeError, ("batch_first is 1", "expected True or False")),
    ({"unroll": 28}, TypeError, ("unroll is 28", "expected True or False")),
    ({"return_sequences": "no"}, TypeError, ("return_sequences is 'no'", "expected True or False")),
    ({"num_steps": True, "unroll": True}, TypeError, ("num_steps is True", "expected an int, or None")),
    ({"activation": nn.PReLU()}, TypeError, ("with parameters (activation.weight)", "Use RNN(", "Cell(...))")),
    ({"num_layers": True}, ValueError, ("num_layers is True", "expected an int of at least 1")),
    ({"dropout": "0.5", "num_layers": 2}, ValueError, ("dropout is '0.5'", "expected a probability")),
    ({"dropout": True, "num_layers": 2}, ValueError, ("dropout is True", "expected a probability")),
]


@pytest.mark.parametrize(("options", "error", "parts"), WRONG_OPTIONS)
@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_wrong_options_are_refused(kind, options, error, parts):
    with refused(error, *parts):
        kind(**{"input_size": I, "hidden_size": H, **options})


def zeros(*shape: int, **options: Any) -> Tensor:
    return torch.zeros(*shape, **options)


WRONG_CALLS: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], tuple[str, ...]]] = [
    (
        (zeros(T, B, I + 1),),
        {},
        ValueError,
        ("input of shape [6, 4, 4]", "expected [T, B, 3] or [T, 3]", "input_size=3"),
    ),
    ((zeros(I),), {}, ValueError, ("input of shape [3]", "expected [T, B, 3]")),
    ((zeros(1, T, B, I),), {}, ValueError, ("input of shape [1, 6, 4, 3]", "batch_first=False")),
    (([[0.0] * I] * T,), {}, ValueError, ("input of type list", "expected [T, B, 3]")),
    ((zeros(T, B, I).double(),), {}, TypeError, ("dtype torch.float64", "expected torch.float32")),
    ((zeros(T, B, I), zeros(1, B + 1, H)), {}, ValueError, ("hx", "[1, 5, 5]", "[1, 4, 5]")),
    ((zeros(T, B, I), zeros(2, B, H)), {}, ValueError, ("hx", "[2, 4, 5]", "[1, 4, 5]")),
    ((zeros(T, B, I),), {"lengths": [7, 1, 1, 1]}, ValueError, ("lengths[0] is 7", "in [0, 6]")),
    ((zeros(T, B, I),), {"lengths": [1.0] * B}, TypeError, ("dtype torch.float32", "expected integers")),
    ((zeros(T, B, I),), {"mask": zeros(B, T).bool()}, ValueError, ("mask has shape [4, 6]", "[6, 4] (time, batch)")),
    ((zeros(T, B, I),), {"resets": zeros(T, B)}, TypeError, ("resets has dtype", "expected booleans")),
]


@pytest.mark.parametrize(("arguments", "options", "error", "parts"), WRONG_CALLS)
@pytest.mark.parametrize("kind", [GRU, SimpleRNN])
def test_wrong_calls_are_refused(kind, arguments, options, error, parts):
    with refused(error, *parts):
        kind(I, H)(*arguments, **options)


def test_wrong_states_of_an_lstm_are_refused():
    layer, x = LSTM(I, H, batch_first=True, proj_size=2), zeros(B, T, I)
    with refused(ValueError, "hx has the structure [1, 4, 5]", "expected LSTMState(h=[1, 4, 2], c=[1, 4, 5])"):
        layer(x, zeros(1, B, H))
    with refused(ValueError, "hx has the shapes", "h=[1, 4, 5]", "expected LSTMState(h=[1, 4, 2], c=[1, 4, 5])"):
        layer(x, (zeros(1, B, H), zeros(1, B, H)))
    with refused(TypeError, "hx has dtype torch.float64", "expected torch.float32"):
        layer(x, (zeros(1, B, 2).double(), zeros(1, B, H)))
    with refused(ValueError, "expected [B, T, 3] or [T, 3] (batch_first=True, input_size=3)"):
        layer(zeros(B, T, 1))


def test_wrong_states_of_a_sequence_without_a_batch_are_refused():
    x = zeros(T, I)
    for hx in (zeros(1, B, H), zeros(H), torch.tensor(0.0)):
        with refused(ValueError, f"hx has the shapes {list(hx.shape)}", "expected [1, 5]"):
            GRU(I, H)(x, hx)
    with refused(ValueError, "hx has the structure str", "expected LSTMState(h=[1, 5], c=[1, 5])"):
        LSTM(I, H)(x, "zeros")


def test_a_packed_sequence_comes_alone():
    packed = pack_sequence([zeros(3, I), zeros(2, I)])
    for options in ({"lengths": [3, 2]}, {"mask": zeros(2, 3).bool()}, {"resets": zeros(2, 3).bool()}):
        with refused(ValueError, "lengths, mask or resets were given beside a PackedSequence", "expected the input"):
            GRU(I, H)(packed, **options)
    with refused(ValueError, "go_backwards with a PackedSequence would begin with padding", "expected reverse=True"):
        GRU(I, H, go_backwards=True)(packed)
    with refused(ValueError, "GRU received ragged or packed values of shape [5, 3]", "expected [N, 4]"):
        GRU(I + 1, H)(packed)


def test_printing_shows_what_is_not_default():
    assert repr(LSTM(I, H)) == "LSTM(3, 5)"
    text = repr(GRU(I, H, num_layers=2, bidirectional=True, batch_first=True, return_state=False))
    assert text == "GRU(3, 5, num_layers=2, batch_first=True, bidirectional=True, return_state=False)"
    text = repr(LSTM(I, H, proj_size=2, recurrent_dropout=0.1, input_dropout=0.2, activation=torch.relu, bias=False))
    assert text == ("LSTM(3, 5, proj_size=2, bias=False, input_dropout=0.2, activation=relu, recurrent_dropout=0.1)")
    text = repr(GRU(I, H, reset_after=False, recurrent_bias=False, unroll=True, num_steps=4, pad_output="repeat"))
    assert text == ("GRU(3, 5, pad_output='repeat', unroll=True, num_steps=4, reset_after=False, recurrent_bias=False)")
    assert repr(SimpleRNN(I, H, init="keras", backend="native")) == "SimpleRNN(3, 5, backend='native', init=keras)"


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_what_torch_prints_is_printed(name):
    kinds = {"RNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
    options: dict[str, Any] = {"num_layers": 2, "dropout": 0.5, "bidirectional": True, "bias": False}
    options |= {"proj_size": 2} if name == "LSTM" else {}
    want = getattr(nn, name)(I, H, **options)
    layer = kinds[name](I, H, **options)
    assert layer.extra_repr() == want.extra_repr()
    assert layer.proj_size == want.proj_size
