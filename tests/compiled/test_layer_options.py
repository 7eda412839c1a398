"""Initial states that are learned, kept or given at resets, in compiled, exported and transformed runs.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.export import Dim

import unspool as us
from tests.compiled.test_compile import Recorder, assert_same, compiled
from tests.compiled.test_compile import fresh_compiler as fresh_compiler
from tests.conformance.oracle import leaves_of, map_leaves

B, T, I, H = 3, 6, 3, 5  # noqa: E741
LENGTHS = torch.tensor([6, 0, 4])
MASK = torch.rand(T, B, generator=torch.Generator().manual_seed(1)) < 0.6
RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.5

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

LAYERS: dict[str, Any] = {
    "LSTM": lambda **options: us.LSTM(I, H, num_layers=2, bidirectional=True, **options),
    "RNN": lambda **options: us.RNN(us.LSTMCell(I, H), reverse=True, **options),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def learning(make: Any, **options: Any) -> Any:
    layer = make(learn_initial_state=True, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith("initial_"):
            nn.init.normal_(parameter)
    return layer


def states_for(layer: Any) -> Any:
    """Return a state for each step and sequence: NaN wherever there is no reset."""
    _, state = layer(torch.randn(1, 1, I))

    def draw(leaf: Tensor) -> Tensor:
        values = torch.randn(T, B, *leaf.shape[1:]) if isinstance(layer, us.RNN) else torch.randn(T, B, len(leaf), H)
        values[~RESETS] = torch.nan
        return values.requires_grad_()

    return map_leaves(draw, state)


@every_layer
def test_compiled_runs_learn_and_return_to_what_is_given(make):
    layer, x = learning(make), torch.randn(T, B, I, requires_grad=True)
    given = states_for(layer)
    recorder = Recorder()
    fast = compiled(layer, recorder)
    assert_same(layer, fast, [x, *layer.parameters()], x, lengths=LENGTHS, resets=RESETS)
    options = {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "reset_states": given}
    assert_same(layer, fast, [x, *leaves_of(given), *layer.parameters()], x, **options)
    assert recorder.runs == [1, 1]


@every_layer
@pytest.mark.parametrize("grad", [False, True], ids=["no gradients", "gradients"])
def test_compiled_stateful_layers_go_on(make, grad):
    layer = make(stateful=True)
    x = torch.randn(T, B, I)
    fast = compiled(layer)
    with torch.set_grad_enabled(grad):
        expected = [layer(x) for _ in range(3)]
        layer.reset_states()
        torch.testing.assert_close([fast(x) for _ in range(3)], expected)
        layer.reset_states(expected[0][1])
        torch.testing.assert_close(fast(x), expected[1])
        torch.testing.assert_close(layer(x), expected[2])
    with pytest.raises((ValueError, Unsupported), match=r"the state of 3 sequences"):
        fast(torch.randn(T, B + 1, I))


@every_layer
def test_exported_programs_learn_and_return_to_what_is_given(make):
    layer = learning(make)
    batch, steps = Dim("B"), Dim("T")
    given = map_leaves(torch.Tensor.detach, states_for(layer))
    options = {"lengths": LENGTHS, "mask": MASK, "resets": RESETS, "reset_states": tuple(given)}
    steps_first = {0: steps, 1: batch}
    shapes = {"input": steps_first, "lengths": {0: batch}, "mask": steps_first, "resets": steps_first}
    shapes["reset_states"] = (steps_first, steps_first)  # type: ignore[assignment]
    x = torch.randn(T, B, I)
    program = torch.export.export(layer, (x,), options, dynamic_shapes=shapes, strict=False).module()
    torch.testing.assert_close(program(x, **options), layer(x, **options))
    cut: dict[str, Any] = {
        name: map_leaves(lambda leaf: leaf[:4, :2], options[name]) for name in ("mask", "resets", "reset_states")
    }
    cut["lengths"] = torch.tensor([3, 4])
    torch.testing.assert_close(program(x[:4, :2], **cut), layer(x[:4, :2], **cut))


def test_transformed_runs_learn_and_return_to_what_is_given():
    layer = learning(LAYERS["RNN"])
    given = map_leaves(lambda leaf: leaf.detach().double(), states_for(layer))
    layer, x = layer.double(), torch.randn(2, T, B, I).double()
    resets = torch.stack([RESETS, RESETS & MASK])

    def run(x: Tensor, resets: Tensor) -> Tensor:
        return layer(x, mask=MASK, resets=resets, reset_states=given)[0]

    expected = torch.stack([run(x[k], resets[k]) for k in range(2)])
    torch.testing.assert_close(torch.func.vmap(run)(x, resets), expected)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x[0],))[0].sum()

    found = torch.func.grad(loss)(parameters)
    wanted = torch.autograd.grad(layer(x[0])[0].sum(), list(parameters.values()))
    torch.testing.assert_close(list(found.values()), list(wanted))
