"""`torch.func`: other parameters, ensembles, gradients per sample, forward mode; against loops of ordinary calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.utils._pytree import tree_leaves

import unspool as us
from tests.execution.exported import Dynamic, LeakyCell
from tests.refusal import refused
from unspool.backends import BackendError

LENGTHS = torch.tensor([6, 1, 0, 4])

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: us.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "GRU, the last output": lambda: us.GRU(3, 4, batch_first=True, return_sequences=False, reverse=True),
    "user's cell": lambda: us.RNN(LeakyCell(3, 4), batch_first=True, pad_output="repeat"),
    "accelerated nn.LSTM": lambda: us.accelerate(nn.LSTM(3, 4, batch_first=True)),
}


def inputs() -> Tensor:
    return torch.randn(4, 6, 3, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(tree_leaves(actual), tree_leaves(expected), rtol=1e-10, atol=1e-10)


def squares(tree: Any) -> Any:
    return sum(leaf.square().sum() for leaf in tree_leaves(tree))


@pytest.mark.parametrize("name", LAYERS)
def test_other_parameters(name):
    layer, other, x = LAYERS[name]().double(), LAYERS[name]().double(), inputs()
    given: dict[str, Tensor] = dict(other.named_parameters())
    received = functional_call(layer, given, (x,), {"lengths": LENGTHS})
    close(received, other(x, lengths=LENGTHS))
    actual = torch.autograd.grad(squares(received), list(given.values()))
    close(actual, torch.autograd.grad(squares(other(x, lengths=LENGTHS)), list(other.parameters())))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_an_ensemble(name, lengths):
    models, x = [LAYERS[name]().double() for _ in range(3)], inputs()
    parameters, buffers = stack_module_state(models)

    def one(parameters: Any, buffers: Any) -> list[Tensor]:
        return tree_leaves(functional_call(models[0], (parameters, buffers), (x,), {"lengths": lengths}))

    together = vmap(one)(parameters, buffers)
    for k, model in enumerate(models):
        close([leaf[k] for leaf in together], model(x, lengths=lengths))


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_per_sample(name, ragged):
    layer, x = LAYERS[name]().double(), inputs()
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    buffers = dict(layer.named_buffers())
    lengths = LENGTHS if ragged else None

    def loss(parameters: Any, x: Tensor, length: Tensor | None) -> Any:
        given = None if length is None else length.unsqueeze(0)
        return squares(functional_call(layer, (parameters, buffers), (x.unsqueeze(0),), {"lengths": given}))

    together = vmap(grad(loss), in_dims=(None, 0, 0 if ragged else None))(parameters, x, lengths)
    for row in range(len(x)):
        alone = layer(x[row : row + 1], lengths=LENGTHS[row : row + 1] if ragged else None)
        expected = torch.autograd.grad(squares(alone), list(layer.parameters()))
        close([together[key][row] for key in parameters], expected)


def test_masks_and_resets_of_each_sample():
    layer, x = us.LSTM(3, 4, batch_first=True).double(), inputs()
    mask, resets = torch.rand(2, 4, 6) > 0.4

    def one(x: Tensor, mask: Tensor, resets: Tensor) -> Tensor:
        return layer(x.unsqueeze(0), mask=mask.unsqueeze(0), resets=resets.unsqueeze(0))[0].squeeze(0)

    close(vmap(one)(x, mask, resets), layer(x, mask=mask, resets=resets)[0])


def test_nan_in_padding_reaches_no_gradient_of_any_sample():
    layer, x = us.GRU(3, 4, batch_first=True).double(), inputs()
    clean = x.masked_fill((torch.arange(6) >= LENGTHS.unsqueeze(1)).unsqueeze(2), 0.0)
    poisoned = x.masked_fill((torch.arange(6) >= LENGTHS.unsqueeze(1)).unsqueeze(2), torch.nan)
    each = vmap(grad(lambda x, length: squares(layer(x.unsqueeze(0), lengths=length.unsqueeze(0)))))
    close(each(poisoned, LENGTHS), each(clean, LENGTHS))


# Forward mode loads scripted functions of PyTorch's own, which it has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_mode_and_second_derivatives():
    layer, x = us.LSTM(3, 4, batch_first=True).double(), inputs()[:, :3]
    direction = torch.randn_like(x)

    def run(x: Tensor) -> Tensor:
        return layer(x, lengths=LENGTHS.clamp(max=3))[0]

    jacobian = torch.autograd.functional.jacobian(run, x)
    assert isinstance(jacobian, Tensor)
    along = torch.einsum("abcxyz,xyz->abc", jacobian, direction)
    close([jacrev(run)(x), jacfwd(run)(x)], [jacobian, jacobian])
    close(jvp(run, (x,), (direction,)), (run(x), along))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(run(forward_ad.make_dual(x, direction)))
        close(dual.tangent, along)
    expected = torch.autograd.functional.hessian(lambda x: squares(run(x)), x)
    close(hessian(lambda x: squares(run(x)))(x), expected)


def test_each_sample_may_have_masks_of_its_own():
    x = torch.randn(1, 6, 3).expand(4, 6, 3)
    for layer in (
        us.LSTM(3, 4, input_dropout=0.3, recurrent_dropout=0.5, batch_first=True),
        us.RNN(us.ZoneoutCell(us.GRUCell(3, 4), 0.5), batch_first=True),
    ):
        for randomness, alike in {"same": True, "different": False}.items():
            drawn = vmap(lambda x, run=layer: run(x.unsqueeze(0))[0], randomness=randomness)(x)
            assert torch.allclose(drawn[0], drawn[1]) == alike


def test_explain_tells_who_runs_what_each_sample_has_of_its_own():
    layer, told = us.GRU(3, 4, batch_first=True), []

    def one(x: Tensor, length: Tensor | None) -> Tensor:
        lengths = None if length is None else length.unsqueeze(0)
        told.append(us.explain(layer, x.unsqueeze(0), lengths=lengths).decisions[0])
        return x

    x = torch.randn(4, 6, 3)
    vmap(one)(x, LENGTHS)
    vmap(one, in_dims=(0, None))(x, None)
    assert [decision.chosen for decision in told] == ["masked", "reference"]
    assert all("vmap gives each sample its own" in told[0].reasons[name][0] for name in ("native", "reference"))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_backend_that_was_asked_for_says_that_it_cannot(backend):
    layer = us.GRU(3, 4, batch_first=True, backend=backend)
    with refused(BackendError, f"{backend}: lengths, mask or resets have no values here", "backend='auto'"):
        vmap(lambda x, n: layer(x.unsqueeze(0), lengths=n.unsqueeze(0))[0])(torch.randn(4, 6, 3), LENGTHS)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_a_transform_inside_of_compiled_code_is_refused():
    layer = us.GRU(3, 4, batch_first=True)
    function = torch.compile(vmap(lambda x: layer(x.unsqueeze(0))[0]), backend="eager", fullgraph=True)
    with pytest.raises(Unsupported, match="Leave the function that calls the transform uncompiled"):
        function(torch.randn(4, 6, 3))
    torch._dynamo.reset()


def test_functions_may_be_transformed_too():
    model = Dynamic(LeakyCell(3, 4)).double()
    x = inputs()
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    buffers = dict(model.named_buffers())
    loss: Callable[..., Any] = lambda p: squares(functional_call(model, (p, buffers), (x, LENGTHS)))  # noqa: E731
    expected = torch.autograd.grad(squares(model(x, LENGTHS)), list(model.parameters()))
    close(list(grad(loss)(parameters).values()), expected)
