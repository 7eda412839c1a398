"""How parameters start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from unspool import GRU, LSTM, GRUCell, HighwayCell, LSTMCell, SimpleRNN, SimpleRNNCell

I, H = 7, 16  # noqa: E741


def drawn(kind: Any, **options: Any) -> Any:
    torch.manual_seed(3)
    return kind(I, H, **options)


@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell])
def test_torch_family_is_uniform_in_one_over_root_h(kind):
    options = {"peephole": True, "proj_size": 5} if kind is LSTMCell else {}
    for name, parameter in drawn(kind, **options).named_parameters():
        bound = 1 / math.sqrt(H)
        assert parameter.abs().max() <= bound, name
        if parameter.dim() == 2:
            assert parameter.abs().max() > 0.9 * bound, name
            assert (parameter > 0).any() and (parameter < 0).any(), name  # noqa: PT018


@pytest.mark.parametrize(("layer", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU), (SimpleRNN, nn.RNN)])
def test_layers_start_as_torch_does(layer, theirs):
    ours = layer(I, H, num_layers=2, bidirectional=True)
    bound = 1 / math.sqrt(H)
    assert ours.state_dict().keys() == theirs(I, H, num_layers=2, bidirectional=True).state_dict().keys()
    assert all(p.abs().max() <= bound for p in ours.parameters())
    first, second = ours.weight_ih_l0, ours.weight_ih_l0_reverse
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("kind", "gates"), [(SimpleRNNCell, 1), (LSTMCell, 4), (GRUCell, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keras_family(kind, gates, dtype):
    cell = drawn(kind, init="keras", dtype=dtype)
    product = cell.weight_hh.T @ cell.weight_hh
    torch.testing.assert_close(product, torch.eye(H, dtype=dtype), atol=1e-5, rtol=0)
    bound = math.sqrt(6 / (I + gates * H))
    assert 0.9 * bound < cell.weight_ih.abs().max() <= bound
    assert not cell.bias_hh.any()
    expected = torch.zeros(gates * H, dtype=dtype)
    if kind is LSTMCell:
        expected[H : 2 * H] = 1
    assert torch.equal(cell.bias_ih, expected)


def test_keras_family_of_the_lstm_variants():
    cell = drawn(LSTMCell, init="keras", coupled=True, peephole=True, proj_size=5)
    expected = torch.zeros(3 * H)
    expected[:H] = 1  # the forget gate comes first where there is no input gate
    assert torch.equal(cell.bias_ih, expected)
    assert not cell.peephole_f.any()
    assert not cell.peephole_o.any()
    assert 0 < cell.weight_hr.abs().max() <= math.sqrt(6 / (5 + H))


@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell])
def test_a_callable_fills_each_parameter_by_name(kind):
    seen = []

    def fill(name, parameter):
        seen.append((name, tuple(parameter.shape)))
        parameter.fill_(len(seen))

    cell = kind(I, H, init=fill)
    assert seen == [(name, tuple(p.shape)) for name, p in cell.named_parameters()]
    assert [p.flatten()[0].item() for p in cell.parameters()] == [1, 2, 3, 4]
    assert all(p.requires_grad and p.is_leaf for p in cell.parameters())


def test_a_layer_hands_its_initialiser_on():

    def fill(name: str, parameter: nn.Parameter) -> None:
        parameter.fill_(0.5 if name == "bias_ih" else 0.25)

    layer = LSTM(I, H, num_layers=2, init=fill)
    for name, parameter in layer.named_parameters():
        assert (parameter == (0.5 if name.startswith("bias_ih") else 0.25)).all(), name
    keras: Any = GRU(I, H, init="keras", bidirectional=True)
    assert not keras.bias_ih_l0.any()
    assert not keras.bias_hh_l0_reverse.any()


@pytest.mark.parametrize("make", [lambda: LSTMCell(I, H), lambda: LSTM(I, H, 2), lambda: HighwayCell(GRUCell(H, H))])
def test_reset_parameters_draws_anew_and_the_seed_reproduces(make):
    module = make()
    torch.manual_seed(1)
    module.reset_parameters()
    first = [p.clone() for p in module.parameters()]
    module.reset_parameters()
    assert any(not torch.equal(p, q) for p, q in zip(first, module.parameters(), strict=True))
    torch.manual_seed(1)
    module.reset_parameters()
    assert all(torch.equal(p, q) for p, q in zip(first, module.parameters(), strict=True))


def test_highway_gate_starts_carrying():
    cell = HighwayCell(GRUCell(H, H, dtype=torch.float64), carry_bias=2.0)
    assert cell.weight_carry.dtype == torch.float64
    assert (cell.bias_carry == 2).all()
    assert 0 < cell.weight_carry.abs().max() <= math.sqrt(6 / (2 * H))
