"""What the executions take, and what they refuse.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conformance.oracle import leaves_of
from tests.conformance.runs import time_first
from tests.conformance.user_cells import ProbeCell, TokenCell
from tests.refusal import refused
from unspool import (
    RNN,
    Bidirectional,
    GRUCell,
    LSTMCell,
    LSTMState,
    RaggedBatch,
    bidirectional_dynamic_rnn,
    dynamic_rnn,
    stack_bidirectional_dynamic_rnn,
    static_bidirectional_rnn,
    static_rnn,
)

B, T, I, H = 3, 5, 2, 4  # noqa: E741


@pytest.mark.parametrize("pad_output", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["none", "lengths", "mask", "resets"])
def test_the_default_device_does_not_matter(name: str, reverse: bool, pad_output: str):
    table = torch.rand(B, T) > 0.5
    arguments: dict[str, Any] = {
        "none": {},
        "lengths": {"lengths": [5, 0, 2]},
        "mask": {"mask": table.tolist()},
        "resets": {"lengths": [5, 0, 2], "resets": table},
    }[name]
    layer = RNN(LSTMCell(I, H), batch_first=True, reverse=reverse, pad_output=pad_output, backend="reference")
    x = torch.randn(B, T, I)
    outputs, (h, c) = layer(x, **arguments)
    with torch.device("meta"):
        same, (same_h, same_c) = layer(x, **arguments)
    assert torch.equal(outputs, same)
    assert torch.equal(h, same_h)
    assert torch.equal(c, same_c)


def test_the_default_device_does_not_matter_to_ragged_and_packed_batches():
    batch = RaggedBatch(torch.randn(7, I), torch.tensor([5, 2]), None, torch.arange(2))
    packed = batch.to_packed()
    layer = RNN(LSTMCell(I, H), reverse=True, backend="reference")
    outputs, _ = layer(batch)
    with torch.device("meta"):
        ragged, _ = layer(batch)
        repacked, _ = layer(packed)
        in_order, _ = layer(packed._replace(sorted_indices=None, unsorted_indices=None))
    assert torch.equal(outputs.values, ragged.values)
    assert torch.equal(outputs.to_packed().data, repacked.data)
    assert torch.equal(outputs.to_packed().data, in_order.data)


Execution = Callable[..., Any]


def over_steps(run: Execution) -> Execution:
    """Let a static execution take a tensor [B, T, I]."""

    def wrapped(*cells_and_inputs: Any, **options: Any) -> Any:
        *cells, inputs = cells_and_inputs
        return run(*cells, list(inputs.unbind(1)), **time_first(options))

    return wrapped


def in_both_directions(run: Execution) -> Execution:
    def wrapped(cell: Any, inputs: Any, **options: Any) -> Any:
        if "initial_state" in options:
            options["initial_state_bw"] = options.pop("initial_state")
        return run(cell, cell, inputs, **options)

    return wrapped


def through_a_layer(cell: Any, inputs: Any, **options: Any) -> Any:
    build = {name: options.pop(name) for name in ("pad_output", "backend") if name in options}
    call = {{"sequence_length": "lengths", "initial_state": "hx"}.get(name, name): v for name, v in options.items()}
    return RNN(cell, batch_first=True, **build)(inputs, **call)


EXECUTIONS: dict[str, Execution] = {
    "dynamic_rnn": dynamic_rnn,
    "static_rnn": over_steps(static_rnn),
    "bidirectional_dynamic_rnn": in_both_directions(bidirectional_dynamic_rnn),
    "static_bidirectional_rnn": in_both_directions(over_steps(static_bidirectional_rnn)),
    "stack_bidirectional_dynamic_rnn": lambda cell, inputs, **options: stack_bidirectional_dynamic_rnn(
        [cell], [cell], inputs, **{k.replace("initial_state", "initial_states_fw"): v for k, v in options.items()}
    ),
    "RNN": through_a_layer,
}

in_every_execution = pytest.mark.parametrize("run", EXECUTIONS.values(), ids=EXECUTIONS)

GOOD_LENGTHS: list[Any] = [
    [5, 0, 2],
    (5, 0, 2),
    torch.tensor([5, 0, 2]),
    torch.tensor([5, 0, 2], dtype=torch.int8),
    torch.tensor([5, 0, 2], dtype=torch.uint8),
    np.array([5, 0, 2]),
    np.array([5, 0, 2], dtype=np.int32),
    np.array([2, 0, 5])[::-1],
    np.broadcast_to(np.array(5), (3,)),
    [np.int64(5), np.int64(0), np.int64(2)],
    [torch.tensor(5), torch.tensor(0), torch.tensor(2)],
    range(3),
]


@in_every_execution
def test_lengths_may_be_tensors_arrays_and_lists(run):
    cell, x = LSTMCell(I, H), torch.randn(B, T, I)
    for lengths in GOOD_LENGTHS:
        expected = run(cell, x, sequence_length=torch.tensor([int(n) for n in lengths]))
        torch.testing.assert_close(run(cell, x, sequence_length=lengths), expected, rtol=0, atol=0)


def test_lengths_are_not_changed_and_not_kept():
    lengths = torch.tensor([5, 0, 2])
    cell, x = LSTMCell(I, H), torch.randn(B, T, I)
    outputs, _ = dynamic_rnn(cell, x, lengths)
    before = outputs.clone()
    assert lengths.tolist() == [5, 0, 2]
    lengths.fill_(1)
    assert torch.equal(outputs, before)


GOOD_MASKS: list[Any] = [
    torch.tensor([[1, 0, 1, 1, 0]] * B).bool(),
    np.array([[1, 0, 1, 1, 0]] * B).astype(bool),
    np.array([[0, 1, 1, 0, 1]] * B).astype(bool)[:, ::-1],
    np.broadcast_to(np.array([True, False, True, True, False]), (B, T)),
    [[True, False, True, True, False]] * B,
]


@in_every_execution
def test_masks_and_resets_may_be_tensors_arrays_and_lists(run):
    cell, x = LSTMCell(I, H), torch.randn(B, T, I)
    for name in ("mask", "resets"):
        plain, *others = [run(cell, x, **{name: mask}) for mask in GOOD_MASKS]
        for other in others:
            torch.testing.assert_close(other, plain, rtol=0, atol=0)


WRONG: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({"sequence_length": [5, -1, 2]}, ValueError, ("sequence_length[1] is -1", "in [0, 5]", "cut the row or pad")),
    ({"sequence_length": [5, 1, 6]}, ValueError, ("sequence_length[2] is 6", "integers of shape [3] (batch)")),
    ({"sequence_length": [5, 1]}, ValueError, ("sequence_length has shape [2]", "shape [3]", "one length per row")),
    ({"sequence_length": [[5, 1, 2]]}, ValueError, ("sequence_length has shape [1, 3]", "expected integers")),
    ({"sequence_length": 5}, ValueError, ("sequence_length has shape []", "Give one length per row")),
    ({"sequence_length": []}, ValueError, ("sequence_length has shape [0]", "expected integers of shape [3]")),
    ({"sequence_length": [5.0, 1.0, 2.0]}, TypeError, ("dtype torch.float32", "expected integers", ".long()")),
    ({"sequence_length": [True, False, True]}, TypeError, ("dtype torch.bool", "expected integers")),
    ({"sequence_length": torch.zeros(B, H)}, TypeError, ("dtype torch.float32", "states are arguments of their own")),
    ({"sequence_length": torch.ones(B, T).bool()}, TypeError, ("dtype torch.bool", "Masks and states are arguments")),
    ({"sequence_length": (torch.zeros(B, H),) * 2}, TypeError, ("is ([3, 4], [3, 4])", "an argument of its own")),
    ({"sequence_length": [1, 2, 3, 3, 3]}, ValueError, ("has shape [5]", "the other one: batch_first=, time_major=")),
    ({"sequence_length": [5, None, 2]}, TypeError, ("sequence_length is list", "cannot be read as a tensor")),
    (
        {"sequence_length": np.array([2**64 - 1, 1, 2], np.uint64)},
        ValueError,
        ("[0] is 18446744073709551615", "[0, 5]"),
    ),
    ({"sequence_length": torch.tensor([5, 1, 2]).to_sparse()}, TypeError, ("is a torch.sparse_coo tensor", "dense")),
    ({"sequence_length": torch.ones(3).long().to("meta")}, TypeError, ("is a meta tensor", "one that has values")),
    ({"sequence_length": "512"}, TypeError, ("sequence_length is str", "expected a tensor, an array or a list")),
    ({"mask": torch.ones(B, T)}, TypeError, ("mask has dtype torch.float32", "expected booleans", ".bool()")),
    (
        {"mask": torch.ones(T, B).bool()},
        ValueError,
        ("mask has shape [", "expected booleans of shape [", "the layout of the inputs", "Transpose it: mask.t()"),
    ),
    ({"mask": torch.ones(B, T).bool().to("meta")}, TypeError, ("mask is a meta tensor", "one that has values")),
    ({"mask": [[True] * T] * 2}, ValueError, ("mask has shape [", "expected booleans of shape [", "Give one value")),
    ({"mask": [[True], [True, False]]}, TypeError, ("mask is list", "cannot be read as a tensor")),
    ({"resets": torch.ones(B, T).long()}, TypeError, ("resets has dtype torch.int64", "expected booleans")),
    (
        {"resets": torch.ones(B).bool()},
        ValueError,
        ("resets has shape [3]", "the layout of the inputs", "Give one value"),
    ),
    ({"pad_output": "same"}, ValueError, ("pad_output is 'same'", "expected 'zero' or 'repeat'")),
    ({"backend": "warp"}, ValueError, ("backend is 'warp'", "expected one of 'auto'", "'reference'")),
]


@pytest.mark.parametrize(("options", "error", "parts"), WRONG)
@in_every_execution
def test_wrong_lengths_masks_and_options_are_refused_before_any_computation(run, options, error, parts):
    cell = ProbeCell()
    if run is through_a_layer:  # which calls them otherwise
        parts = [part.replace("sequence_length", "lengths") for part in parts]
    with refused(error, *parts):
        run(cell, torch.zeros(B, T, 2), **options)
    assert not cell.calls


@in_every_execution
def test_wrong_initial_states_are_refused(run):
    cell, x = LSTMCell(I, H), torch.zeros(B, T, I)
    stacked = run is EXECUTIONS["stack_bidirectional_dynamic_rnn"]
    in_both = run in (EXECUTIONS["bidirectional_dynamic_rnn"], EXECUTIONS["static_bidirectional_rnn"])
    name = "hx" if run is through_a_layer else "initial_state"
    name += "_bw" if in_both else "_fw" if stacked else ""

    def given(state: Any) -> Any:
        return {"initial_state": [state] if stacked else state}

    with refused(ValueError, f"{name} has the structure [3, 4]", "expected LSTMState(h=[3, 4], c=[3, 4])"):
        run(cell, x, **given(torch.zeros(B, H)))
    with refused(ValueError, f"{name} has the shapes", "[1, 4]", "expected LSTMState(h=[3, 4], c=[3, 4])"):
        run(cell, x, **given((torch.zeros(B, H), torch.zeros(1, H))))
    with refused(TypeError, f"{name} has dtype torch.float64", "expected torch.float32"):
        run(cell, x, **given(LSTMState(torch.zeros(B, H).double(), torch.zeros(B, H))))
    with refused(ValueError, f"{name} is on meta", "expected cpu", "Move it"):
        run(cell, x, **given(LSTMState(torch.zeros(B, H, device="meta"), torch.zeros(B, H, device="meta"))))


@in_every_execution
def test_what_is_no_cell_is_refused(run):
    with refused(TypeError, "is Linear", "expected a cell", "Add the method initial_state"):
        run(nn.Linear(I, H), torch.zeros(B, T, I))


@in_every_execution
def test_features_that_do_not_fit_the_cell_are_refused(run):
    with refused(ValueError, "LSTMCell received an input of shape [3, 3]", "expected a tensor [B, 2]"):
        run(LSTMCell(I, H), torch.zeros(B, T, I + 1))
    with refused(TypeError, "dtype torch.float64", "expected torch.float32", ".to(torch.float32)"):
        run(LSTMCell(I, H), torch.zeros(B, T, I).double())


def test_the_features_are_checked_even_where_no_step_is_real():
    with refused(ValueError, "LSTMCell received an input of shape [1, 3]", "expected a tensor [B, 2]"):
        dynamic_rnn(LSTMCell(I, H), torch.zeros(B, T, I + 1), [0, 0, 0])


WRONG_INPUTS: list[tuple[Any, type[Exception], tuple[str, ...]]] = [
    (
        torch.zeros(3),
        ValueError,
        ("inputs has shape [3]", "expected [B, T, ...] (time_major=False)", "Add the missing"),
    ),
    (None, TypeError, ("inputs is NoneType None", "expected a tensor")),
    (np.zeros((B, T, I)), TypeError, ("inputs is ndarray", "expected a tensor")),
    ([], ValueError, ("inputs is []", "holds no tensor", "expected at least one of shape [B, T, ...]")),
    ({"a": torch.zeros(B, T, 1), "b": 0.5}, TypeError, ("inputs['b'] is float 0.5", "expected a tensor")),
    (
        (torch.zeros(B, T, 1), torch.zeros(B, T + 1, 1)),
        ValueError,
        ("inputs[1] has shape [3, 6, 1]", "inputs[0] [3, 5, 1]", "expected the same first two axes"),
    ),
    (
        {"a": torch.zeros(B, T), "b": torch.zeros(B, T, device="meta")},
        ValueError,
        ("inputs['b'] is on meta", "inputs['a'] on cpu", "expected one device"),
    ),
    (
        torch.nested.nested_tensor([torch.zeros(3, I), torch.zeros(2, I)], layout=torch.jagged),
        TypeError,
        ("inputs is a nested tensor", "expected padded tensors and their lengths", "to_padded_tensor"),
    ),
    (
        nn.utils.rnn.pack_sequence([torch.zeros(3, I), torch.zeros(2, I)]),
        TypeError,
        ("inputs is a PackedSequence", "expected padded tensors and their lengths", "pad_packed_sequence"),
    ),
]


@pytest.mark.parametrize(("inputs", "error", "parts"), WRONG_INPUTS)
def test_wrong_inputs_are_refused(inputs, error, parts):
    with refused(error, *parts):
        dynamic_rnn(ProbeCell(), inputs)


def test_the_layout_is_named_in_errors():
    with refused(ValueError, "inputs has shape [3]", "expected [T, B, ...] (time_major=True)"):
        dynamic_rnn(ProbeCell(), torch.zeros(3), time_major=True)
    flags = torch.ones(B, T).bool()
    with refused(ValueError, "mask has shape [5, 3]", "[3, 5] (batch, time), the layout of the inputs", "mask.t()"):
        dynamic_rnn(ProbeCell(), torch.zeros(B, T, 2), mask=flags.t())
    runs: list[Callable[..., Any]] = [
        lambda **options: dynamic_rnn(ProbeCell(), torch.zeros(T, B, 2), time_major=True, **options),
        lambda **options: static_rnn(ProbeCell(), [torch.zeros(B, 2)] * T, **options),
        lambda **options: RNN(ProbeCell())(torch.zeros(T, B, 2), **options),
    ]
    for run in runs:
        for name in ("mask", "resets"):  # the form of first versions, which is told what has changed
            parts = "[5, 3] (time, batch), the layout of the inputs", f"{name}.t()", "First versions took [batch, time]"
            with refused(ValueError, f"{name} has shape [3, 5]", *parts):
                run(**{name: flags})


def test_mask_and_resets_have_the_layout_of_the_inputs_where_there_are_as_many_steps_as_rows():
    torch.manual_seed(0)
    cell, x = GRUCell(I, H), torch.randn(B, B, I)
    mask, resets = torch.rand(2, B, B) > 0.4
    assert not torch.equal(mask, mask.t())
    expected, state = dynamic_rnn(cell, x, mask=mask, resets=resets)
    flags: dict[str, Any] = {"mask": mask.t(), "resets": resets.t()}
    by_time, final = dynamic_rnn(cell, x.transpose(0, 1), time_major=True, **flags)
    assert torch.equal(by_time.transpose(0, 1), expected)
    assert torch.equal(final, state)
    steps, final = static_rnn(cell, list(x.unbind(1)), **flags)
    torch.testing.assert_close(torch.stack(steps, 1), expected)
    layer, first = RNN(cell), RNN(cell, batch_first=True)
    torch.testing.assert_close(layer(x.transpose(0, 1), **flags)[0].transpose(0, 1), expected)
    torch.testing.assert_close(first(x, mask=mask, resets=resets)[0], expected)
    both = Bidirectional(layer, RNN(cell, reverse=True))(x.transpose(0, 1), **flags)[0]
    torch.testing.assert_close(both[..., :H].transpose(0, 1), expected)


WRONG_LISTS: list[tuple[Any, type[Exception], tuple[str, ...]]] = [
    ([], ValueError, ("inputs is an empty list", "expected one input [B, I] per step, at least one step")),
    ((), ValueError, ("inputs is an empty list", "at least one step")),
    (torch.zeros(B, T, I), TypeError, ("inputs is [3, 5, 2]", "expected a list", "list(inputs.unbind(1))")),
    ((x for x in [torch.zeros(B, I)]), TypeError, ("inputs is generator", "or use dynamic_rnn")),
    ([torch.zeros(B, I), None], TypeError, ("inputs[1] is NoneType None", "expected a tensor")),
    ([torch.zeros(B, I), torch.zeros(B, I + 1)], ValueError, ("inputs[1] is [3, 3]", "inputs[0] is [3, 2]")),
    ([torch.zeros(B, I), torch.zeros(B, I).double()], ValueError, ("inputs[1] is [3, 2] float64", "same structure")),
    ([torch.zeros(B, I), torch.zeros(B, I, device="meta")], ValueError, ("inputs[1] is on meta and inputs[0] on cpu",)),
    ([torch.zeros(B, I), (torch.zeros(B, I),)], ValueError, ("inputs[1] is ([3, 2],)", "at every step")),
    ([torch.tensor(1.0)], ValueError, ("inputs has shape [1]", "expected [T, B, ...]")),
]


@pytest.mark.parametrize(("inputs", "error", "parts"), WRONG_LISTS)
def test_wrong_lists_of_steps_are_refused(inputs, error, parts):
    with refused(error, *parts):
        static_rnn(ProbeCell(), inputs)
    with refused(error, *parts):
        static_bidirectional_rnn(ProbeCell(), ProbeCell(), inputs)


def test_stacks_in_both_directions_must_be_of_one_height():
    a, b, x = GRUCell(I, H), GRUCell(2 * H, H), torch.zeros(B, T, I)
    with refused(ValueError, "cells_fw is empty", "expected one cell per layer"):
        stack_bidirectional_dynamic_rnn([], [], x)
    with refused(ValueError, "cells_bw has 1 entries", "expected 2, one per layer, as in cells_fw"):
        stack_bidirectional_dynamic_rnn([a, b], [a], x)
    with refused(ValueError, "initial_states_fw has 1 entries", "expected 2"):
        stack_bidirectional_dynamic_rnn([a, b], [a, b], x, initial_states_fw=[None])
    with refused(ValueError, "initial_states_bw has 3 entries", "expected 2"):
        stack_bidirectional_dynamic_rnn([a, b], [a, b], x, initial_states_bw=[None] * 3)
    outputs, states_fw, states_bw = stack_bidirectional_dynamic_rnn([a, b], [a, b], x, initial_states_fw=[None, None])
    assert outputs.shape == (B, T, 2 * H)
    assert (len(states_fw), len(states_bw)) == (2, 2)

    with refused(TypeError, "cells_fw is GRUCell", "expected a list with one cell per layer"):
        stack_bidirectional_dynamic_rnn(a, [a], x)  # type: ignore[arg-type]
    with refused(TypeError, "cells_bw[1] is Linear", "expected a cell"):
        stack_bidirectional_dynamic_rnn([a, b], [a, nn.Linear(I, H)], x)
    with refused(TypeError, "initial_states_bw is [1, 3, 4]", "expected a list with one state, or None, per layer"):
        stack_bidirectional_dynamic_rnn([a], [a], x, initial_states_bw=torch.zeros(1, B, H))  # type: ignore[arg-type]


DIRECTIONS = {
    "bidirectional_dynamic_rnn": bidirectional_dynamic_rnn,
    "static_bidirectional_rnn": over_steps(static_bidirectional_rnn),
    "ragged": lambda fw, bw, x, **options: bidirectional_dynamic_rnn(
        fw, bw, RaggedBatch(x.flatten(0, 1), torch.full((B,), T), None, torch.arange(B)), **options
    ),
}


@pytest.mark.parametrize("run", DIRECTIONS.values(), ids=DIRECTIONS)
def test_both_directions_are_checked_before_either_is_run(run):
    cell, x = ProbeCell(), torch.zeros(B, T, 2)
    with refused(TypeError, "cell_bw is Linear", "expected a cell"):
        run(cell, nn.Linear(2, 1), x)
    with refused(ValueError, "initial_state_bw has the shapes [1, 1]", "expected [3, 1]"):
        run(cell, cell, x, initial_state_bw=torch.zeros(1, 1))
    with refused(ValueError, "initial_state_fw has the structure ([3, 1],)", "expected [3, 1]"):
        run(cell, cell, x, initial_state_fw=(torch.zeros(B, 1),))
    assert not cell.calls


@pytest.mark.parametrize("run", [bidirectional_dynamic_rnn, static_bidirectional_rnn])
def test_a_packed_sequence_is_refused_before_the_states(run):
    packed, state = nn.utils.rnn.pack_sequence([torch.zeros(3, 2), torch.zeros(2, 2)]), torch.zeros(2, 1)
    with refused(TypeError, "inputs is ", "PackedSequence", "expected"):
        run(ProbeCell(), ProbeCell(), packed, initial_state_fw=state, initial_state_bw=state)


@pytest.mark.parametrize(
    "options",
    [{}, {"sequence_length": [5, 0, 2]}, {"mask": np.eye(B, T, dtype=bool), "resets": np.eye(B, T, dtype=bool)}],
    ids=["dense", "lengths", "mask and resets"],
)
def test_shapes_can_be_found_out_on_the_meta_device(options):
    cell, x = LSTMCell(I, H), torch.randn(B, T, I)
    expected = dynamic_rnn(cell, x, **options, return_all_states=True)
    found = dynamic_rnn(cell.to("meta"), x.to("meta"), **options, return_all_states=True)
    for a, b in zip(leaves_of(found), leaves_of(expected), strict=True):
        assert (a.shape, a.dtype, a.device.type) == (b.shape, b.dtype, "meta")


def test_token_ids_are_taken_as_they_are():
    cell = TokenCell(2, 3)
    outputs, _ = dynamic_rnn(cell, torch.tensor([[1, 2, 10]]))
    static, _ = static_rnn(cell, [torch.tensor([1]), torch.tensor([2]), torch.tensor([10])])
    assert torch.equal(outputs, torch.stack(static, 1))
    assert outputs.dtype == torch.float32


def test_the_state_starts_in_the_dtype_of_the_inputs():
    class KeepCell(ProbeCell):
        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return state, state

    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        outputs, final = dynamic_rnn(KeepCell(), torch.zeros(B, T, 2, dtype=dtype))
        assert outputs.dtype == dtype
        assert final.dtype == dtype
