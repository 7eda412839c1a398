"""PyTorch's own cases for its recurrent modules, run over accelerated ones; and the same checks as PyTorch's.

`torch.testing._internal.common_modules.module_db` is the table of cases, PyTorch's `test/test_modules.py` the list of
checks (`CHECKS` says what became of each). The oracle is PyTorch's module with the same parameters.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

import unspool as us
from tests.layers.torch_cases import (
    CELLS,
    DTYPES,
    LAYERS,
    assert_near,
    both,
    build,
    differentiated,
    errors,
    infos,
    samples,
    some,
    table,
)
from unspool.layers import AcceleratedGRU, AcceleratedLSTM, AcceleratedRNN

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

ACCELERATED: dict[str, Any] = {"nn.RNN": AcceleratedRNN, "nn.LSTM": AcceleratedLSTM, "nn.GRU": AcceleratedGRU}
F64 = torch.float64

CHECKS = {
    "test_forward": "test_forward",
    "test_factory_kwargs": "test_arguments_for_new_parameters",
    "test_multiple_device_transfer": "needs a GPU beside the CPU; what moving does to a module is PyTorch's code",
    "test_repr": "test_printing",
    "test_save_load": "test_state_dicts_through_a_file",
    "test_pickle": "test_whole_modules_through_a_file",
    "test_check_inplace": "recurrent modules have no argument `inplace`",
    "test_non_contiguous_tensors": "test_tensors_that_are_not_contiguous",
    "test_grad": "test_first_and_second_derivatives",
    "test_gradgrad": "test_first_and_second_derivatives",
    "test_cpu_gpu_parity": "needs a GPU; the conformance tests compare backends",
    "test_memory_format": "test_memory_format",
    "test_if_train_and_eval_modes_differ": "test_training_and_evaluation_are_one_without_dropout",
    "test_device_ctx_init": "test_modules_without_memory",
    "test_errors": "test_what_torch_refuses",
    "test_to": "test_changes_of_dtype",
    "test_to_empty": "test_modules_without_memory",
}
"""PyTorch's checks of modules: the test here that does the same, or why there is none."""

DECORATORS = {
    ("TestModule", "test_grad", "cuda"): "cuDNN's kernel cannot be batched; not ours, and not the CPU's",
    ("TestModule", "test_gradgrad", "cuda"): "cuDNN has no second derivative; not ours, and not the CPU's",
    ("TestModule", "test_non_contiguous_tensors", "cuda"): "cuDNN and MIOpen want a contiguous state; the CPU does not",
    (None, None, None): "PyTorch's MPS backend has no projections; there is no MPS backend here",
}
"""By class, test and device, why an exception that PyTorch makes for its modules means nothing here."""

layers = pytest.mark.parametrize("name", LAYERS)
cells = pytest.mark.parametrize("name", CELLS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def test_the_table_is_covered():
    assert infos().keys() == LAYERS.keys() | CELLS.keys()
    for name, info in infos().items():
        assert info.module_cls is (LAYERS | CELLS)[name]
        assert tuple(info.dtypes) == DTYPES, "half precision has cases now: compare them too"
        assert info.supports_gradgrad
        assert not info.module_memformat_affects_out
        assert samples(name, F64)
        assert errors(name, F64)


def test_every_exception_that_torch_makes_has_its_reason():
    found = {
        (getattr(d, "cls_name", None), getattr(d, "test_name", None), getattr(d, "device_type", None))
        for info in infos().values()
        for d in info.decorators
    }
    assert found == DECORATORS.keys()


def test_every_check_of_torch_is_done_or_has_its_reason():
    for check, here in CHECKS.items():
        assert check.startswith("test_")
        assert callable(globals().get(here)) or (not here.startswith("test_") and " " in here), check


def test_the_table_leaves_the_process_as_it_was():
    from hypothesis import settings

    profile = settings.get_current_profile_name()
    table()
    assert settings.get_current_profile_name() == profile
    assert not torch.backends.flags_frozen()


@dtypes
@layers
def test_forward(name, dtype):
    """Values, states, gradients of all that has one, and PyTorch's own reference where a case has one.

    The dtypes take turns. Some of them in evaluation mode too: another test compares the modes.
    """
    for k, sample in enumerate(some(name, dtype, requires_grad=True)[DTYPES.index(dtype) :: len(DTYPES)]):
        ours, theirs = both(name, sample, dtype)
        assert type(ours) is ACCELERATED[name]
        assert type(theirs) is LAYERS[name]
        for training in (True, False)[: 1 if k % 3 else 2]:
            ours.train(training)
            theirs.train(training)
            assert_near(differentiated(ours, sample), differentiated(theirs, sample), sample)
            if sample.reference is not None:
                arguments, options = sample.called
                expected = sample.reference(theirs, *arguments, **options)
                actual = ours(*arguments, **options)
                assert pytree.tree_structure(actual) == pytree.tree_structure(expected)
                assert_near(pytree.tree_leaves(actual), pytree.tree_leaves(expected), sample)


@pytest.mark.parametrize("name", ["nn.RNN", "nn.GRU"])
def test_packed_sequences(name):
    """The table has packed cases too, which PyTorch leaves out of its own tests: they have no reference."""
    info, count = infos()[name], 0
    found = info.module_inputs_func(
        info, device="cpu", dtype=F64, requires_grad=True, training=True, with_packed_sequence=True
    )
    for module_input in found:
        (packed, *_), options = module_input.forward_input.args, module_input.forward_input.kwargs
        if not isinstance(packed, PackedSequence):
            continue
        count += 1
        theirs = info.module_cls(*module_input.constructor_input.args, **module_input.constructor_input.kwargs).to(F64)
        results = []
        for module in (us.accelerate(theirs, copy=True, backend="native"), theirs):
            output, state = module(packed, **options)
            assert isinstance(output, PackedSequence)
            loss = output.data.sum() + state.square().sum()
            results.append([output.data, state, *torch.autograd.grad(loss, [packed.data, *module.parameters()])])
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)
    assert count


@layers
def test_each_parameter_alone(name):
    """A gradient of one parameter where all others are frozen."""
    for sample in some(name, F64, requires_grad=True)[::2]:
        ours, theirs = both(name, sample, F64)
        for trained, _ in theirs.named_parameters():
            for module in (ours, theirs):
                for other, parameter in module.named_parameters():
                    parameter.requires_grad_(other == trained)
            assert_near(differentiated(ours, sample), differentiated(theirs, sample), sample)


@layers
def test_first_and_second_derivatives(name):
    for k, sample in enumerate(some(name, F64, requires_grad=True)[::2]):
        ours, _ = both(name, sample, F64)
        arguments, options = sample.called
        leaves, spec = pytree.tree_flatten(arguments)
        assert not options

        def call(*tensors, ours=ours, spec=spec):
            # The parameters among the tensors are the module's own: they are changed in place.
            inputs = list(tensors[: spec.num_leaves])
            return tuple(pytree.tree_leaves(ours(*pytree.tree_unflatten(inputs, spec))))

        tensors = (*leaves, *ours.parameters())
        assert torch.autograd.gradcheck(call, tensors, fast_mode=True), sample
        if k % 2 == 0:
            assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True), sample


@dtypes
@layers
def test_arguments_for_new_parameters(name, dtype):
    for sample in some(name, dtype)[::2]:
        arguments, options = sample.built
        module = ACCELERATED[name](*arguments, **options, device="cpu", dtype=dtype)
        us.accelerate(module, backend="native")
        assert {(p.device.type, p.dtype) for p in module.parameters()} == {("cpu", dtype)}
        theirs = LAYERS[name](*arguments, **options, dtype=dtype)
        theirs.load_state_dict(module.state_dict())
        assert_near(differentiated(module, sample), differentiated(theirs, sample), sample)


@layers
def test_printing(name):
    for sample in samples(name, F64):
        ours, theirs = both(name, sample, F64)
        assert repr(ours) == str(ours) == f"Accelerated{theirs!r}"


@layers
def test_state_dicts_through_a_file(name):
    for sample in some(name, F64)[::2]:
        ours, theirs = both(name, sample, F64)
        file = io.BytesIO()
        torch.save(ours.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        for other in (build(name, sample, F64), us.accelerate(build(name, sample, F64))):
            other.load_state_dict(loaded, strict=True)
            assert_near(differentiated(other, sample), differentiated(theirs, sample), sample)


@layers
def test_whole_modules_through_a_file(name):
    for sample in some(name, F64)[::2]:
        ours, theirs = both(name, sample, F64)
        file = io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert type(loaded) is type(ours)
        assert_near(differentiated(loaded, sample), differentiated(theirs, sample), sample)


@layers
def test_tensors_that_are_not_contiguous(name):
    def spread(leaf: Tensor) -> Tensor:
        return leaf.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_(leaf.requires_grad)

    for sample in some(name, F64, requires_grad=True):
        ours, theirs = both(name, sample, F64)
        (arguments, options), expected = sample.called, differentiated(theirs, sample)
        arguments = pytree.tree_map_only(Tensor, spread, arguments)
        assert not options
        assert not any(leaf.is_contiguous() for leaf in pytree.tree_leaves(arguments))
        outputs = pytree.tree_leaves(ours(*arguments))
        assert_near(outputs, expected[: len(outputs)], sample)
        # The loss of `differentiated`, through gradients that are not contiguous either.
        weights = torch.linspace(-1, 1, sum(leaf.numel() for leaf in outputs), dtype=F64)
        pieces = weights.split([leaf.numel() for leaf in outputs])
        given = [spread(piece.view(leaf.shape)) for piece, leaf in zip(pieces, outputs, strict=True)]
        wanted = [*pytree.tree_leaves(arguments), *ours.parameters()]
        assert_near(list(torch.autograd.grad(outputs, wanted, given)), expected[len(outputs) :], sample)


@layers
def test_memory_format(name):
    for sample in some(name, F64)[::2]:
        ours, theirs = both(name, sample, F64)
        assert max(leaf.dim() for leaf in pytree.tree_leaves(sample.called)) < 4, "channels_last would apply"
        ours.to(memory_format=torch.contiguous_format)
        arguments, options = sample.called
        assert all(leaf.is_contiguous() for leaf in pytree.tree_leaves(ours(*arguments, **options)))
        assert_near(differentiated(ours, sample), differentiated(theirs, sample), sample)


@layers
def test_training_and_evaluation_are_one_without_dropout(name):
    assert infos()[name].train_and_eval_differ
    for sample in some(name, F64):
        ours, _ = both(name, sample, F64)
        arguments, options = sample.called
        trained, evaluated = (pytree.tree_leaves(ours.train(mode)(*arguments, **options)) for mode in (True, False))
        assert all(torch.equal(a, b) for a, b in zip(trained, evaluated, strict=True))


@layers
def test_modules_without_memory(name):
    for sample in some(name, torch.float32)[::2]:
        arguments, options = sample.built
        with torch.device("meta"):
            empty = us.accelerate(LAYERS[name](*arguments, **options), backend="native")
        theirs = build(name, sample, torch.float32)
        for p, q in zip(empty.parameters(), theirs.parameters(), strict=True):
            assert p.is_meta
            assert (p.shape, p.dtype, p.stride()) == (q.shape, q.dtype, q.stride())
        empty.to_empty(device="cpu").load_state_dict(theirs.state_dict())
        assert_near(differentiated(empty, sample), differentiated(theirs, sample), sample)


@layers
def test_changes_of_dtype(name):
    for sample in some(name, F64, requires_grad=True)[::2]:
        ours, theirs = both(name, sample, F64)
        for change in (nn.Module.float, nn.Module.double, lambda module: module.to("cpu", F64)):
            change(ours)
            change(theirs)
        assert_near(differentiated(ours, sample), differentiated(theirs, sample), sample)


@dtypes
@layers
def test_what_torch_refuses(name, dtype):
    """The same type of error, in the same words."""
    modes = table().ModuleErrorEnum
    for case in errors(name, dtype):
        wrong = case.module_error_input
        arguments, options = wrong.constructor_input.args, wrong.constructor_input.kwargs
        if case.error_on is modes.CONSTRUCTION_ERROR:
            with pytest.raises(case.error_type, match=case.error_regex):
                ACCELERATED[name](*arguments, **options)
            continue
        module = us.accelerate(LAYERS[name](*arguments, **options), backend="native")
        with pytest.raises(case.error_type, match=case.error_regex):
            module(*wrong.forward_input.args, **wrong.forward_input.kwargs)


@dtypes
@cells
def test_cells_stay_what_they_are(name, dtype):
    for sample in samples(name, dtype, requires_grad=True):
        theirs = build(name, sample, dtype)
        expected = differentiated(theirs, sample)
        with pytest.warns(UserWarning, match=r"unspool\.RNN\(cell\)"):
            assert us.accelerate(theirs) is theirs
        assert type(theirs) is CELLS[name]
        assert_near(differentiated(theirs, sample), expected, sample)


@dtypes
@cells
def test_cells_run_over_one_step(name, dtype):
    """A cell run over a sequence of one step gives what the cell gives, as a layer and as a function."""
    for sample in samples(name, dtype, requires_grad=True):
        theirs = build(name, sample, dtype)
        layer = us.RNN(theirs)

        def as_layer(x, state, layer=layer):
            _, final = layer(x[None, None], pytree.tree_map(lambda leaf: leaf[None], state))
            return pytree.tree_map(lambda leaf: leaf[0], tuple(final) if isinstance(final, tuple) else final)

        def as_function(x, state, cell=theirs):
            start = pytree.tree_map(lambda leaf: leaf[None], state)
            outputs, final = us.dynamic_rnn(cell, x[None, None], initial_state=start)
            h = final[0] if isinstance(final, tuple) else final
            assert torch.equal(outputs[0], h)
            return pytree.tree_map(lambda leaf: leaf[0], tuple(final) if isinstance(final, tuple) else final)

        for run in (as_layer, as_function):
            actual = differentiated(run, sample, list(theirs.parameters()))
            assert_near(actual, differentiated(theirs, sample), sample)


@cells
def test_what_cells_refuse_is_refused_over_time(name):
    for case in errors(name, F64):
        wrong = case.module_error_input
        cell = CELLS[name](*wrong.constructor_input.args, **wrong.constructor_input.kwargs).to(F64)
        x, state = (pytree.tree_map(lambda leaf: leaf.to(F64), part) for part in wrong.forward_input.args)
        with pytest.raises(case.error_type, match=case.error_regex):
            cell(x, state)
        with pytest.raises((ValueError, RuntimeError), match=r"expected|got"):
            us.dynamic_rnn(cell, x[:, None], initial_state=state)
