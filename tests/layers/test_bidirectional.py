"""The layer Bidirectional.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from tests.conformance.user_cells import IndependentCell, LayerNormLSTMCell, SumCell
from tests.refusal import refused
from unspool import GRU, LSTM, RNN, Bidirectional, GRUCell, HighwayCell, LSTMCell, SimpleRNN, StackedRNNCells

B, T, I, H = 3, 6, 2, 4  # noqa: E741
LENGTHS = [3, 0, 6]


def halves(layer: Bidirectional, x: Tensor, **call: Any) -> tuple[Tensor, Tensor]:
    return layer.forward_layer(x, **call)[0], layer.backward_layer(x, **call)[0]


MERGES: list[tuple[Any, Callable[..., Any]]] = [
    ("concat", lambda a, b: torch.cat([a, b], -1)),
    ("sum", lambda a, b: a + b),
    ("mul", lambda a, b: a * b),
    ("ave", lambda a, b: (a + b) / 2),
    (None, lambda a, b: (a, b)),
    (torch.maximum, torch.maximum),
]


@pytest.mark.parametrize("number", range(len(MERGES)))
@pytest.mark.parametrize("return_sequences", [True, False], ids=["sequences", "last"])
def test_merge_modes(return_sequences, number):
    (mode, merge), call = MERGES[number], ({"lengths": LENGTHS} if return_sequences != bool(number % 2) else {})
    layer = Bidirectional(LSTM(I, H, batch_first=True, return_sequences=return_sequences), merge_mode=mode)
    x = torch.randn(B, T, I)
    output, (state_fw, state_bw) = layer(x, **call)
    forward, backward = halves(layer, x, **call)
    torch.testing.assert_close(output, merge(forward, backward), rtol=0, atol=0)
    torch.testing.assert_close(state_fw, layer.forward_layer(x, **call)[1])
    torch.testing.assert_close(state_bw, layer.backward_layer(x, **call)[1])


@pytest.mark.parametrize("return_sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_it_equals_the_bidirectional_option(kind, return_sequences):
    both = kind(I, H, bidirectional=True, return_sequences=return_sequences)
    layer = Bidirectional(kind(I, H, return_sequences=return_sequences))
    layer.load_state_dict(
        {
            f"{'backward' if 'reverse' in name else 'forward'}_layer.{name.removesuffix('_reverse')}": value
            for name, value in both.state_dict().items()
        }
    )
    x = torch.randn(T, B, I)
    assert torch.equal(layer(x, lengths=LENGTHS)[0], both(x, lengths=LENGTHS)[0])


def test_initial_states_are_a_pair():
    layer = Bidirectional(RNN(GRUCell(I, H), batch_first=True))
    x, a, b = torch.randn(B, T, I), torch.randn(B, H), torch.randn(B, H)
    output, states = layer(x, (a, b), lengths=LENGTHS)
    assert torch.equal(output[..., :H], layer.forward_layer(x, a, lengths=LENGTHS)[0])
    assert torch.equal(output[..., H:], layer.backward_layer(x, b, lengths=LENGTHS)[0])
    assert torch.equal(states[0][1], a[1])
    assert torch.equal(states[1][1], b[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTM(I, H, num_layers=2),
        lambda: RNN(GRUCell(I, H)),
        lambda: RNN(nn.LSTMCell(I, H)),
        lambda: RNN(HighwayCell(GRUCell(I, I))),
        lambda: RNN(StackedRNNCells([LSTMCell(I, H), nn.GRUCell(H, H)])),
        lambda: RNN(LayerNormLSTMCell(I, H)),
        lambda: RNN(SumCell(I, H)),
    ],
    ids=["LSTM", "RNN", "torch.nn", "highway", "stack", "user", "no parameters"],
)
def test_the_copy_gets_parameters_of_its_own(make):
    layer = make()
    both = Bidirectional(layer)
    assert both.forward_layer is layer
    assert both.backward_layer is not layer
    assert both.backward_layer.reverse
    assert not layer.reverse
    own, copied = dict(layer.named_parameters()), dict(both.backward_layer.named_parameters())
    assert own.keys() == copied.keys()
    for name, parameter in own.items():
        assert copied[name] is not parameter
        if parameter.dim() == 2:
            assert not torch.equal(copied[name], parameter), name
    both(torch.randn(T, B, I))


def test_a_layer_that_runs_backwards_gets_a_forward_partner():
    layer = Bidirectional(GRU(I, H, reverse=True))
    assert layer.forward_layer.reverse
    assert not layer.backward_layer.reverse


def test_a_backward_layer_of_another_kind():
    forward, backward = LSTM(I, H, batch_first=True), RNN(GRUCell(I, 7), batch_first=True, reverse=True)
    layer = Bidirectional(forward, backward)
    x = torch.randn(B, T, I)
    output, states = layer(x, lengths=LENGTHS)
    assert torch.equal(output, torch.cat(halves(layer, x, lengths=LENGTHS), -1))
    assert states[1].shape == (B, 7)


def test_the_forward_layer_decides_what_is_returned():
    layer = Bidirectional(GRU(I, H, return_state=False, return_sequences=False))
    assert layer(torch.randn(T, B, I)).shape == (B, 2 * H)
    model = nn.Sequential(layer, nn.Linear(2 * H, 1))
    assert model(torch.randn(T, B, I)).shape == (B, 1)


@pytest.mark.parametrize("mode", ["concat", "sum", None])
def test_packed_sequences(mode):
    rows = [torch.randn(n, I) for n in (2, 6, 1)]
    layer = Bidirectional(GRU(I, H), merge_mode=mode)
    output, states = layer(pack_sequence(rows, enforce_sorted=False))
    padded = nn.utils.rnn.pad_sequence(rows)
    expected, expected_states = layer(padded, lengths=[2, 6, 1])
    for packed, other in zip(
        output if mode is None else [output], expected if mode is None else [expected], strict=True
    ):
        assert isinstance(packed, PackedSequence)
        torch.testing.assert_close(pad_packed_sequence(packed)[0], other)
    torch.testing.assert_close(states, expected_states)


def test_nested_outputs_are_merged_leaf_by_leaf():
    layer = Bidirectional(RNN(SumCell(I, 0)), merge_mode="sum")
    x = torch.randn(T, B, I)
    (first, second), _ = layer(x)
    (a, b), (c, d) = halves(layer, x)
    torch.testing.assert_close(first, a + c)
    torch.testing.assert_close(second, b + d)


def test_what_does_not_go_together_is_refused():
    layer = GRU(I, H)
    with refused(TypeError, "layer is GRUCell", "expected RNN, SimpleRNN, LSTM or GRU", "Wrap a cell in RNN(cell)"):
        Bidirectional(GRUCell(I, H))  # type: ignore[arg-type]
    with refused(TypeError, "backward_layer is LSTM", "expected RNN, SimpleRNN, LSTM or GRU"):
        Bidirectional(layer, nn.LSTM(I, H))  # type: ignore[arg-type]
    for mode in ("max", ["concat"], 3):
        with refused(
            ValueError, f"merge_mode is {mode!r}", "expected one of concat, sum, mul, ave, None or a function"
        ):
            Bidirectional(layer, merge_mode=mode)  # type: ignore[arg-type]
    with refused(ValueError, "layer is bidirectional itself", "expected a layer in one direction"):
        Bidirectional(GRU(I, H, bidirectional=True))
    with refused(ValueError, "backward_layer is bidirectional itself"):
        Bidirectional(layer, GRU(I, H, bidirectional=True))
    with refused(ValueError, "layer has go_backwards=True", "expected reverse=True instead"):
        Bidirectional(GRU(I, H, go_backwards=True))
    with refused(ValueError, "both have reverse=False", "Build backward_layer with reverse=True"):
        Bidirectional(layer, GRU(I, H))
    with refused(ValueError, "both have reverse=True", "expected one of each"):
        Bidirectional(GRU(I, H, reverse=True), GRU(I, H, reverse=True))
    with refused(ValueError, "layer has batch_first=False and backward_layer True", "expected the same for both"):
        Bidirectional(layer, GRU(I, H, reverse=True, batch_first=True))
    with refused(ValueError, "layer has return_sequences=True and backward_layer False"):
        Bidirectional(layer, GRU(I, H, reverse=True, return_sequences=False))


def test_a_copy_that_cannot_start_anew_is_refused():
    with refused(
        ValueError,
        "cannot give a copy of IndependentCell parameters of its own",
        "expected a method reset_parameters()",
        "or pass backward_layer",
    ):
        Bidirectional(RNN(IndependentCell(I, H)))
    layer = Bidirectional(RNN(IndependentCell(I, H)), RNN(IndependentCell(I, H), reverse=True))
    assert layer(torch.randn(T, B, I))[0].shape == (T, B, 2 * H)


def test_wrong_initial_states_are_refused():
    layer = Bidirectional(GRU(I, H))
    for hx, text in (([None] * 3, "[NoneType None, "), (torch.zeros(2, B, H), "[2, 3, 4]"), (0, "int 0")):
        with refused(ValueError, f"hx is {text}", "expected a pair of states, forward and backward"):
            layer(torch.zeros(T, B, I), hx)
    with refused(ValueError, "hx has the shapes [1, 3, 5]", "[1, 3, 4]"):
        layer(torch.zeros(T, B, I), (None, torch.zeros(1, B, H + 1)))


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
def test_outputs_of_different_sizes_are_not_broadcast(mode):
    layer = Bidirectional(GRU(I, H), GRU(I, 1, reverse=True), merge_mode=mode)
    with refused(ValueError, f"have shapes [6, 3, {H}] and [6, 3, 1]", "element by element", "merge_mode='concat'"):
        layer(torch.zeros(6, 3, I))


def test_printing_shows_the_merge_mode():
    assert "merge_mode='ave'" in repr(Bidirectional(GRU(I, H), merge_mode="ave"))
