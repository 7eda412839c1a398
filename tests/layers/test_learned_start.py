"""`learn_initial_state=True`: sequences start, and start over, from parameters of the layer.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils import _pytree as pytree

import unspool as us
from tests.conformance.oracle import assert_close, leaves_of, map_leaves
from tests.layers.plain_loops import About, run_layer
from tests.refusal import refused
from unspool import interop
from unspool.data import ragged_from_padded

B, T, I, H = 5, 7, 3, 5  # noqa: E741
LENGTHS = [7, 0, 1, 4, 7]
VALID = torch.arange(T).unsqueeze(1) < torch.tensor(LENGTHS)
RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.4

LAYERS: dict[str, Callable[..., Any]] = {
    "LSTM": lambda **options: us.LSTM(I, H, **options),
    "LSTM of two layers both ways": lambda **options: us.LSTM(I, H, num_layers=2, bidirectional=True, **options),
    "GRU": lambda **options: us.GRU(I, H, num_layers=2, **options),
    "SimpleRNN": lambda **options: us.SimpleRNN(I, H, bidirectional=True, **options),
    "reverse": lambda **options: us.GRU(I, H, reverse=True, **options),
    "RNN of a cell": lambda **options: us.RNN(us.LSTMCell(I, H), **options),
    "RNN of a stack": lambda **options: us.RNN(us.StackedRNNCells([us.GRUCell(I, 4), us.LSTMCell(4, H)]), **options),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def learning(make: Callable[..., Any], **options: Any) -> Any:
    """Return a layer that has learned something."""
    layer = make(learn_initial_state=True, **options).double()
    for name, parameter in layer.named_parameters():
        if name.startswith("initial_"):
            nn.init.normal_(parameter)
    return layer


def learned(layer: Any) -> Any:
    """Return the parameters of the start in the structure of the layer's state."""
    found = [p for name, p in layer.named_parameters() if name.startswith("initial_")]
    if isinstance(layer, us.RNN):
        cell: Any = layer.cell
        start = cell.initial_state(1, dtype=torch.float64)
    else:
        start = us.LSTMState(found[0], found[0]) if isinstance(layer, us.LSTM) else found[0]
    return pytree.tree_unflatten(found, pytree.tree_flatten(start)[1])


def spread(layer: Any) -> Any:
    """Return the start of all sequences."""
    axis = 0 if isinstance(layer, us.RNN) else 1
    return map_leaves(lambda leaf: leaf.expand(*leaf.shape[:axis], B, *leaf.shape[axis + 1 :]), learned(layer))


def numbers(result: Any, layer: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """Return results and the gradients of inputs and all parameters."""
    values = leaves_of(result)
    loss = torch.stack([((k + 1) * value).sin().sum() for k, value in enumerate(values)]).sum()
    names = [name for name, _ in layer.named_parameters()]
    grads = torch.autograd.grad(loss, [*inputs, *layer.parameters()])
    return dict(zip([*map(str, range(len(values) + len(inputs))), *names], [*values, *grads], strict=True))


def inputs() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)


@every_layer
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("resets", [None, RESETS], ids=["no resets", "resets"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_sequences_start_and_start_over_from_the_parameters(make, backend, resets, lengths):
    layer, x = learning(make, backend=backend), inputs()
    about = About(torch.ones(T, B) if lengths is None else VALID, resets)
    expected = numbers(run_layer(layer, x, spread(layer), learned(layer), about), layer, x)
    for _ in range(2):  # the second call is repeated as the first one was
        assert_close(numbers(layer(x, lengths=lengths, resets=resets), layer, x), expected, x.dtype)
    with torch.no_grad():
        for _ in range(2):
            outputs = layer(x, lengths=lengths, resets=resets)[0]
            assert_close({"outputs": outputs}, {"outputs": expected["0"]}, x.dtype)


@every_layer
def test_a_state_that_is_passed_stands_in_its_place_until_a_reset(make):
    layer, x = learning(make), inputs()
    state = map_leaves(torch.randn_like, spread(layer))
    expected = run_layer(layer, x, state, learned(layer), About(VALID, RESETS))
    found = layer(x, state, lengths=LENGTHS, resets=RESETS)
    assert_close(numbers(found, layer, x), numbers(expected, layer, x), x.dtype)


@every_layer
def test_ragged_packed_and_unrolled_batches_start_there_too(make):
    layer, x = learning(make), inputs()
    outputs, state = layer(x, lengths=LENGTHS)
    batch = ragged_from_padded(x.detach().transpose(0, 1), torch.tensor(LENGTHS))
    ragged, ragged_state = layer(batch)
    kept = torch.tensor([0, 2, 3, 4])  # a packed sequence has no empty ones
    packed = pack_padded_sequence(x[:, kept], torch.tensor(LENGTHS)[kept], enforce_sorted=False)
    of_packed, packed_state = layer(packed)
    unrolled = copy.deepcopy(layer)
    unrolled.unroll = True
    axis = 0 if isinstance(layer, us.RNN) else 1
    close = torch.testing.assert_close
    close(ragged.to_padded()[0].transpose(0, 1), outputs)
    close(ragged_state, state)
    close(nn.utils.rnn.pad_packed_sequence(of_packed)[0], outputs[:, kept])
    close(packed_state, map_leaves(lambda leaf: leaf.index_select(axis, kept), state))
    close(unrolled(x, lengths=LENGTHS), (outputs, state))


def test_parameters_begin_with_the_start_of_the_cell():
    class Charged(us.Cell):
        def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Any:
            return {"charge": torch.full((batch_size, 2), 0.5, dtype=dtype, device=device)}

        def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            charge = state["charge"] * 0.5 + x
            return charge, {"charge": charge}

    layer = us.RNN(Charged({"charge": 2}), learn_initial_state=True)
    assert [(name, parameter.tolist()) for name, parameter in layer.named_parameters()] == [
        ("initial_charge", [[0.5, 0.5]])
    ]
    with torch.no_grad():
        layer.get_parameter("initial_charge").fill_(3.0)
    layer.reset_parameters()
    assert layer.get_parameter("initial_charge").tolist() == [[0.5, 0.5]]
    lstm = us.LSTM(I, H, proj_size=2, learn_initial_state=True)
    shapes = {name: list(p.shape) for name, p in lstm.named_parameters() if name.startswith("initial_")}
    assert shapes == {"initial_h": [1, 1, 2], "initial_c": [1, 1, H]}
    assert not any(bool(lstm.get_parameter(name).any()) for name in shapes)
    assert repr(lstm) == "LSTM(3, 5, proj_size=2, learn_initial_state=True)"


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (lambda batch: torch.randn(batch, 2), "is not the same for all sequences"),
        (lambda batch: torch.zeros(batch, 2, dtype=torch.long), "is of torch.int64, which has no gradients"),
        (lambda batch: nn.Parameter(torch.zeros(2)).expand(batch, 2), "so that the cell learns it by itself"),
    ],
)
def test_a_start_that_no_parameter_can_stand_for_is_refused(start, why):
    cell = us.GRUCell(I, 2)
    cell.initial_state = lambda batch, **form: start(batch)  # type: ignore[method-assign]
    before = torch.get_rng_state()
    with refused(ValueError, "learn_initial_state is True", "GRUCell.initial_state", why, "expected a start"):
        us.RNN(cell, learn_initial_state=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_start_without_a_batch_axis_is_refused():
    cell = us.GRUCell(I, 2)
    cell.initial_state = lambda batch, **form: (torch.zeros(batch, 2), torch.tensor(0.0))  # type: ignore[method-assign]
    with refused(ValueError, "GRUCell.initial_state(2) has shape []", "every leaf needs the batch as its first axis"):
        us.RNN(cell, learn_initial_state=True)


def test_leaves_of_one_name_are_refused():
    cell = us.StackedRNNCells([us.GRUCell(I, 2), us.GRUCell(2, 2)])
    cell.initial_state = lambda batch, **form: {"a.b": torch.zeros(batch, 2), "a b": torch.zeros(batch, 2)}  # type: ignore[method-assign]
    with refused(ValueError, "one name", "initial_a_b", "expected keys that differ"):
        us.RNN(cell, learn_initial_state=True)


def test_it_is_part_of_copies_state_dicts_and_files(tmp_path):
    layer, x = learning(LAYERS["LSTM of two layers both ways"]), inputs()
    expected = layer(x)[0]
    other = learning(LAYERS["LSTM of two layers both ways"])
    other.load_state_dict(layer.state_dict())
    interop.save(layer, tmp_path / "layer.safetensors")
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    loaded = [interop.load(tmp_path / "layer.safetensors"), torch.load(buffer, weights_only=False)]
    for twin in (other, copy.deepcopy(layer), *loaded):
        torch.testing.assert_close(twin(x)[0], expected)


def test_a_bidirectional_pair_learns_two():
    pair = us.Bidirectional(learning(LAYERS["RNN of a cell"]))
    x = inputs()
    forward, backward = pair.forward_layer, pair.backward_layer
    with torch.no_grad():
        nn.init.normal_(backward.get_parameter("initial_h"))
    outputs, states = pair(x, lengths=LENGTHS)
    expected = [run_layer(one, x, spread(one), learned(one), About(VALID)) for one in (forward, backward)]
    torch.testing.assert_close(outputs, torch.cat([output for output, _ in expected], -1))
    torch.testing.assert_close(states, tuple(state for _, state in expected))


@pytest.mark.parametrize("name", ["initial_h", "weight_hh_l0"])
def test_parametrised_tensors_are_read_once(name):
    calls: list[str] = []

    class Counted(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            calls.append(name)
            return value * 2

    layer, x = learning(LAYERS["LSTM"]), inputs()
    expected = copy.deepcopy(layer)
    with torch.no_grad():
        expected.get_parameter(name).mul_(2)
    nn.utils.parametrize.register_parametrization(layer, name, Counted())
    for options in ({}, {}, {"lengths": LENGTHS}):
        calls.clear()
        torch.testing.assert_close(layer(x, **options), expected(x, **options))
        assert len(calls) == 1


def test_a_start_of_another_dtype_is_refused():
    layer: Any = us.GRU(I, H, learn_initial_state=True)
    x = torch.randn(1, B, I)
    layer(x)
    layer.initial_h.data = layer.initial_h.data.double()
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"float64|Double|dtype"):
        layer(x)
