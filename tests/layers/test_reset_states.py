"""`reset_states=`: resets return to states that are given, one for each sequence and step.

Letters: B batch, T steps, N valid steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unspool as us
from tests.conformance.oracle import assert_close, leaves_of, map_leaves
from tests.layers.plain_loops import About, loop, run_layer
from tests.layers.test_learned_start import LENGTHS, RESETS, VALID, B, H, I, T, every_layer, inputs, numbers
from tests.refusal import refused
from unspool.data import ragged_from_padded

GAPS = torch.rand(T, B, generator=torch.Generator().manual_seed(5)) < 0.6


def start_of(layer: Any) -> Any:
    """Return zeros as the layer has them for one sequence."""
    if isinstance(layer, us.RNN):
        cell: Any = layer.cell
        return cell.initial_state(1, dtype=torch.float64)
    zeros = torch.zeros(len(layer.all_weights), 1, H, dtype=torch.float64)
    return us.LSTMState(zeros, zeros) if isinstance(layer, us.LSTM) else zeros


def states_for(layer: Any) -> Any:
    """Return a state for each step and sequence: NaN wherever there is no reset."""

    def draw(leaf: Tensor) -> Tensor:
        values = torch.randn(T, B, *(leaf.shape[1:] if isinstance(layer, us.RNN) else leaf[:, 0].shape)).double()
        values[~RESETS] = torch.nan
        return values.requires_grad_()

    return map_leaves(draw, start_of(layer))


def spread(layer: Any) -> Any:
    axis = 0 if isinstance(layer, us.RNN) else 1
    return map_leaves(lambda leaf: torch.cat([leaf] * B, axis), start_of(layer))


CASES: dict[str, tuple[dict[str, Any], Tensor]] = {
    "whole": ({}, torch.ones(T, B, dtype=torch.bool)),
    "lengths": ({"lengths": LENGTHS}, VALID),
    "a mask": ({"mask": GAPS}, GAPS),
    "both": ({"mask": GAPS, "lengths": LENGTHS}, GAPS & VALID),
}


@every_layer
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_reset_returns_to_the_state_that_stands_at_it(make, backend, case):
    options, valid = case
    layer, x = make(backend=backend).double(), inputs()
    given = states_for(layer)
    sources = [x, *leaves_of(given)]
    expected = numbers(
        run_layer(layer, x, spread(layer), start_of(layer), About(valid, RESETS, given)), layer, *sources
    )
    for _ in range(2):
        result = layer(x, resets=RESETS, reset_states=given, **options)
        assert_close(numbers(result, layer, *sources), expected, x.dtype)
    with torch.no_grad():
        outputs = layer(x, resets=RESETS, reset_states=given, **options)[0]
    assert_close({"0": outputs}, {"0": expected["0"]}, x.dtype)


@every_layer
def test_layouts_give_the_same_numbers(make):
    layer, x = make().double(), inputs().detach()
    given = map_leaves(torch.Tensor.detach, states_for(layer))
    outputs, state = layer(x, lengths=LENGTHS, resets=RESETS, reset_states=given)
    batch = ragged_from_padded(x.transpose(0, 1), torch.tensor(LENGTHS))
    cut = map_leaves(lambda leaf: ragged_from_padded(leaf.transpose(0, 1), torch.tensor(LENGTHS)).values, given)
    resets = ragged_from_padded(RESETS.t(), torch.tensor(LENGTHS)).values
    ragged, ragged_state = layer(batch, resets=resets, reset_states=cut)
    torch.testing.assert_close(ragged.to_padded()[0].transpose(0, 1), outputs)
    torch.testing.assert_close(ragged_state, state)
    layer.batch_first = True
    swapped = [map_leaves(lambda leaf: leaf.transpose(0, 1), tree) for tree in (x, RESETS, given)]
    first, first_state = layer(swapped[0], lengths=LENGTHS, resets=swapped[1], reset_states=swapped[2])
    torch.testing.assert_close(first.transpose(0, 1), outputs)
    torch.testing.assert_close(first_state, state)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_functions_take_them(backend):
    cell, x = us.LSTMCell(I, H).double(), inputs()
    layer = us.RNN(cell)
    given = states_for(layer)
    sources = [x, *leaves_of(given)]
    expected = numbers(loop(cell, x, spread(layer), start_of(layer), About(VALID, RESETS, given)), cell, *sources)
    options = {"resets": RESETS, "reset_states": given, "backend": backend}
    dynamic = us.dynamic_rnn(cell, x, LENGTHS, time_major=True, **options)
    assert_close(numbers(dynamic, cell, *sources), expected, x.dtype)
    outputs, state = us.static_rnn(cell, list(x), LENGTHS, **options)
    assert_close(numbers((torch.stack(outputs), state), cell, *sources), expected, x.dtype)
    outputs, state, states = us.dynamic_rnn(cell, x, LENGTHS, time_major=True, return_all_states=True, **options)
    assert_close(numbers((outputs, state), cell, *sources), expected, x.dtype)
    assert_close({"h": states.h[T - 1]}, {"h": state.h}, x.dtype)


@pytest.mark.parametrize("reverse", [False, True])
def test_of_several_resets_in_a_gap_the_last_one_computed_counts(reverse):
    class Sum(us.Cell):
        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return state + x, state + x

    mask = torch.tensor([True, False, False, False, True]).unsqueeze(1)
    resets = torch.tensor([False, True, True, False, False]).unsqueeze(1)
    given = torch.tensor([torch.nan, 10.0, 20.0, torch.nan, torch.nan]).view(5, 1, 1)
    layer = us.RNN(Sum(1), reverse=reverse)
    _, state = layer(torch.ones(5, 1, 1), mask=mask, resets=resets, reset_states=given)
    assert state.item() == (11.0 if reverse else 21.0)


def test_the_first_step_alone():
    """The form in which a policy acts: one step, and a state for those who begin anew."""
    layer, x = us.GRU(I, H), torch.randn(1, 2, I)
    state, given = torch.randn(1, 2, H), torch.randn(1, 2, 1, H)
    expected = layer(x, torch.stack([state[:, 0], given[:, 1, 0]], 1))
    found = layer(x, state, resets=[[False, True]], reset_states=given)
    torch.testing.assert_close(found, expected)


def test_a_sequence_without_a_batch_axis():
    layer, x = us.LSTM(I, H, num_layers=2), torch.randn(T, I)
    given = us.LSTMState(torch.randn(T, 2, H), torch.randn(T, 2, H))
    resets = RESETS[:, 0]
    outputs, _ = layer(x, resets=resets, reset_states=given)
    wide = map_leaves(lambda leaf: leaf.unsqueeze(1), given)
    expected, _ = layer(x.unsqueeze(1), resets=resets.unsqueeze(1), reset_states=wide)
    torch.testing.assert_close(outputs, expected[:, 0])


def test_a_bidirectional_layer_takes_a_pair():
    pair = us.Bidirectional(us.RNN(us.GRUCell(I, H)))
    x, given = torch.randn(T, B, I), (torch.randn(T, B, H), torch.randn(T, B, H))
    outputs, states = pair(x, lengths=LENGTHS, resets=RESETS, reset_states=given)
    parts = [
        layer(x, lengths=LENGTHS, resets=RESETS, reset_states=one)
        for layer, one in zip((pair.forward_layer, pair.backward_layer), given, strict=True)
    ]
    torch.testing.assert_close(outputs, torch.cat([output for output, _ in parts], -1))
    torch.testing.assert_close(states, tuple(state for _, state in parts))
    with refused(ValueError, "reset_states is [7, 5, 5]", "expected a pair of states"):
        pair(x, resets=RESETS, reset_states=given[0])


def test_an_accelerated_module_takes_them():
    module, x = us.accelerate(nn.LSTM(I, H)), torch.randn(T, B, I)
    layer = us.LSTM(I, H)
    layer.load_state_dict(module.state_dict())
    given = (torch.randn(T, B, 1, H), torch.randn(T, B, 1, H))
    options = {"resets": RESETS, "reset_states": given}
    torch.testing.assert_close(module(x, **options)[0], layer(x, **options)[0])


def test_the_engine_runs_them():
    x, given = torch.randn(T, B, I), torch.randn(T, B, 1, H)
    (decision,) = us.explain(us.GRU(I, H), x, lengths=LENGTHS, resets=RESETS, reset_states=given).decisions
    assert decision.chosen == "native"


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_run_that_is_verified_compares_their_gradients(lengths):
    layer, x = us.RNN(us.LSTMCell(I, H)).double(), inputs()
    given = map_leaves(lambda leaf: torch.randn(T, B, H).double().requires_grad_(), start_of(layer))
    with us.verified():
        layer(x, lengths=lengths, resets=RESETS, reset_states=given)[0].sum().backward()
    assert given.h.grad is not None


def test_what_does_not_fit_is_refused():
    layer, x = us.LSTM(I, H, num_layers=2, batch_first=True), torch.randn(B, T, I)
    leaf, resets = torch.randn(B, T, 2, H), RESETS.t()
    with refused(ValueError, "reset_states was given without resets", "expected both"):
        layer(x, reset_states=(leaf, leaf))
    with refused(ValueError, "reset_states[0] has shape [7, 5, 2, 5]", "expected [5, 7, ...] (batch, time)"):
        layer(x, resets=resets, reset_states=(leaf.transpose(0, 1), leaf))
    with refused(ValueError, "reset_states has the structure", "LSTMState"):
        layer(x, resets=resets, reset_states=leaf)
    with refused(ValueError, "reset_states has the shapes", "[7, 5, 2, 5]"):
        layer(x, resets=resets, reset_states=(leaf, leaf[:, :, :1]))
    with refused(TypeError, "reset_states has dtype torch.float64", "expected torch.float32"):
        layer(x, resets=resets, reset_states=(leaf, leaf.double()))
    with refused(TypeError, "reset_states[1] is None", "expected a tensor"):
        layer(x, resets=resets, reset_states=(leaf, None))
    batch = ragged_from_padded(x, torch.tensor(LENGTHS))
    with refused(ValueError, "reset_states has shape [5, 7, 5]", "expected [19, ...] (N, one for each step"):
        us.RNN(us.GRUCell(I, H))(batch, resets=torch.ones(19, dtype=torch.bool), reset_states=torch.randn(B, T, H))
    with refused(ValueError, "reset_states was given without resets"):
        us.dynamic_rnn(us.GRUCell(I, H), x, reset_states=torch.randn(B, T, H))


def test_both_directions_return_to_their_own_states():
    fw, bw, above = us.LSTMCell(I, H).double(), us.GRUCell(I, H).double(), us.GRUCell(2 * H, H).double()
    other = us.GRUCell(2 * H, H).double()
    x, drawn = torch.randn(T, B, I).double(), iter(torch.randn(9, T, B, H).double())
    states_fw, states_bw, high_fw, high_bw = us.LSTMState(next(drawn), next(drawn)), *(next(drawn) for _ in range(3))
    about: dict[str, Any] = {"resets": RESETS, "time_major": True}
    one, final_fw = us.dynamic_rnn(fw, x, LENGTHS, reset_states=states_fw, **about)
    two, final_bw = us.dynamic_rnn(bw, x, LENGTHS, reset_states=states_bw, reverse=True, **about)
    joined, ends = torch.cat([one, two], -1), [*final_fw, final_bw]
    both = {"reset_states_fw": states_fw, "reset_states_bw": states_bw}
    found = us.bidirectional_dynamic_rnn(fw, bw, x, LENGTHS, **about, **both)
    torch.testing.assert_close(leaves_of(found), [one, two, *ends])
    listed, *last = us.static_bidirectional_rnn(fw, bw, list(x), LENGTHS, resets=RESETS, **both)
    torch.testing.assert_close([torch.stack(listed), *leaves_of(last)], [joined, *ends])
    stacked = {"reset_states_fw": [states_fw, high_fw], "reset_states_bw": [states_bw, high_bw]}
    high, *_ = us.stack_bidirectional_dynamic_rnn([fw, above], [bw, other], x, LENGTHS, **about, **stacked)
    about |= {"reset_states_fw": high_fw, "reset_states_bw": high_bw}
    want, _ = us.bidirectional_dynamic_rnn(above, other, joined, LENGTHS, **about)
    torch.testing.assert_close(high, torch.cat(want, -1))
    with pytest.raises(ValueError, match="reset_states_bw has 1 entries; expected 2"):
        us.stack_bidirectional_dynamic_rnn([fw, above], [bw, other], x, resets=RESETS.T, reset_states_bw=[states_bw])
