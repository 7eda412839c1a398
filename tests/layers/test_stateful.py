"""`stateful=True`: a call starts in the state in which the last one has ended, as in Keras.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import unspool as us
from tests.conformance.oracle import leaves_of, map_leaves
from tests.layers.test_learned_start import LAYERS, every_layer
from tests.refusal import refused
from unspool.data import ragged_from_padded

B, T, I, H = 4, 5, 3, 5  # noqa: E741
CALLS = ([5, 0, 1, 4], [0, 3, 5, 2], [5, 5, 5, 5])
close = torch.testing.assert_close


def twins(make: Any, **options: Any) -> tuple[Any, Any]:
    """Return a stateful layer, and one with its parameters that is not."""
    layer = make(stateful=True, **options)
    plain = copy.deepcopy(layer)
    plain.stateful = False
    return layer, plain


def inputs(batch: int = B) -> Tensor:
    return torch.randn(T, batch, I)


def detached(state: Any) -> Any:
    return map_leaves(torch.Tensor.detach, state)


@every_layer
@pytest.mark.parametrize("grad", [False, True], ids=["no gradients", "gradients"])
def test_a_call_goes_on_where_the_last_one_has_ended(make, grad):
    """At each sequence's own last step, and without the gradients of the calls before."""
    layer, plain = twins(make)
    state = None
    with torch.set_grad_enabled(grad):
        for lengths in (*CALLS, None, None):
            x = inputs()
            expected, state = plain(x, None if state is None else detached(state), lengths=lengths)
            outputs, final = layer(x, lengths=lengths)
            close((outputs, final), (expected, state))
            if grad:
                found = torch.autograd.grad(outputs.sum(), list(layer.parameters()))
                close(found, torch.autograd.grad(expected.sum(), list(plain.parameters())))
    layer.reset_states()
    x = inputs()
    close(layer(x), plain(x))


@every_layer
def test_forms_of_batches_may_change_from_call_to_call(make):
    layer, plain = twins(make)
    x, lengths = inputs(), torch.tensor([5, 2, 1, 4])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    state = None
    for batch in (packed, ragged_from_padded(x.transpose(0, 1), lengths), x, packed):
        _, state = plain(batch, state)
        close(layer(batch)[1], state)


def test_a_sequence_without_a_batch_axis_is_a_batch_of_one():
    layer, plain = twins(LAYERS["LSTM of two layers both ways"])
    x = inputs(1)
    _, first = plain(x)
    expected = plain(x, first)
    layer(x[:, 0])
    close(layer(x), expected)
    layer.reset_states()
    layer(x)
    close(layer(x[:, 0]), (expected[0][:, 0], map_leaves(lambda leaf: leaf[:, 0], expected[1])))


def test_a_reset_returns_to_the_start_and_not_to_what_is_kept():
    layer, _ = twins(LAYERS["GRU"], learn_initial_state=True)
    with torch.no_grad():
        nn.init.normal_(layer.get_parameter("initial_h"))
    x = inputs()
    fresh = layer(x)[0]
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 1] = True
    outputs = layer(x, resets=resets)[0]
    close(outputs[:, 1], fresh[:, 1])
    assert not torch.allclose(outputs[:, 0], fresh[:, 0])


@every_layer
def test_a_state_that_is_passed_or_set_stands_in_its_place(make):
    layer, plain = twins(make)
    x = inputs()
    _, state = layer(x)
    given = map_leaves(torch.randn_like, state)
    close(layer(x, given), plain(x, given))
    expected = plain(x, given)
    plain_tuples = tuple(given) if isinstance(given, tuple) else given
    layer.reset_states(plain_tuples)
    for leaf in leaves_of(given):
        leaf.zero_()  # they were copied
    _, after = layer(x)
    close(after, expected[1])
    for leaf in leaves_of(after):
        leaf.detach().zero_()  # and so is what is kept
    close(layer(x), plain(x, expected[1]))


def test_another_batch_size_is_refused_and_the_state_stays():
    layer, plain = twins(LAYERS["LSTM"])
    x = inputs()
    _, state = layer(x)
    for other in (inputs(3), ragged_from_padded(torch.randn(3, T, I), torch.tensor([1, 2, 5])), x[:, 0]):
        with refused(ValueError, "LSTM is stateful", "the state of 4 sequences", "Call reset_states()", "or pass hx"):
            layer(other)
    with refused(ValueError, "input of shape [5, 4, 4]"):
        layer(torch.randn(T, B, 4))
    with refused(ValueError, "lengths[0] is 6"):
        layer(x, lengths=[6, 1, 1, 1])
    close(layer(x), plain(x, state))
    layer.reset_states()
    layer(inputs(3))


def test_a_failing_direction_leaves_both_states():
    class Failing(us.GRUCell):
        fails = False

        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            if self.fails:
                raise KeyError("a step")
            return super().forward(x, state)

    cell = Failing(I, H)
    pair = us.Bidirectional(us.GRU(I, H, stateful=True), us.RNN(cell, reverse=True, stateful=True))
    x = inputs()
    pair(x)
    expected = copy.deepcopy(pair)(x)
    cell.fails = True
    with pytest.raises(KeyError, match="a step"):
        pair(x)
    cell.fails = False
    close(pair(x), expected)


def test_bidirectional_layers_keep_two_states():
    """Each direction's own, as in Keras: backward, that after the first step."""
    pair = us.Bidirectional(us.RNN(us.LSTMCell(I, H), stateful=True))
    plain = us.Bidirectional(*(copy.deepcopy(one) for one in (pair.forward_layer, pair.backward_layer)))
    plain.forward_layer.stateful = plain.backward_layer.stateful = False
    x, state = inputs(), None
    for lengths in CALLS:
        expected, state = plain(x, state, lengths=lengths)
        close(pair(x, lengths=lengths), (expected, state))
    pair.reset_states(state)
    close(pair(x), plain(x, state))
    pair.reset_states()
    close(pair(x), plain(x))
    with refused(ValueError, "states is [2, 4, 5]", "expected a pair of states"):
        pair.reset_states(torch.zeros(2, B, H))  # pyright: ignore[reportArgumentType]
    with refused(ValueError, "hx is [2, 4, 5]", "expected a pair"):
        pair(x, torch.zeros(2, B, H))


def test_training_and_inference_share_one_state():
    layer, plain = twins(LAYERS["GRU"])
    x, state = inputs(), None
    for mode in (torch.inference_mode, torch.enable_grad, torch.no_grad, torch.enable_grad):
        layer.train(mode is torch.enable_grad)
        with torch.no_grad():
            expected, state = plain(x, state)
        with mode():
            outputs, _ = layer(x)
        close(outputs.detach().clone(), expected)
        if mode is torch.enable_grad:
            outputs.sum().backward()


def test_copies_have_the_state_and_state_dicts_have_not():
    layer, _ = twins(LAYERS["LSTM"])
    x = inputs()
    layer(x)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    assert layer.state_dict().keys() == us.LSTM(I, H).state_dict().keys()
    fresh = us.LSTM(I, H, stateful=True)
    fresh.load_state_dict(layer.state_dict())
    expected = layer(x)[0]
    for twin in copies:
        close(twin(x)[0], expected)
    assert not torch.allclose(fresh(x)[0], expected)
    mirrored = us.Bidirectional(us.RNN(us.GRUCell(I, H), stateful=True))
    mirrored(x)
    mirrored.forward_layer(x[:, :2], torch.zeros(2, H))
    us.Bidirectional(mirrored.forward_layer).backward_layer(x)  # starts with nothing kept


def test_the_state_moves_with_the_layer():
    layer, plain = twins(LAYERS["LSTM"])
    x = inputs()
    _, state = layer(x)
    layer.double()
    x, plain = x.double(), plain.double()
    close(layer(x), plain(x, map_leaves(torch.Tensor.double, state)))
    layer.to("meta")
    assert all(leaf.is_meta for leaf in leaves_of(layer(x.to("meta"))[1]))


def test_explain_leaves_no_state():
    layer, plain = twins(LAYERS["GRU"])
    us.explain(layer, inputs(3))
    x = inputs()
    close(layer(x), plain(x))


def test_printing_shows_it():
    assert repr(us.GRU(I, H, stateful=True)) == "GRU(3, 5, stateful=True)"


def test_what_does_not_fit_is_refused():
    with refused(ValueError, "reset_states was called on GRU", "expected stateful=True, or hx"):
        us.GRU(I, H).reset_states()
    layer = us.LSTM(I, H, stateful=True)
    x = inputs()
    _, state = layer(x)
    with refused(ValueError, "states has the structure [1, 4, 5]", "LSTMState"):
        layer.reset_states(state.h)
    with refused(ValueError, "states has the shapes", "[1, 4, 6]"):
        layer.reset_states((state.h, torch.zeros(1, B, 6)))
    with refused(TypeError, "states has dtype torch.float64"):
        layer.reset_states((state.h, state.c.double()))
    with refused(TypeError, "states is", "expected tensors only"):
        layer.reset_states((1.0, 2.0))
    with refused(ValueError, "states"):
        layer.reset_states(())
    layer.reset_states((torch.zeros(1, 0, H), torch.zeros(1, 0, H)))
    assert layer(x[:, :0])[0].shape == (T, 0, H)
    layer.reset_states(state)
    close(layer(x)[0], layer(x, state)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_refused_where_the_state_would_be_lost():
    layer, x = us.GRU(I, H, stateful=True), inputs()
    parts = "GRU is stateful", "expected a layer with stateful=False", "output, state = layer(x, state)"
    with refused(RuntimeError, *parts, "a program is recorded"):
        torch.export.export(layer, (x,), strict=False)
    with refused(RuntimeError, *parts, "a program is recorded"):
        torch.jit.trace(layer, x)
    with refused(RuntimeError, *parts, "a transform of torch.func"):
        torch.func.vmap(layer)(torch.randn(2, T, B, I))
    outputs = checkpoint(lambda: layer(x)[0], use_reentrant=False)
    assert isinstance(outputs, Tensor)
    with refused(RuntimeError, *parts, "torch.utils.checkpoint"):
        outputs.sum().backward()
