"""What is done to modules from outside (hooks, norms, pruning, optimizers, files, threads), done to accelerated ones.

The oracle is the same done to PyTorch's module.
Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, parametrizations, prune, vector_to_parameters
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

import unspool as us
from tests.conformance.cases import covering
from tests.conformance.oracle import leaves_of
from tests.layers.torch_pairs import F64, B, H, I, T, assert_same, kinds, pair, plain, run, three
from unspool.layers import AcceleratedGRU, AcceleratedLSTM, AcceleratedRNN

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
]

X = torch.randn(T, B, I, dtype=F64, generator=torch.Generator().manual_seed(0))


def old_weight_norm(module: nn.Module, name: str) -> nn.Module:
    return torch.nn.utils.weight_norm(module, name)


def pruned(module: nn.Module, name: str) -> nn.Module:
    return prune.l1_unstructured(module, name, 0.5)


REWRITES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "weight_norm": (parametrizations.weight_norm, torch.nn.utils.parametrize.remove_parametrizations),
    "weight_norm, the old one": (old_weight_norm, torch.nn.utils.remove_weight_norm),
    "spectral_norm": (parametrizations.spectral_norm, torch.nn.utils.parametrize.remove_parametrizations),
    "spectral_norm, the old one": (old_spectral_norm, torch.nn.utils.remove_spectral_norm),
    "pruning": (pruned, prune.remove),
}


@pytest.mark.parametrize(
    "way",
    covering({"rewrite": list(REWRITES), "name": ["RNN", "LSTM", "GRU"], "weight": ["weight_hh_l0", "weight_ih_l1"]}),
    ids=str,
)
def test_rewritten_weights(way):
    """Three steps of training, then the rewriting removed: applied before accelerating and after."""
    rewrite, name, weight = way.values()
    apply, remove = REWRITES[rewrite]

    def build(accelerated: str) -> Any:
        torch.manual_seed(3)
        module = plain(name)
        if accelerated == "first":
            us.accelerate(module, backend="native")
        apply(module, weight)
        if accelerated == "last":
            us.accelerate(module, backend="native")
        return module

    found = []
    for accelerated in ("first", "last", "never"):
        torch.manual_seed(4)
        module = build(accelerated)
        assert weight not in dict(module.named_parameters())
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(X)[0].square().sum().backward()
            optimizer.step()
        module.eval()
        values = {"rewritten": module(X)[0]}
        remove(module, weight)
        assert weight in dict(module.named_parameters())
        found.append(values | {"removed": module(X)[0], "weight": getattr(module, weight)} | run(module, X))
    assert_same(found[0], found[2])
    assert_same(found[1], found[2])


@three
def test_tied_weights(name):
    """Two modules with one recurrent matrix: its gradient is that of both, and copies stay tied."""
    found = []
    for accelerated in (True, False):
        torch.manual_seed(0)
        model = nn.ModuleList([plain(name, 1), plain(name, 1)])
        model[1].weight_hh_l0 = model[0].weight_hh_l0
        if accelerated:
            us.accelerate(model, backend="native")
            twin = copy.deepcopy(model)
            assert twin[0].weight_hh_l0 is twin[1].weight_hh_l0
        torch.stack([layer(X)[0].square().sum() for layer in model]).sum().backward()
        assert len(list(model.parameters())) == 7
        found.append({key: p.grad for key, p in model.named_parameters()})
    assert_same(*found)


@kinds
def test_weights_that_are_no_leaves(name):
    """A weight that another network computes, by `functional_call` and put in the place of the parameter."""
    ours, theirs = pair(name)
    seed = torch.randn(1, dtype=F64, requires_grad=True)
    found = []
    for module in (ours, theirs):
        weights = {key: p.detach() * seed for key, p in module.named_parameters()}
        output, state = functional_call(module, weights, (X,))
        loss = output.square().sum() + leaves_of(state)[0].sum()
        values = {"output": output, "gradient": torch.autograd.grad(loss, seed, retain_graph=True)[0]}
        del module.weight_hh_l0
        module.weight_hh_l0 = weights["weight_hh_l0"]
        (gradient,) = torch.autograd.grad(module(X)[0].square().sum(), seed)
        found.append(values | {"in place of the parameter": gradient})
    assert_same(*found)


@three
def test_parameters_that_are_replaced_or_written_to(name):
    ours, theirs = pair(name)
    ours(X)
    for module in (ours, theirs):
        torch.manual_seed(7)
        module.weight_ih_l0 = nn.Parameter(torch.randn_like(module.weight_ih_l0))
        module.weight_hh_l1.data.mul_(0.5)
        vector_to_parameters(parameters_to_vector(module.parameters()) * 0.9, module.parameters())
    assert_same(run(ours, X), run(theirs, X))


@three
def test_a_weight_may_be_away_while_the_module_moves(name):
    ours, _ = pair(name)
    before, weight = ours(X)[0], ours.weight_hh_l0
    del ours.weight_hh_l0
    ours.float().double()
    ours.weight_hh_l0 = weight
    torch.testing.assert_close(ours(X)[0], before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias", "l0", ""])
@kinds
def test_frozen_parameters(name, frozen):
    ours, theirs = pair(name)
    for module in (ours, theirs):
        for key, parameter in module.named_parameters():
            parameter.requires_grad_(frozen not in key)
    assert_same(run(ours, X), run(theirs, X))
    with torch.no_grad():
        ours.requires_grad_(False)
    assert not ours(X)[0].requires_grad


@three
def test_hooks_see_what_they_see_in_torch(name):
    found = []
    for accelerated in (True, False):
        torch.manual_seed(0)
        module, seen = plain(name), []
        handles = [
            module.register_forward_pre_hook(lambda m, args: (args[0] * 2,)),
            module.register_forward_hook(lambda m, args, result: (result[0] + 1, result[1])),
            module.register_full_backward_pre_hook(lambda m, grads, seen=seen: seen.append(grads[0].clone())),
            module.register_full_backward_hook(
                lambda m, into, out, seen=seen: seen.extend([into[0].clone(), out[0].clone()])
            ),
            module.weight_hh_l0.register_hook(lambda grad, seen=seen: seen.append(grad.clone())),
        ]
        if accelerated:
            us.accelerate(module, backend="native")
        values = run(module, X)
        assert len(seen) == 4
        # The order in which the gradients of weight and input come is autograd's affair.
        seen.sort(key=lambda leaf: (leaf.shape, leaf.sum().item()))
        for handle in handles:
            handle.remove()
        found.append(values | {f"seen {k}": leaf for k, leaf in enumerate(seen)} | {"without": module(X)[0]})
    assert_same(*found)


@three
def test_pre_hooks_may_give_lengths(name):
    ours, _ = pair(name)
    expected = ours(X, lengths=[2, 0, 5])[0]
    ours.register_forward_pre_hook(lambda m, args, kw: (args, kw | {"lengths": [2, 0, 5]}), with_kwargs=True)
    assert torch.equal(ours(X)[0], expected)


@three
def test_replicas_for_data_parallel_runs(name):
    """As `torch.nn.parallel.replicate` makes them, whose parameters are no leaves."""
    ours, theirs = pair(name)
    found = []
    for module in (ours, theirs):
        replica = module._replicate_for_data_parallel()
        for key, parameter in module.named_parameters():
            setattr(replica, key, parameter * 1)
        assert type(replica) is type(module)
        replica(X)[0].square().sum().backward()
        found.append({"output": replica(X)[0]} | {key: p.grad for key, p in module.named_parameters()})
    assert_same(*found)


@kinds
def test_names_and_state_dicts(name):
    theirs: Any = nn.Sequential(plain(name), nn.Linear(2, 2))
    ours = us.accelerate(theirs, copy=True)
    for of in (nn.Module.named_modules, nn.Module.named_parameters, nn.Module.named_children, nn.Module.named_buffers):
        assert [key for key, _ in of(ours)] == [key for key, _ in of(theirs)]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata
    assert isinstance(ours[0], type(theirs[0]))
    assert [[p.shape for p in group] for group in ours[0].all_weights] == [
        [p.shape for p in group] for group in theirs[0].all_weights
    ]
    ours[0].flatten_parameters()
    for a, b in ((ours, theirs), (theirs, ours)):
        b.load_state_dict({key: torch.randn_like(value) for key, value in a.state_dict().items()}, strict=True)
        a.load_state_dict(b.state_dict(), strict=True, assign=True)
        torch.testing.assert_close(a[0](X)[0], b[0](X)[0], rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict({}, strict=True)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight_ih_l0"):
        ours.load_state_dict(theirs.state_dict() | {"0.weight_ih_l0": torch.zeros(1)})


@three
def test_hooks_of_state_dicts(name):
    ours, _ = pair(name)
    seen = []
    ours.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update({prefix + "extra": torch.ones(1)}))
    ours.register_load_state_dict_pre_hook(lambda m, state, prefix, *rest: seen.append(state.pop(prefix + "extra")))
    model = nn.ModuleDict({"rnn": ours})
    model.load_state_dict(model.state_dict())
    assert [leaf.item() for leaf in seen] == [1.0]


@kinds
def test_whole_modules_load_with_weights_only(name):
    """With the accelerated class named as safe, in the place of PyTorch's."""
    ours, theirs = pair(name)
    swapped = {"torch.nn.modules.rnn." + type(theirs).__name__: f"unspool.layers.{type(ours).__name__}"}
    needed = []
    for module in (theirs, ours):
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        needed.append(set(get_unsafe_globals_in_checkpoint(file)))
    assert needed[1] == {swapped.get(key, key) for key in needed[0]}
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(file, weights_only=True)
    file.seek(0)
    with safe_globals([AcceleratedRNN, AcceleratedLSTM, AcceleratedGRU]):
        loaded = torch.load(file, weights_only=True)
    assert type(loaded) is type(ours)
    assert_same(run(loaded, X), run(theirs, X))


@three
def test_dropout_goes_on_after_a_file(name):
    ours, _ = pair(name, dropout=0.5)
    loaded = pickle.loads(pickle.dumps(ours))
    assert not torch.equal(ours(X)[0], loaded(X)[0])
    found = []
    for module in (ours, loaded):
        torch.manual_seed(1)
        found.append(module(X)[0])
    assert torch.equal(*found)
    assert torch.equal(ours.eval()(X)[0], loaded.eval()(X)[0])


def test_states_of_modules_from_old_files():
    """PyTorch 1.7 had no `proj_size`."""
    ours, theirs = pair("LSTM")
    state = ours.__getstate__()
    del state["proj_size"]
    loaded = AcceleratedLSTM(I, H, 2)
    loaded.__setstate__(state)
    assert_same(run(loaded, X), run(theirs, X))


@three
def test_copies_are_apart(name):
    ours, theirs = pair(name)
    twin = copy.deepcopy(ours)
    assert type(twin) is type(ours)
    nn.init.zeros_(twin.weight_hh_l0)
    assert_same(run(ours, X), run(theirs, X))
    assert not torch.equal(twin(X)[0], ours(X)[0])


@three
def test_shared_memory(name):
    ours, theirs = pair(name)
    assert ours.share_memory() is ours
    assert all(p.is_shared() for p in ours.parameters())
    assert_same(run(ours, X), run(theirs, X))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam], ids=["SGD", "Adam"])
@kinds
def test_an_optimizer_goes_on_over_the_same_parameters(name, kind):
    """Made before the model is accelerated in the middle of training, with clipped gradients."""
    found = []
    for accelerated in (True, False):
        torch.manual_seed(0)
        module = plain(name)
        optimizer, norms = kind(module.parameters(), 1e-2), []
        for step in range(4):
            if accelerated and step == 2:
                us.accelerate(module, backend="native")
            optimizer.zero_grad()
            module(X)[0].square().sum().backward()
            norms.append(clip_grad_norm_(module.parameters(), 0.5))
            optimizer.step()
        found.append({"norms": torch.stack(norms)} | dict(module.named_parameters()))
    # Adam divides by the root of small squares: rounding grows.
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


@three
def test_modules_of_the_same_arguments_run_in_several_threads(name):
    pairs = [pair(name, 1, bidirectional=True) for _ in range(4)]
    inputs = torch.randn(4, T, B, I, dtype=F64)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: [run(pairs[k % 4][0], inputs[k % 4]) for _ in range(3)][-1], range(8)))
    for k, values in enumerate(found):
        assert_same(values, run(pairs[k % 4][1], inputs[k % 4]))
